"""The web process: the doors, the workbench, health and metrics, on one event loop that never blocks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bot.app import Conversation, Core
from bot.intake import Intake
from bot.metrics import Metrics, shared_state
from bot.settings import Settings

if TYPE_CHECKING:
    from bot.workbench.local import LocalPlatforms

RESUME_EVERY = timedelta(seconds=1)
LISTEN_BACKLOG = 2048

logger = structlog.get_logger(__name__)


class Web:
    """Everything the web process runs.

    web = Web(settings)
    await web.start()
    ... serve web.asgi ...
    await web.close()
    """

    def __init__(self, settings: Settings, *, core: Core | None = None) -> None:
        self.core = core or Core(settings)
        self.metrics = Metrics()
        self.conversation = Conversation(self.core, self.metrics)
        self._intakes: list[Intake] = []
        self._hot: dict[str, ASGIApp] = {}
        self._startables: list[_Startable] = []
        self.local: LocalPlatforms | None = None
        routes: list[BaseRoute] = [
            Route("/livez", self._livez),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics_page),
        ]
        self._open_doors()
        routes += self._workbench_routes()
        self._app = Starlette(routes=routes, exception_handlers={Exception: _unexpected})
        self._background: list[asyncio.Task[None]] = []

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application. The doors are looked up first: they answer platforms that count milliseconds."""
        if scope["type"] == "http":
            door = self._hot.get(scope["path"])
            if door is not None:
                await door(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def start(self) -> None:
        """Open the doors and take up what an earlier process left in the inbox."""
        for part in self._startables:
            await part.start()
        # What was built for good is taken out of the collector's sight: a full collection over it stops the loop for a
        # fifth of a second, and the platforms count milliseconds.
        gc.collect()
        gc.freeze()
        self._background = [
            asyncio.create_task(self.core.keep_people_fresh()),
            asyncio.create_task(self._keep_resuming()),
            asyncio.create_task(self._warm_up()),
        ]

    async def close(self) -> None:
        """Finish what was started, then release everything."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for part in reversed(self._startables):
            await part.close()
        await self.conversation.close()
        await self.core.close()

    def _open_doors(self) -> None:
        core, dialog = self.core, self.conversation.dialog
        if core.settings.slack is not None:
            from bot.slack.door import SlackDoor
            from bot.slack.surface import SlackSurface

            surface = core.surfaces["slack"]
            assert isinstance(surface, SlackSurface)
            slack = SlackDoor(core.settings.slack, surface, core.database, core.inbox, dialog)
            self._add_door("/slack/events", slack.endpoint, slack.intake, slack)
        if core.settings.teams is not None:
            from bot.teams.intake import TeamsDoor
            from bot.teams.surface import TeamsSurface

            teams_surface = core.surfaces["teams"]
            assert isinstance(teams_surface, TeamsSurface)
            teams = TeamsDoor(core.settings.teams, teams_surface, core.database, core.inbox, dialog)
            self._add_door("/api/messages", teams.endpoint, teams.intake, teams)

    def _add_door(self, path: str, endpoint: ASGIApp, intake: Intake, door: _Startable) -> None:
        intake.observe = self.metrics.event
        self._hot[path] = endpoint
        self._intakes.append(intake)
        self._startables.append(door)

    def _workbench_routes(self) -> list[BaseRoute]:
        if self.core.settings.workbench is None:
            return [Route("/", _front_page)]
        from bot.workbench.local import LocalPlatforms

        self.local = LocalPlatforms(self.core)
        self._startables.append(self.local)
        return self.local.routes()

    async def _keep_resuming(self) -> None:
        while True:
            await asyncio.sleep(RESUME_EVERY.total_seconds())
            for intake in self._intakes:
                try:
                    await intake.resume()
                except Exception:
                    logger.exception("resume_failed", door=intake.source)

    async def _warm_up(self) -> None:
        """Load what the first message would wait for. Readiness does not: whatever is cold answers, only later."""
        parts: tuple[_Warmable, ...] = (self.conversation.embedder, self.conversation.intents)
        for part in parts:
            try:
                await part.warm()
            except Exception as error:
                # Told once here; the message that needs it tries again.
                logger.warning("not_warm", part=type(part).__name__, error=type(error).__name__)

    async def _livez(self, request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def _readyz(self, request: Request) -> Response:
        async def database() -> str:
            await self.core.database.read(lambda tx: tx.now)
            return "ok"

        async def queue() -> str:
            return "ok" if await asyncio.to_thread(self.core.hints.ping) else "away"

        parts = {"database": database, "redis": queue}
        found: dict[str, str] = {}
        for name, ask in parts.items():
            try:
                found[name] = await asyncio.wait_for(ask(), timeout=2)
            except Exception as error:
                logger.warning("not_ready", part=name, error=type(error).__name__)
                found[name] = "away"
        # The model is no reason to turn people away: the offline engine answers while it is gone.
        found["model"] = self.conversation.engine.state
        ready = found["database"] == "ok" and found["redis"] == "ok"
        return JSONResponse({"ready": ready, **found}, status_code=200 if ready else 503)

    async def _metrics_page(self, request: Request) -> Response:
        page = self.metrics.page(await shared_state(self.core.database, self.core.hints))
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")


class _Server(uvicorn.Server):
    """Ends the streams of open pages before it waits for connections to close."""

    def __init__(self, config: uvicorn.Config, web: Web) -> None:
        super().__init__(config)
        self._web = web

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._web.local is not None:
            self._web.local.hang_up()
        await super().shutdown(sockets)


class _Startable(Protocol):
    """Something with a beginning and an end (a door, the local platforms)."""

    async def start(self) -> None:
        """Open."""
        ...

    async def close(self) -> None:
        """Finish what was started and release everything."""
        ...


class _Warmable(Protocol):
    """Something that loads on first use, and can be told to beforehand."""

    async def warm(self) -> None:
        """Load; at once when it is."""
        ...


def build_server(web: Web) -> uvicorn.Server:
    """The HTTP server of a web process, not yet running."""
    settings = web.core.settings

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await web.start()
        yield
        await web.close()

    async def with_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan_app(scope, receive, send)
        else:
            await web.asgi(scope, receive, send)

    lifespan_app = Starlette(lifespan=lifespan)
    config = uvicorn.Config(
        with_lifespan,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=LISTEN_BACKLOG,
        timeout_graceful_shutdown=8,
    )
    return _Server(config, web)


def serve(settings: Settings) -> int:
    """Run the web process until SIGTERM or SIGINT."""
    server = build_server(Web(settings))
    server.run()
    return 0 if server.started else 1


async def _front_page(request: Request) -> Response:
    return PlainTextResponse(
        "Countersign is running. The workbench is served by `./countersign up` on loopback only.\n"
    )


async def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("request_failed", path=request.url.path, exc_info=error)
    return JSONResponse(
        {"type": "about:blank", "title": "Something went wrong on our side; nothing was done.", "status": 500},
        status_code=500,
        media_type="application/problem+json",
    )
