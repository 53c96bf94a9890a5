"""Slack, put together: the endpoint, the inbox behind it, and the listeners that take what was stored."""

from __future__ import annotations

from bot.intake import Intake
from bot.settings import SlackSettings
from bot.slack.intake import SlackEndpoint
from bot.slack.listeners import SlackListeners
from bot.slack.surface import SlackSurface
from bot.slack.turns import SlackTurns
from handlers.listener import Listener
from records.database import Database
from records.inbox import Inbox


class SlackDoor:
    """One Slack installation.

    surface = SlackSurface(settings.slack)             # the dialog needs it first
    door = SlackDoor(settings.slack, surface, database, inbox, dialog)
    Route("/slack/events", door.endpoint, methods=["POST"])
    """

    def __init__(
        self, settings: SlackSettings, surface: SlackSurface, database: Database, inbox: Inbox, listener: Listener
    ) -> None:
        self.surface = surface
        turns = SlackTurns(surface.directory, settings.team_allow_list)
        self.intake = Intake("slack", database, inbox, SlackListeners(surface, turns, listener).handle)
        self.endpoint = SlackEndpoint(settings, self.intake)

    async def start(self) -> None:
        """Take up what an earlier process stored and did not finish."""
        await self.intake.resume()

    async def close(self) -> None:
        """Wait for what is being handled, then release the connections."""
        await self.intake.drain()
        await self.surface.close()
