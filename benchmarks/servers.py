"""The servers that are compared, each run as a process of its own on one processor.

python -m benchmarks.servers KIND FOLDER PORT PLATFORMS_PORT [unpinned]
"""

from __future__ import annotations

import hashlib
import hmac
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn

from benchmarks.installation import Installation
from benchmarks.machine import SERVER_CPU, pin


def countersign(installation: Installation, port: int) -> None:
    """The product's web process: verify, store durably, acknowledge, then handle."""
    from bot.logs import configure_logs
    from bot.web import serve

    settings = installation.settings(port)
    configure_logs(settings.log_format, "web")
    sys.exit(serve(settings))


def countersign_way_in(installation: Installation, port: int) -> None:
    """The same process, which leaves the events in the inbox once they are acknowledged."""
    from bot.intake import Intake

    Intake.start = lambda self, event: None  # type: ignore[method-assign]
    countersign(installation, port)


def worker(installation: Installation, port: int) -> None:
    """The product's worker process."""
    from bot.logs import configure_logs
    from bot.work import work

    settings = installation.settings(port)
    configure_logs(settings.log_format, "worker")
    sys.exit(work(settings))


def endpoint_with_signature(installation: Installation, port: int) -> None:
    """The floor: an ASGI function that checks Slack's signature and answers."""
    secret = installation.credentials.slack_signing_secret.encode()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        body = (await receive()).get("body", b"")
        stamp = headers.get(b"x-slack-request-timestamp", b"0")
        digest = hmac.new(secret, b"v0:" + stamp + b":" + body, hashlib.sha256).hexdigest()
        signed = hmac.compare_digest(b"v0=" + digest.encode(), headers.get(b"x-slack-signature", b""))
        fresh = abs(time.time() - int(stamp)) < 300
        status = 200 if signed and fresh else 401
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    _serve(application, port)


def bolt_default(installation: Installation, port: int) -> None:
    """An echo app on Bolt as its README shows it, in ASGI."""
    _bolt(installation, port, process_before_response=False)


def bolt_tuned(installation: Installation, port: int) -> None:
    """The same without the polling for the acknowledgement, which is Bolt's default."""
    _bolt(installation, port, process_before_response=True)


def _bolt(installation: Installation, port: int, *, process_before_response: bool) -> None:
    from slack_bolt.adapter.asgi.async_handler import AsyncSlackRequestHandler
    from slack_bolt.async_app import AsyncApp
    from slack_bolt.authorization import AuthorizeResult

    async def authorize(enterprise_id: str | None, team_id: str | None) -> AuthorizeResult:
        # Bolt's own asks Slack at every request; a benchmark of that would measure the network.
        return AuthorizeResult(enterprise_id=enterprise_id, team_id=team_id, bot_token="xoxb-1", bot_user_id="U0BENCH")

    app = AsyncApp(
        signing_secret=installation.credentials.slack_signing_secret,
        authorize=authorize,
        process_before_response=process_before_response,
    )

    @app.command("/countersign")
    async def echo(ack: Any, command: dict[str, Any]) -> None:
        await ack(command["text"])

    _serve(AsyncSlackRequestHandler(app, path="/slack/events"), port)


def botbuilder(installation: Installation, port: int) -> None:
    """A bot on the stock BotFrameworkAdapter in aiohttp, as Microsoft's samples wire it; its handler answers nothing.

    Their echo would add an outgoing request before the acknowledgement; left out in its favour.
    """
    from aiohttp import web
    from botbuilder.core import ActivityHandler, BotFrameworkAdapter, BotFrameworkAdapterSettings, TurnContext
    from botbuilder.schema import Activity
    from botframework.connector.auth.channel_validation import ChannelValidation

    ChannelValidation.open_id_metadata_endpoint = f"{installation.service_url}v1/.well-known/openidconfiguration"
    credentials = installation.credentials
    adapter = BotFrameworkAdapter(BotFrameworkAdapterSettings(credentials.teams_app_id, credentials.teams_app_password))

    class Silent(ActivityHandler):  # type: ignore[misc]
        async def on_message_activity(self, turn_context: TurnContext) -> None:
            return

    bot = Silent()

    async def messages(request: web.Request) -> web.Response:
        activity = Activity().deserialize(await request.json())
        await adapter.process_activity(activity, request.headers.get("Authorization", ""), bot.on_turn)
        return web.Response(status=200)

    app = web.Application()
    app.router.add_post("/api/messages", messages)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


def botbuilder_cloud(installation: Installation, port: int) -> None:
    """The same on CloudAdapterBase, which the samples' newer CloudAdapter is a thin aiohttp door to."""
    from aiohttp import web
    from botbuilder.core import ActivityHandler, CloudAdapterBase, TurnContext
    from botbuilder.schema import Activity
    from botframework.connector.auth import (
        AuthenticationConfiguration,
        BotFrameworkAuthenticationFactory,
        PasswordServiceClientCredentialFactory,
    )

    metadata = f"{installation.service_url}v1/.well-known/openidconfiguration"
    credentials = installation.credentials
    authentication = BotFrameworkAuthenticationFactory.create(
        channel_service="",
        validate_authority=True,
        to_channel_from_bot_login_url="https://login.microsoftonline.com/botframework.com",
        to_channel_from_bot_oauth_scope="https://api.botframework.com",
        to_bot_from_channel_token_issuer="https://api.botframework.com",
        oauth_url="https://api.botframework.com",
        to_bot_from_channel_open_id_metadata_url=metadata,
        to_bot_from_emulator_open_id_metadata_url=metadata,
        caller_id="urn:botframework:azure",
        credential_factory=PasswordServiceClientCredentialFactory(
            credentials.teams_app_id, credentials.teams_app_password
        ),
        auth_configuration=AuthenticationConfiguration(),
        http_client_factory=None,
        logger=None,
    )
    adapter = CloudAdapterBase(authentication)

    class Silent(ActivityHandler):  # type: ignore[misc]
        async def on_message_activity(self, turn_context: TurnContext) -> None:
            return

    bot = Silent()

    async def messages(request: web.Request) -> web.Response:
        activity = Activity().deserialize(await request.json())
        await adapter.process_activity(request.headers.get("Authorization", ""), activity, bot.on_turn)
        return web.Response(status=200)

    app = web.Application()
    app.router.add_post("/api/messages", messages)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


SERVERS: dict[str, Callable[[Installation, int], None]] = {
    "countersign": countersign,
    "countersign-way-in": countersign_way_in,
    "worker": worker,
    "signature": endpoint_with_signature,
    "bolt": bolt_default,
    "bolt-tuned": bolt_tuned,
    "botbuilder": botbuilder,
    "botbuilder-cloud": botbuilder_cloud,
}


def _serve(application: Any, port: int) -> None:
    uvicorn.run(
        application, port=port, loop="uvloop", http="httptools", log_level="critical", access_log=False, lifespan="off"
    )


def main() -> None:
    """Serve until killed."""
    kind, folder, port, platforms_port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    if "unpinned" not in sys.argv:
        pin(SERVER_CPU)
    SERVERS[kind](Installation(folder, platforms_port), port)


if __name__ == "__main__":
    main()
