"""Presses of buttons and forms sent: each reaches the dialog as one Click, and each ends in something visible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from bot.slack.blocks import modal
from bot.slack.buttons import ask_modal, read_action_id, typed_values
from bot.slack.elements import Json
from bot.slack.surface import SlackSurface
from bot.slack.turns import CardSpot, Payload, SlackTurns
from bot.slack.web_api import SlackCallFailed
from handlers.card import Card
from handlers.listener import Listener
from handlers.reply import ClickOutcome, Reply
from handlers.turn import Place, Turn
from records.inbox import InboxEvent

NOT_OURS = "This button is not one of mine, or it is from an older version of me. Nothing was changed."
TOO_LATE = "Slack gave me three seconds to open the form and they were over. Nothing was changed: please press again."
NOT_YET = "I could not record that yet. I keep trying for a few minutes and tell you here."

logger = structlog.get_logger(__name__)


class SlackClicks:
    """Takes block actions and view submissions."""

    def __init__(self, surface: SlackSurface, turns: SlackTurns, listener: Listener) -> None:
        self._surface = surface
        self._turns = turns
        self._listener = listener

    async def pressed(self, received: InboxEvent, payload: Payload) -> None:
        """A button: ask for what it wants typed, or hand the click over."""
        action = payload["actions"][0]
        found = _carrier(payload)
        if found is None:
            logger.warning("slack_button_without_message")
            return
        try:
            pressed = read_action_id(str(action.get("action_id")))
        except ValueError:
            await self._say(received, payload, found, NOT_OURS)
            return
        spot = CardSpot(found.channel, found.message, found.thread, pressed.verb, str(action.get("value") or ""))
        if pressed.ask is None:
            await self._take(received, payload, spot, {})
            return
        title = str((action.get("text") or {}).get("text") or "")
        if not await self._open(payload, ask_modal(pressed.ask, title=title, private_metadata=spot.pack())):
            await self._say(received, payload, spot, TOO_LATE)

    async def submitted(self, received: InboxEvent, payload: Payload) -> None:
        """A form sent: the click that it was opened for, with what was typed."""
        view = payload["view"]
        try:
            spot = CardSpot.unpack(str(view.get("private_metadata")))
        except ValueError:
            logger.warning("slack_form_without_card")
            return
        await self._take(received, payload, spot, typed_values(view))

    async def _take(self, received: InboxEvent, payload: Payload, spot: CardSpot, inputs: Mapping[str, str]) -> None:
        turn = await self._turns.click(received, payload, spot, inputs)
        if turn is None:
            logger.warning("slack_sender_deactivated")
            return
        try:
            outcome = await self._listener.click(turn)
        except Exception:
            if received.attempts == 1:
                await self._best_effort(turn, NOT_YET)
            raise
        await self._show(payload, turn, spot, outcome)

    async def _show(self, payload: Payload, turn: Turn, spot: CardSpot, outcome: ClickOutcome) -> None:
        view = payload.get("view") or {}
        if outcome.dialog is not None:
            shown = modal(outcome.dialog, private_metadata=CardSpot(spot.channel, spot.message, spot.thread).pack())
            if shown is None or not await self._open(payload, shown):
                await self._tell(turn, Reply(card=outcome.dialog))
        elif payload.get("type") == "block_actions" and view.get("id"):
            # Pressed inside a modal: it covers the conversation, so it says itself what came of the press.
            await self._replace(str(view["id"]), outcome.text)
        if outcome.text and outcome.dialog is None:
            await self._tell(turn, Reply.text(outcome.text))

    async def _open(self, payload: Payload, view: Json) -> bool:
        method = (
            "views.push"
            if (payload.get("view") or {}).get("type") == "modal" and payload.get("type") == "block_actions"
            else "views.open"
        )
        try:
            await self._surface.api.call(method, {"trigger_id": payload.get("trigger_id"), "view": view}, tries=1)
        except SlackCallFailed as error:
            logger.warning("slack_modal_not_opened", code=error.code)
            return False
        return True

    async def _replace(self, view_id: str, text: str) -> None:
        shown = modal(Card(title="", parts=Reply.text(text).parts), private_metadata="")
        try:
            await self._surface.api.call("views.update", {"view_id": view_id, "view": shown})
        except SlackCallFailed as error:
            logger.warning("slack_modal_not_updated", code=error.code)

    async def _say(self, received: InboxEvent, payload: Payload, spot: CardSpot, text: str) -> None:
        turn = await self._turns.click(received, payload, spot, {})
        if turn is not None:
            await self._tell(turn, Reply.text(text))

    async def _best_effort(self, turn: Turn, text: str) -> None:
        try:
            await self._tell(turn, Reply.text(text))
        except SlackCallFailed as error:
            logger.warning("slack_outcome_not_shown", code=error.code)

    async def _tell(self, turn: Turn, reply: Reply) -> None:
        place: Place = turn.place
        await self._surface.tell_privately(place, turn.sender, reply)


def _carrier(payload: Payload) -> CardSpot | None:
    """Where the card of a pressed button is; None when the press came from somewhere that we put no buttons."""
    view = payload.get("view")
    if isinstance(view, dict):
        try:
            return CardSpot.unpack(str(view.get("private_metadata")))
        except ValueError:
            return None
    container: dict[str, Any] = payload.get("container") or {}
    message: dict[str, Any] = payload.get("message") or {}
    channel: dict[str, Any] = payload.get("channel") or {}
    identity = channel.get("id") or container.get("channel_id")
    moment = container.get("message_ts") or message.get("ts")
    if not isinstance(identity, str) or not isinstance(moment, str):
        return None
    thread = container.get("thread_ts") or message.get("thread_ts")
    return CardSpot(identity, moment, thread if isinstance(thread, str) and thread != moment else None)
