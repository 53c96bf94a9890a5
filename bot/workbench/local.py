"""Puts the workbench together: the local platforms for whatever is not configured, the page, and the records' pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from actions.catalogue import Refused
from actions.connectors.sandbox_ticketing import SandboxTicketing
from bot.app import Core
from bot.settings import WorkbenchCredentials
from bot.workbench.guard import LoopbackOnly
from bot.workbench.page import Workbench
from bot.workbench.platform import LocalPerson, LocalPlatform
from bot.workbench.slack_platform import LocalSlack
from bot.workbench.teams_platform import LocalTeams
from records import trace


class LocalPlatforms:
    """The peers the workbench plays, and its page."""

    def __init__(self, core: Core) -> None:
        settings = core.settings
        credentials = settings.workbench
        assert credentials is not None
        self._core = core
        own = f"http://127.0.0.1:{settings.port}"
        self.slack: LocalSlack | None = None
        self.teams: LocalTeams | None = None
        if settings.slack is not None and settings.slack.local:
            self.slack = _local_slack(credentials, self._people("slack", credentials.slack_team), own, settings.data)
        if settings.teams is not None and settings.teams.local:
            self.teams = _local_teams(credentials, self._people("teams", credentials.teams_tenant), own, settings.data)
        platforms: list[LocalPlatform] = [platform for platform in (self.slack, self.teams) if platform is not None]
        self._page = Workbench(platforms, self._read_trace)

    def routes(self) -> list[BaseRoute]:
        """The page, the platforms' own APIs and the sandbox's record pages; all of it on loopback only."""
        guard = [Middleware(LoopbackOnly)]
        routes: list[BaseRoute] = []
        if self.slack is not None:
            routes += self.slack.routes()
        if self.teams is not None:
            routes.append(Mount("/workbench/teams", routes=self.teams.routes()))
        routes.append(Route("/records/tickets/{ticket}", self._ticket, middleware=guard))
        return [*routes, *self._page.routes()]

    async def start(self) -> None:
        """Let the platforms send what they still owe."""
        for platform in (self.slack, self.teams):
            if platform is not None:
                await platform.start()

    def hang_up(self) -> None:
        """End the open pages' streams, so that they do not hold up the end of the process."""
        self._page.close()

    async def close(self) -> None:
        """Keep the platforms' state and stop them."""
        self.hang_up()
        for platform in (self.slack, self.teams):
            if platform is not None:
                await platform.close()

    def _people(self, surface: str, tenant: str) -> list[LocalPerson]:
        """Everyone of the people file with an account on a local platform, those who can sign after those who ask."""
        signing = {rule.group for rule in self._core.rules.ruleset.rules if rule.group}
        return [
            LocalPerson(account.user, person.name)
            for person in sorted(self._core.directory.known(), key=lambda person: bool(person.groups & signing))
            for account in person.identities
            if (account.surface, account.tenant) == (surface, tenant)
        ]

    async def _read_trace(self, after: int, limit: int) -> list[trace.TraceEntry]:
        return await self._core.database.read(lambda tx: trace.after(tx, after, limit))

    async def _ticket(self, request: Request) -> Response:
        ticketing = next(c for c in self._core.connectors if isinstance(c, SandboxTicketing))
        try:
            ticket = await ticketing.ticket(request.path_params["ticket"])
        except Refused as error:
            return HTMLResponse(_page("No such record", f"<p>{escape(str(error))}</p>"), status_code=404)
        rows = {
            "State": ticket.state,
            "Priority": ticket.priority,
            "Asked for by": ticket.requester,
            "Due": "–" if ticket.due is None else ticket.due.isoformat(),
            "Assigned to": ticket.assignee or "–",
            "Description": ticket.description or "–",
            "Resolution": ticket.resolution or "–",
            "Version": str(ticket.version),
            "Changed": ticket.updated_at.strftime("%d %b %Y, %H:%M:%S UTC"),
        }
        body = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows.items())
        return HTMLResponse(_page(f"{ticket.id}: {ticket.title}", f"<dl>{body}</dl>"))


def _local_slack(credentials: WorkbenchCredentials, people: Sequence[LocalPerson], own: str, data: Path) -> LocalSlack:
    return LocalSlack(
        signing_secret=credentials.slack_signing_secret,
        bot_token=credentials.slack_bot_token,
        team_id=credentials.slack_team,
        bot_user_id=credentials.slack_bot_user,
        people=people,
        events_url=f"{own}/slack/events",
        state_file=data / "workbench" / "slack.json",
    )


def _local_teams(credentials: WorkbenchCredentials, people: Sequence[LocalPerson], own: str, data: Path) -> LocalTeams:
    return LocalTeams(
        app_id=credentials.teams_app_id,
        app_password=credentials.teams_app_password,
        tenant_id=credentials.teams_tenant,
        private_key_pem=credentials.teams_private_key_pem.encode(),
        people=people,
        messages_url=f"{own}/api/messages",
        base_url=f"{own}/workbench/teams",
        state_file=data / "workbench" / "teams.json",
    )


def _page(title: str, body: str) -> str:
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem;color:#1d1c1d}"
        "dt{color:#616061;font-size:.85rem;margin-top:.8rem}dd{margin:0;white-space:pre-wrap}"
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{style}</style>"
        f"<h1>{escape(title)}</h1>{body}<p><small>Sandbox ticketing system</small></p></html>"
    )
