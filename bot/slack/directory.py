"""Who people are and where they write, as Slack itself says; remembered for ten minutes.

What Slack does not know is treated as foreign: it may read, it may not decide.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

from bot.slack.web_api import SlackCallFailed, SlackWebApi

REMEMBERED = timedelta(minutes=10)
"""How late a change in Slack (a person made guest, a channel shared) is noticed at most."""
_MOST_ENTRIES = 10_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ourselves:
    """The installation our token belongs to."""

    team: str
    enterprise: str
    bot: str
    user: str


@dataclass(frozen=True, slots=True)
class SlackPerson:
    """One user as `users.info` describes them."""

    id: str
    name: str
    team: str
    enterprise: str
    is_bot: bool
    is_guest: bool
    is_deleted: bool
    is_stranger: bool
    """Slack shares no workspace with them, or does not know them."""


@dataclass(frozen=True, slots=True)
class SlackConversation:
    """One conversation as `conversations.info` describes it."""

    id: str
    direct: bool
    internal: bool
    """No other organisation can read along."""
    reachable: bool
    """We may look into it; a private channel that we are no member of we may not."""


class SlackDirectory:
    """Looks up people and conversations.

    person = await directory.person("U1")
    """

    def __init__(self, api: SlackWebApi, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._ourselves: _Remembered[Ourselves] = _Remembered(clock)
        self._people: _Remembered[SlackPerson] = _Remembered(clock)
        self._conversations: _Remembered[SlackConversation] = _Remembered(clock)

    async def ourselves(self) -> Ourselves:
        """Our own ids; raises SlackCallFailed."""
        known = self._ourselves.get("")
        if known is None:
            answer = await self._api.call("auth.test", {})
            known = self._ourselves.put(
                "",
                Ourselves(
                    team=_text(answer, "team_id"),
                    enterprise=_text(answer, "enterprise_id"),
                    bot=_text(answer, "bot_id"),
                    user=_text(answer, "user_id"),
                ),
            )
        return known

    async def person(self, user: str) -> SlackPerson:
        """A user by id; one that Slack does not show us is a stranger. Raises SlackCallFailed otherwise."""
        known = self._people.get(user)
        if known is None:
            try:
                answer = await self._api.call("users.info", {"user": user})
            except SlackCallFailed as error:
                if error.code not in ("user_not_found", "user_not_visible"):
                    raise
                answer = {"user": {"is_stranger": True}}
            known = self._people.put(user, _person(user, answer.get("user")))
        return known

    async def conversation(self, channel: str) -> SlackConversation:
        """A conversation by id; raises SlackCallFailed unless Slack says that it is none of ours."""
        known = self._conversations.get(channel)
        if known is None:
            try:
                answer = await self._api.call("conversations.info", {"channel": channel})
            except SlackCallFailed as error:
                if error.code != "channel_not_found":
                    raise
                # Not remembered: somebody may invite us at any moment.
                return SlackConversation(channel, direct=False, internal=False, reachable=False)
            known = self._conversations.put(channel, _conversation(channel, answer.get("channel")))
        return known

    async def names(self, users: frozenset[str]) -> dict[str, str]:
        """Display names of the users that can be looked up; best effort."""

        async def name(user: str) -> tuple[str, str]:
            try:
                return user, (await self.person(user)).name
            except SlackCallFailed:
                return user, ""

        found = await asyncio.gather(*map(name, users))
        return {user: shown for user, shown in found if shown}


class _Remembered(Generic[T]):
    """Values by key, for a while, and not without end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, T]] = OrderedDict()

    def get(self, key: str) -> T | None:
        entry = self._entries.get(key)
        if entry is None or entry[0] < self._clock():
            return None
        return entry[1]

    def put(self, key: str, value: T) -> T:
        self._entries[key] = (self._clock() + REMEMBERED.total_seconds(), value)
        self._entries.move_to_end(key)
        if len(self._entries) > _MOST_ENTRIES:
            self._entries.popitem(last=False)
        return value


def _person(user: str, described: object) -> SlackPerson:
    fields: dict[str, Any] = described if isinstance(described, dict) else {"is_stranger": True}
    profile = fields.get("profile")
    display = _text(profile, "display_name") if isinstance(profile, dict) else ""
    enterprise = fields.get("enterprise_user")
    return SlackPerson(
        id=user,
        name=display or _text(fields, "real_name") or _text(fields, "name") or user,
        team=_text(fields, "team_id"),
        enterprise=_text(enterprise, "enterprise_id") if isinstance(enterprise, dict) else "",
        is_bot=bool(fields.get("is_bot")) or user == "USLACKBOT",
        is_guest=bool(fields.get("is_restricted") or fields.get("is_ultra_restricted")),
        is_deleted=bool(fields.get("deleted")),
        is_stranger=bool(fields.get("is_stranger")),
    )


def _conversation(channel: str, described: object) -> SlackConversation:
    fields: dict[str, Any] = described if isinstance(described, dict) else {"is_ext_shared": True}
    shared = (
        fields.get("is_ext_shared") or fields.get("is_pending_ext_shared") or fields.get("pending_connected_team_ids")
    )
    return SlackConversation(channel, direct=bool(fields.get("is_im")), internal=not shared, reachable=True)


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""
