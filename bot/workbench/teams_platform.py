"""A local Microsoft Teams: a real peer that sends signed activities to our door and serves the Bot Connector for us.

It has one team with a channel called Support, and a one-to-one chat with the assistant for every person. The app is
installed with the permission to read all messages of its channels, so every message is delivered, named or not.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import aiohttp
import structlog
from starlette.routing import Route

from bot.workbench.platform import LocalMessage, LocalPerson, LocalRoom, PressRefused
from bot.workbench.teams_identity import LocalIdentity
from bot.workbench.teams_service import ConnectorService, Faults
from bot.workbench.teams_state import CHANNEL, TEAM, Json, StoredMessage, TeamsState

BOT_NAME = "Countersign"
DELIVERY_TIMEOUT_SECONDS = 15.0
REDELIVERIES = 3
INSTALL_ATTEMPTS = 60
INSTALL_EVERY_SECONDS = 0.5
CARD = "application/vnd.microsoft.card.adaptive"
MESSAGE = "application/vnd.microsoft.activity.message"

_MENTION = re.compile(rf"@{BOT_NAME}\b", re.IGNORECASE)

logger = structlog.get_logger(__name__)


class LocalTeams:
    """Plays Teams for the workbench and for tests.

    teams = LocalTeams(app_id=..., messages_url="http://127.0.0.1:8080/api/messages",
                       base_url="http://127.0.0.1:8080/workbench/teams", ...)
    Mount("/workbench/teams", routes=teams.routes())
    await teams.start()
    """

    name = "teams"

    def __init__(
        self,
        *,
        app_id: str,
        app_password: str,
        tenant_id: str,
        private_key_pem: bytes,
        people: Sequence[LocalPerson],
        messages_url: str,
        base_url: str,
        state_file: Path | None = None,
    ) -> None:
        """`base_url` is where `routes()` are mounted, without a slash at the end."""
        self.openid_metadata = f"{base_url}/v1/.well-known/openidconfiguration"
        self.token_url = f"{base_url}/oauth2/v2.0/token"
        self.service_url = f"{base_url}/"
        self.identity = LocalIdentity(
            app_id=app_id, app_password=app_password, private_key_pem=private_key_pem, base_url=base_url
        )
        self.faults = Faults()
        self._tenant_id = tenant_id
        self._bot = {"id": f"28:{app_id}", "name": BOT_NAME}
        self._messages_url = messages_url
        self._people = list(people)
        self._state = TeamsState(people, state_file)
        self._service = ConnectorService(self.identity, self._state, self.faults, tenant_id)
        self._session: aiohttp.ClientSession | None = None
        self._installing: asyncio.Task[None] | None = None
        self._duplicates = 0

    def routes(self) -> list[Route]:
        """The Bot Connector, the token service and the published keys."""
        return self._service.routes()

    async def start(self) -> None:
        """Take up the stored messages, and tell the assistant where it is installed as soon as it listens."""
        await self._state.load()
        self._installing = asyncio.create_task(self._install_everywhere())

    async def close(self) -> None:
        """Stop, with everything on disk."""
        if self._installing is not None:
            self._installing.cancel()
            await asyncio.gather(self._installing, return_exceptions=True)
        await self._state.flush()
        if self._session is not None:
            await self._session.close()

    def people(self) -> Sequence[LocalPerson]:
        """Who can use it."""
        return self._people

    def assistant(self) -> LocalPerson:
        """The app's account."""
        return LocalPerson(self._bot["id"], BOT_NAME)

    def rooms(self, person: str) -> Sequence[LocalRoom]:
        """The channel and the person's own chat."""
        return self._state.rooms(person)

    def messages(self, room: str, person: str) -> Sequence[LocalMessage]:
        """What a person sees in a room, with their own version of cards."""
        return self._state.messages(room, person)

    def make_guest(self, person: str, *, guest: bool = True) -> None:
        """Turn a person into a guest of the organisation, or back."""
        (self._state.guests.add if guest else self._state.guests.discard)(person)

    def duplicate_next(self, count: int) -> None:
        """Deliver each of the next activities twice, as Teams does when it missed our answer."""
        self._duplicates = count

    async def say(self, person: str, room: str, text: str, thread: str | None = None) -> None:
        """Write a message and deliver it; what the assistant's door does not take is tried again a few times."""
        author = self._member(person, room)
        if room == CHANNEL and thread is not None and self._state.find(room, thread) is None:
            raise PressRefused("The conversation is gone.")
        written, entities = _mentioned(text, self._bot)
        activity = {"type": "message", "text": written, "textFormat": "plain", "entities": entities}
        message = self._state.add(
            room=room, thread=thread if room == CHANNEL else None, author=author, name="", activity=activity
        )
        envelope = self._envelope(author, room, message.thread or message.id)
        await self.deliver({**envelope, **activity, "id": message.id, "locale": "en-US"})

    async def edit(self, person: str, room: str, message: str, text: str) -> None:
        """Change a message the person wrote."""
        author = self._member(person, room)
        found = self._own(author, room, message)
        written, entities = _mentioned(text, self._bot)
        activity = {"type": "message", "text": written, "textFormat": "plain", "entities": entities}
        self._state.replace(found, activity)
        envelope = self._envelope(author, room, found.thread or found.id)
        channel_data = {**envelope["channelData"], "eventType": "editMessage"}
        await self.deliver(
            {**envelope, **activity, "type": "messageUpdate", "id": message, "channelData": channel_data}
        )

    async def press(self, person: str, room: str, message: str, action: Mapping[str, Any]) -> str | None:
        """Press an `Action.Execute`, given as `{"verb", "data", "inputs"}`."""
        author = self._member(person, room)
        pressed = self._state.find(room, message)
        if pressed is None:
            raise PressRefused("The message is gone.")
        data = {**dict(action.get("data") or {}), **dict(action.get("inputs") or {})}
        execute = {"type": "Action.Execute", "verb": str(action.get("verb") or ""), "data": data}
        envelope = self._envelope(author, room, pressed.thread or pressed.id)
        status, answer = await self.deliver(
            {
                **envelope,
                "type": "invoke",
                "id": f"f:{uuid.uuid4()}",
                "name": "adaptiveCard/action",
                "replyToId": message,
                "value": {"action": execute, "trigger": "manual"},
            }
        )
        return self._apply(pressed, person, status, answer)

    def modal(self, person: str) -> Mapping[str, Any] | None:
        """Teams shows forms inside the card; there is never a modal."""
        return None

    async def submit_modal(self, person: str, values: Mapping[str, str] | None) -> None:
        """There is no modal to submit."""
        raise PressRefused("Teams has no form open.")

    async def changes(self) -> AsyncIterator[str]:
        """Rooms as they change."""
        queue = self._state.watch()
        try:
            while True:
                yield await queue.get()
        finally:
            self._state.unwatch(queue)

    async def deliver(self, activity: Json, *, authorization: str | None = None) -> tuple[int, Any]:
        """Send an activity to the assistant, signed unless another header is given; its answer's status and JSON.

        Status 0 means that nobody answered. As Teams does, what was not taken is sent again.
        """
        header = authorization if authorization is not None else self.identity.bearer(self.service_url)
        status, answer = await self._send(activity, header)
        for attempt in range(REDELIVERIES):
            if status < 500 and status != 0 and status != 429:
                break
            await asyncio.sleep(0.2 * 2**attempt)
            status, answer = await self._send(activity, header)
        if self._duplicates > 0:
            self._duplicates -= 1
            await self._send(activity, header)
        if status != 200:
            logger.warning("local_teams_not_taken", status=status, type=activity.get("type"))
        return status, answer

    async def _send(self, activity: Json, header: str) -> tuple[int, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DELIVERY_TIMEOUT_SECONDS))
        headers = {"Authorization": header} if header else {}
        try:
            async with self._session.post(self._messages_url, json=activity, headers=headers) as response:
                if response.content_type == "application/json":
                    return response.status, await response.json()
                return response.status, None
        except (aiohttp.ClientError, TimeoutError):
            return 0, None

    def _apply(self, pressed: StoredMessage, person: str, status: int, answer: Any) -> str | None:
        """What Teams makes of the answer to a card's invoke (page on universal actions for Adaptive Cards)."""
        if status != 200 or not isinstance(answer, dict):
            raise PressRefused("Something went wrong. Please try again.")
        kind, value = answer.get("type"), answer.get("value")
        if kind == CARD and isinstance(value, dict):
            self._state.show_to(pressed, person, value)
            return None
        if kind == MESSAGE and isinstance(value, str):
            return value
        explained = value.get("message") if isinstance(value, dict) else None
        raise PressRefused(str(explained or "Something went wrong. Please try again."))

    async def _install_everywhere(self) -> None:
        """Report the installation in every room once, when the assistant's door is open."""
        for room in [CHANNEL, *self._state.chats]:
            if room in self._state.installed:
                continue
            for _ in range(INSTALL_ATTEMPTS):
                if (await self._install(room))[0] == 200:
                    self._state.installed.add(room)
                    self._state.note_change(room)
                    break
                await asyncio.sleep(INSTALL_EVERY_SECONDS)

    async def _install(self, room: str) -> tuple[int, Any]:
        person = self._state.people[self._state.chats.get(room, self._people[0].id)]
        envelope = self._envelope(person, room, None)
        added = {"type": "conversationUpdate", "id": f"f:{uuid.uuid4()}", "membersAdded": [self._bot]}
        return await self._send({**envelope, **added}, self.identity.bearer(self.service_url))

    def _envelope(self, person: LocalPerson, room: str, root: str | None) -> Json:
        conversation: Json = {"tenantId": self._tenant_id, "id": room, "conversationType": "personal"}
        channel_data: Json = {"tenant": {"id": self._tenant_id}}
        if room == CHANNEL:
            conversation |= {
                "id": room if root is None else f"{room};messageid={root}",
                "conversationType": "channel",
                "isGroup": True,
            }
            channel_data |= {"team": {"id": TEAM}, "channel": {"id": CHANNEL}, "teamsTeamId": TEAM}
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "channelId": "msteams",
            "serviceUrl": self.service_url,
            "timestamp": now,
            "from": {"id": f"29:{person.id}", "name": person.name, "aadObjectId": person.id},
            "recipient": self._bot,
            "conversation": conversation,
            "channelData": channel_data,
        }

    def _member(self, person: str, room: str) -> LocalPerson:
        if person not in self._state.people or not self._state.may_see(room, person):
            raise PressRefused("This person is not in this conversation.")
        return self._state.people[person]

    def _own(self, author: LocalPerson, room: str, message: str) -> StoredMessage:
        found = self._state.find(room, message)
        if found is None or found.author != author.id:
            raise PressRefused("This is not a message of theirs.")
        return found


def _mentioned(text: str, bot: Mapping[str, str]) -> tuple[str, list[Json]]:
    """The text with `@Countersign` as Teams writes a mention, and the mention's entity."""
    token = f"<at>{escape(bot['name'])}</at>"
    written, count = _MENTION.subn(token, text)
    entities: list[Json] = [{"type": "mention", "text": token, "mentioned": dict(bot)} for _ in range(count)]
    return written, entities
