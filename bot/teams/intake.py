"""What comes in from Teams: verify, store, acknowledge, then handle.

Invariant: an activity is acknowledged only after its inbox row is committed, and nothing unverified is stored. A button
press is answered within the request; a repetition of one gets the first one's answer and is never taken twice.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
import structlog
from botbuilder.core import ActivityHandler, InvokeResponse, TurnContext
from botbuilder.schema import Activity

from bot.intake import Intake
from bot.settings import TeamsSettings
from bot.teams import turns
from bot.teams.adaptive import CONTENT_TYPE, adaptive_card
from bot.teams.endpoint import TeamsEndpoint
from bot.teams.presses import Presses
from bot.teams.surface import TeamsSurface
from bot.teams.transport import Json, Malformed, Transport, invoke_error
from bot.teams.verification import Peer, Refused
from handlers.listener import Listener
from handlers.reply import ClickOutcome, Reply
from handlers.surface import SurfaceUnavailable
from handlers.turn import Sender, Turn, TurnKind
from records.database import Database
from records.inbox import Inbox, InboxEvent

CLICK_ANSWER_SECONDS = 8.0
"""Teams gives up on a card's invoke after about ten seconds; what takes longer is answered, and told afterwards."""
KEY_CHARACTERS = 255
"""What the inbox's unique key holds."""
_CARD_ACTION = "adaptiveCard/action"
_STORED = frozenset({"message", "conversationUpdate", "installationUpdate"})
"""Edits, reactions and deletions are outside input that asks nothing of us; they are acknowledged and dropped."""

logger = structlog.get_logger(__name__)


class TeamsDoor:
    """Everything that comes in from Teams.

    door = TeamsDoor(settings, surface, database, inbox, listener)
    Route("/api/messages", door.endpoint)
    """

    def __init__(
        self,
        settings: TeamsSettings,
        surface: TeamsSurface,
        database: Database,
        inbox: Inbox,
        listener: Listener,
        *,
        transport: Transport | None = None,
        answer_seconds: float = CLICK_ANSWER_SECONDS,
    ) -> None:
        self.intake = Intake("teams", database, inbox, self._handle)
        self.endpoint = TeamsEndpoint(self.take)
        self._transport = transport or Transport(settings, surface.connector)
        self._surface = surface
        self._listener = listener
        self._answer_seconds = answer_seconds
        self._presses = Presses()
        self._read: dict[str, Activity] = {}
        """Activities read for their check and about to be handled, by event id."""

    async def start(self) -> None:
        """Take up what was stored and not handled when the last process ended."""
        await self.intake.resume()

    async def close(self) -> None:
        """Let what is being handled end, then release what the door holds."""
        await self.intake.drain()
        await self._transport.close()

    async def take(self, body: bytes, auth_header: str, peer: Peer) -> tuple[int, Json | None]:
        """The HTTP status and body that answer one activity."""
        try:
            activity = self._transport.parse(body)
            await self._transport.verify(auth_header, activity, peer)
            read = self._transport.read(activity)
        except Malformed as problem:
            return 400, {"error": str(problem)}
        except Refused as refused:
            logger.info("teams_activity_refused", status=refused.status, reason=refused.reason)
            return refused.status, {"error": refused.reason}
        if read.type == "invoke":
            return 200, await self._take_press(read, body)
        if read.type in _STORED:
            event = await self._store(_unique_key(read, body), read, body)
            if event is not None:
                self.intake.start(event)
        return 200, None

    async def _take_press(self, read: Activity, body: bytes) -> Json:
        if read.name != _CARD_ACTION:
            return invoke_error(400, "NotSupported", "Countersign does not know this request.")
        try:
            turns.click(read)
        except turns.NotAClick as problem:
            return invoke_error(400, "BadRequest", f"This button is not one of Countersign's: {problem}.")
        key = _unique_key(read, body)
        event = await self._store(key, read, body)
        if event is not None:
            self._presses.open(key, event.id)
            self.intake.start(event)
        elif not self._presses.knows(key):
            return message_answer("This click was taken before; the card shows how it stands.")
        answer = await self._presses.wait(key, self._answer_seconds)
        if answer is None:
            return message_answer("Your click is recorded and still being worked on; you will be told how it ended.")
        return answer

    async def _store(self, key: str, read: Activity, body: bytes) -> InboxEvent | None:
        event = await self.intake.store(unique_key=key, kind="activity", body=body, headers={})
        if event is not None:
            self._read[event.id] = read
        return event

    async def _handle(self, event: InboxEvent) -> None:
        activity = self._read.pop(event.id, None) or self._transport.read(orjson.loads(event.body))
        handler = _Activities(self, event)
        try:
            response = await self._transport.run(activity, handler)
        except Exception:
            problem = "Your click is stored, but could not be taken just now. It will be tried again."
            self._presses.answer(event.id, invoke_error(500, "Unavailable", problem))
            raise
        if response is not None and not self._presses.answer(event.id, response) and handler.outcome is not None:
            # The request is long answered, or was another process's: the person is still owed the outcome.
            turn, outcome = handler.outcome
            await self._surface.tell_privately(turn.place, turn.sender, Reply.text(outcome.text))

    async def on_message(self, event: InboxEvent, activity: Activity) -> None:
        """Keep a message; hear it when it is for us."""
        where = turns.envelope(activity)
        await self._surface.conversations.learn(where.reference, where.account, turns.said(activity, where))
        kind = turns.addressed(activity, where)
        if kind is None:
            return
        await self._listener.hear(
            Turn(
                id=event.id,
                kind=kind,
                place=where.place,
                sender=await self._sender(activity, where),
                text=turns.message_text(activity),
                received_at=event.received_at,
                message_id=activity.id,
            )
        )

    async def on_installation(self, event: InboxEvent, activity: Activity) -> None:
        """Remember a conversation; greet where we were just added."""
        where = turns.envelope(activity)
        await self._surface.conversations.learn(where.reference, where.account)
        # An installation by policy names nobody; the first person to write is answered then.
        if not turns.adds_us(activity) or where.account is None:
            return
        if await self._surface.conversations.claim_greeting(where.reference, event.id):
            person = await self._sender(activity, where)
            await self._listener.hear(Turn(event.id, TurnKind.INSTALLED, where.place, person, "", event.received_at))

    async def on_click(self, event: InboxEvent, activity: Activity) -> tuple[Turn, ClickOutcome, Json]:
        """Take a button press; the turn, its outcome, and the answer to the request."""
        where = turns.envelope(activity)
        await self._surface.conversations.learn(where.reference, where.account)
        turn = Turn(
            id=event.id,
            kind=TurnKind.CLICK,
            place=where.place,
            sender=await self._sender(activity, where, fresh=True),
            text="",
            received_at=event.received_at,
            message_id=activity.id,
            click=turns.click(activity),
        )
        outcome = await self._listener.click(turn)
        return turn, outcome, await self._answer(turn, outcome)

    async def _answer(self, turn: Turn, outcome: ClickOutcome) -> Json:
        if outcome.dialog is not None:
            try:
                await self._surface.tell_privately(turn.place, turn.sender, Reply(card=outcome.dialog))
            except SurfaceUnavailable as error:
                logger.warning("teams_dialog_not_shown", reason=str(error))
                return message_answer(f"{outcome.text} It could not be sent to you just now; please try again.")
            if not turn.place.direct:
                return message_answer(f"{outcome.text} You find it in your own chat with Countersign.")
        if outcome.card is None:
            return message_answer(outcome.text)
        account = await self._surface.accounts_for(turn.place.tenant, Reply(card=outcome.card))
        return {"statusCode": 200, "type": CONTENT_TYPE, "value": adaptive_card(outcome.card, account=account)}

    async def _sender(self, activity: Activity, where: turns.Envelope, *, fresh: bool = False) -> Sender:
        account = activity.from_property
        standing = await self._surface.members.standing(
            tenant=where.place.tenant,
            person=account.aad_object_id or account.id,
            account=account.id,
            roster=where.roster,
            service_url=activity.service_url,
            fresh=fresh,
        )
        return turns.sender(activity, where.place.tenant, standing)


