"""One installation to measure: a data folder with people and secrets, and the settings of its web process."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from bot.settings import Settings, load_settings
from bot.up import migrate
from bot.workbench.credentials import ensure_people_file, load_or_create_credentials
from bot.workbench.teams_identity import LocalIdentity

CHANNEL = "C0BENCH"


class Installation:
    """Countersign configured for platforms that stand elsewhere: at `platforms_port`, see `benchmarks.platforms`."""

    def __init__(self, folder: Path, platforms_port: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.credentials = load_or_create_credentials(folder)
        self.platforms = f"http://127.0.0.1:{platforms_port}"
        self.service_url = f"{self.platforms}/teams/"
        self.identity = LocalIdentity(
            app_id=self.credentials.teams_app_id,
            app_password=self.credentials.teams_app_password,
            private_key_pem=self.credentials.teams_private_key_pem.encode(),
            base_url=f"{self.platforms}/teams",
        )

    def settings(self, port: int) -> Settings:
        """As `serve` would read them, with the addresses of the platforms; the database is ready for use."""
        settings = load_settings(
            {"COUNTERSIGN_DATA": str(self.folder), "REDIS_URL": os.environ.get("REDIS_URL") or "unix:///not-used"},
            port=port,
            credentials=self.credentials,
        )
        assert settings.slack is not None
        assert settings.teams is not None
        ensure_people_file(settings.people_file)
        migrate(settings)
        return replace(
            settings,
            workbench=None,
            slack=replace(settings.slack, api_url=f"{self.platforms}/slack/"),
            teams=replace(
                settings.teams,
                openid_metadata=f"{self.platforms}/teams/v1/.well-known/openidconfiguration",
                token_url=f"{self.platforms}/teams/oauth2/v2.0/token",
            ),
        )
