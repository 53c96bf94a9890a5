"""Slack's payloads as Turns: who, where, what. Every identity comes from the signed envelope or from Slack's API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from bot.slack.directory import SlackDirectory, SlackPerson
from bot.slack.text import mentioned, readable
from handlers.turn import Click, Place, Sender, Turn, TurnKind
from records.inbox import InboxEvent

Payload = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CardSpot:
    """Where a card with buttons is; a modal opened from it carries this along in its private metadata."""

    channel: str
    message: str
    thread: str | None = None
    verb: str = ""
    nonce: str = ""

    def pack(self) -> str:
        """As a view's `private_metadata`."""
        return orjson.dumps([self.channel, self.message, self.thread, self.verb, self.nonce]).decode()

    @classmethod
    def unpack(cls, private_metadata: str) -> CardSpot:
        """Raises ValueError when the metadata is none of ours."""
        try:
            channel, message, thread, verb, nonce = orjson.loads(private_metadata)
        except (ValueError, TypeError) as error:
            raise ValueError("the modal is none of ours") from error
        if not all(isinstance(text, str) for text in (channel, message, thread or "", verb, nonce)):
            raise ValueError("the modal is none of ours")
        return cls(channel, message, thread, verb, nonce)


class SlackTurns:
    """Builds Turns. Every method may raise SlackCallFailed when somebody has to be looked up and cannot be.

    A deactivated person says nothing: their Turn is None.
    """

    def __init__(self, directory: SlackDirectory, allowed_teams: frozenset[str]) -> None:
        self._directory = directory
        self._allowed_teams = allowed_teams

    async def message(self, received: InboxEvent, body: Payload) -> Turn | None:
        """A direct message, or a mention in a channel, which is answered in a thread under it."""
        event: Payload = body["event"]
        channel, moment = str(event["channel"]), str(event["ts"])
        own_team = event.get("user_team") or event.get("source_team") or event.get("team")
        sender = await self._sender(body, str(event["user"]), own_team)
        if sender is None:
            return None
        direct = event.get("channel_type") == "im" or channel.startswith("D")
        thread = event.get("thread_ts")
        shared = body.get("is_ext_shared_channel")
        if direct:
            internal = not sender.is_external
        else:
            internal = not shared if isinstance(shared, bool) else await self._internal(channel)
        return Turn(
            id=received.id,
            kind=TurnKind.DIRECT if direct else TurnKind.MENTION,
            place=Place(
                surface="slack",
                tenant=_installed_team(body),
                conversation=channel,
                thread=str(thread) if thread else None if direct else moment,
                direct=direct,
                internal=internal,
            ),
            sender=sender,
            text=await self._words(str(event.get("text") or "")),
            received_at=received.received_at,
            message_id=moment,
        )

    async def command(self, received: InboxEvent, form: Payload) -> Turn | None:
        """A slash command."""
        sender = await self._sender(form, str(form["user_id"]), None)
        if sender is None:
            return None
        place = await self._place(form, str(form["channel_id"]), None, sender)
        return Turn(
            id=received.id,
            kind=TurnKind.COMMAND,
            place=place,
            sender=sender,
            text=await self._words(str(form.get("text") or "")),
            received_at=received.received_at,
        )

    async def click(
        self, received: InboxEvent, payload: Payload, spot: CardSpot, inputs: Mapping[str, str]
    ) -> Turn | None:
        """A press of the button that `spot` names, by the person of the envelope."""
        user = payload["user"]
        sender = await self._sender(payload, str(user["id"]), user.get("team_id"))
        if sender is None:
            return None
        return Turn(
            id=received.id,
            kind=TurnKind.CLICK,
            place=await self._place(payload, spot.channel, spot.thread, sender),
            sender=sender,
            text="",
            received_at=received.received_at,
            message_id=spot.message,
            click=Click(verb=spot.verb, nonce=spot.nonce, message_id=spot.message, inputs=inputs),
        )

    async def reachable(self, channel: str) -> bool:
        """Whether we may post there: not in a private channel, or in other people's direct messages, unless invited."""
        return (await self._directory.conversation(channel)).reachable

    async def _sender(self, body: Payload, user: str, own_team: object) -> Sender | None:
        person = await self._directory.person(user)
        if person.is_deleted:
            return None
        installed = _installed_team(body)
        teams = {own_team} if isinstance(own_team, str) and own_team else set()
        if person.team:
            teams.add(person.team)
        foreign = [team for team in sorted(teams) if not await self._is_ours(body, team, person)]
        return Sender(
            surface="slack",
            tenant=foreign[0] if foreign else installed,
            user=user,
            name=person.name,
            is_bot=person.is_bot,
            is_guest=person.is_guest,
            is_external=person.is_stranger or bool(foreign),
        )

    async def _is_ours(self, body: Payload, team: str, person: SlackPerson) -> bool:
        if team == _installed_team(body) or team in self._allowed_teams:
            return True
        ourselves = await self._directory.ourselves()
        return team == ourselves.team or (bool(person.enterprise) and person.enterprise == ourselves.enterprise)

    async def _place(self, body: Payload, channel: str, thread: str | None, sender: Sender) -> Place:
        conversation = await self._directory.conversation(channel)
        return Place(
            surface="slack",
            tenant=_installed_team(body),
            conversation=channel,
            thread=thread,
            direct=conversation.direct,
            internal=conversation.internal and not (conversation.direct and sender.is_external),
        )

    async def _internal(self, channel: str) -> bool:
        return (await self._directory.conversation(channel)).internal

    async def _words(self, text: str) -> str:
        ourselves = await self._directory.ourselves()
        names = await self._directory.names(mentioned(text) - {ourselves.user})
        return readable(text, names=names, ourselves=ourselves.user)


def _installed_team(body: Payload) -> str:
    """The workspace the request came through, or the enterprise where it names none."""
    authorizations = body.get("authorizations")
    if body.get("is_ext_shared_channel") is True and isinstance(authorizations, list) and authorizations:
        team = authorizations[0].get("team_id") or authorizations[0].get("enterprise_id")
    else:
        team = body.get("team_id") or _id(body.get("team")) or body.get("enterprise_id") or _id(body.get("enterprise"))
    user = body.get("user")
    return str(team or (user.get("team_id") if isinstance(user, dict) else "") or "")


def _id(owner: object) -> str:
    return str(owner.get("id") or "") if isinstance(owner, dict) else ""