class _Activities(ActivityHandler):  # type: ignore[misc]
    """botbuilder's dispatch by activity type, for one event."""

    def __init__(self, door: TeamsDoor, event: InboxEvent) -> None:
        self._door = door
        self._event = event
        self.outcome: tuple[Turn, ClickOutcome] | None = None

    async def on_message_activity(self, turn_context: TurnContext) -> None:
        await self._door.on_message(self._event, turn_context.activity)

    async def on_conversation_update_activity(self, turn_context: TurnContext) -> None:
        await self._door.on_installation(self._event, turn_context.activity)

    async def on_installation_update(self, turn_context: TurnContext) -> None:
        await self._door.on_installation(self._event, turn_context.activity)

    async def on_invoke_activity(self, turn_context: TurnContext) -> InvokeResponse:
        turn, outcome, answer = await self._door.on_click(self._event, turn_context.activity)
        self.outcome = turn, outcome
        return InvokeResponse(status=200, body=answer)


def message_answer(text: str) -> Json:
    """A sentence Teams shows to the person who pressed."""
    return {"statusCode": 200, "type": "application/vnd.microsoft.activity.message", "value": text.strip()}


def _unique_key(activity: Activity, body: bytes) -> str:
    """`teams|tenant|conversation|activity id`, whatever its length; an event without an id is known by its content."""
    where = turns.envelope(activity)
    identity: Any = activity.id or hashlib.sha256(body).hexdigest()
    key = f"teams|{where.place.tenant}|{where.place.conversation}|{identity}"
    return key if len(key) <= KEY_CHARACTERS else f"teams|sha256|{hashlib.sha256(key.encode()).hexdigest()}"
