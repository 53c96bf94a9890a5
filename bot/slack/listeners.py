"""What we do with what Slack sent, once it is stored: Bolt finds the listener, the listener makes a Turn of it.

Bolt is fed with stored events only. The door has verified the signature over the raw bytes and the workspace, minutes
earlier perhaps, so Bolt's own check is off: it would refuse an event taken up again after five minutes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import structlog
from slack_bolt.async_app import AsyncApp, AsyncBoltRequest
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.context.ack.async_ack import AsyncAck
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack.clicks import SlackClicks
from bot.slack.intake import is_for_us
from bot.slack.surface import SlackSurface
from bot.slack.turns import SlackTurns
from handlers.listener import Listener
from handlers.turn import Turn
from records.inbox import InboxEvent

_ANYTHING = re.compile(r".*", re.DOTALL)
_RECEIVED = "inbox_event"

logger = structlog.get_logger(__name__)


class WithoutBodies(logging.Filter):
    """Keeps people's words out of logs: of what Bolt says, only where it said it and the kind of error stay.

    Bolt formats request bodies into its messages before it hands them over, so no part of a message can be trusted.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else "no error"
        record.msg = f"slack_bolt said something in {record.funcName}, line {record.lineno} ({kind})"
        record.args = None
        record.exc_info = None
        record.exc_text = None
        return True


class SlackListeners:
    """Handles stored events; `handle` is what the Intake calls."""

    def __init__(self, surface: SlackSurface, turns: SlackTurns, listener: Listener) -> None:
        self._surface = surface
        self._turns = turns
        self._listener = listener
        self._clicks = SlackClicks(surface, turns, listener)
        self._app = self._bolt()

    async def handle(self, received: InboxEvent) -> None:
        """Handle one event; raises what is worth another try."""
        request = AsyncBoltRequest(
            body=received.body.decode(),
            headers={"content-type": received.headers.get("content-type", "")},
            context={_RECEIVED: received},
        )
        response = await self._app.async_dispatch(request)
        if response.status >= 400:
            logger.warning("slack_event_without_listener", kind=received.kind)

    def _bolt(self) -> AsyncApp:
        bolt_logger = logging.getLogger("countersign.slack.bolt")
        bolt_logger.setLevel(logging.WARNING)
        if not any(isinstance(one, WithoutBodies) for one in bolt_logger.filters):
            bolt_logger.addFilter(WithoutBodies())
        app = AsyncApp(
            name="countersign",
            logger=bolt_logger,
            # Bolt's own client has no token: whatever speaks to Slack is our surface.
            client=AsyncWebClient(),
            authorize=_our_installation(self._surface),
            # Otherwise Bolt polls every 10 ms for the acknowledgement that we have given long ago.
            process_before_response=True,
            request_verification_enabled=False,
            ssl_check_enabled=False,
            url_verification_enabled=False,
            attaching_function_token_enabled=False,
            attaching_conversation_kwargs_enabled=False,
        )
        app.command(_ANYTHING)(self._command)
        app.event("app_mention")(self._message)
        app.event("message")(self._message)
        app.action(_ANYTHING)(self._action)
        app.view(_ANYTHING)(self._view)
        app.event(_ANYTHING)(self._other_event)
        app.error(self._failed)
        return app

    async def _message(self, body: dict[str, Any], context: dict[str, Any]) -> None:
        if is_for_us(body["event"]):
            await self._hear(await self._turns.message(context[_RECEIVED], body))

    async def _command(self, body: dict[str, Any], context: dict[str, Any], ack: AsyncAck) -> None:
        await ack()
        turn = await self._turns.command(context[_RECEIVED], body)
        if turn is not None and not await self._turns.reachable(turn.place.conversation):
            turn = replace(turn, place=await self._surface.direct_place(turn.sender))
        await self._hear(turn)

    async def _action(self, body: dict[str, Any], context: dict[str, Any], ack: AsyncAck) -> None:
        await ack()
        await self._clicks.pressed(context[_RECEIVED], body)

    async def _view(self, body: dict[str, Any], context: dict[str, Any], ack: AsyncAck) -> None:
        await ack()
        await self._clicks.submitted(context[_RECEIVED], body)

    async def _other_event(self, body: dict[str, Any]) -> None:
        logger.debug("slack_event_not_used", event_type=body["event"].get("type"))

    async def _hear(self, turn: Turn | None) -> None:
        if turn is None:
            logger.warning("slack_sender_deactivated")
            return
        await self._listener.hear(turn)

    async def _failed(self, error: Exception) -> None:
        # Raised again so that it reaches the Intake, which keeps the event due; Bolt would answer 500 to nobody.
        raise error


def _our_installation(surface: SlackSurface) -> Callable[..., Awaitable[AuthorizeResult]]:
    """Bolt's question "who are we here?", answered from memory; its own answer asks Slack before every event.

    The ids are what lets Bolt drop events that we caused ourselves. No token goes in: Bolt has no use for one.
    """

    async def authorize(enterprise_id: str | None, team_id: str | None, user_id: str | None) -> AuthorizeResult:
        ourselves = await surface.directory.ourselves()
        return AuthorizeResult(
            enterprise_id=enterprise_id,
            team_id=team_id,
            user_id=user_id,
            bot_id=ourselves.bot,
            bot_user_id=ourselves.user,
        )

    return authorize
