"""All settings, read from the environment once and checked; nothing else reads the environment.

A wrong value raises `SettingsError`, whose message is one line: which variable, what is wrong, what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from bot.model_settings import ModelSettings, load_model_settings
from bot.variables import SettingsError, checked_url, one_of, without_secrets

__all__ = ["SettingsError", "checked_url", "without_secrets"]
"""What the readers of settings also need, so that they import from one place."""

PUBLIC_SLACK_API = "https://slack.com/api/"
PUBLIC_TEAMS_OPENID_METADATA = "https://login.botframework.com/v1/.well-known/openidconfiguration"


@dataclass(frozen=True, slots=True)
class SlackSettings:
    """What a Slack app needs; `local` when the workbench plays Slack."""

    signing_secret: str
    bot_token: str
    api_url: str
    """Ends with a slash; method names are appended."""
    local: bool
    team_allow_list: frozenset[str]
    """Slack team or enterprise ids that may speak to us; empty refuses everyone but the workbench's team."""


@dataclass(frozen=True, slots=True)
class TeamsSettings:
    """What a Teams app needs; `local` when the workbench plays Teams, `emulator` when there is no app id."""

    app_id: str
    app_password: str
    tenant_id: str
    openid_metadata: str
    token_url: str
    """Where outgoing tokens are asked for (OAuth 2.0 client credentials)."""
    service_hosts: tuple[str, ...]
    """Host names (`smba.trafficmanager.net`, or `*.` suffixes) our token may be sent to."""
    local: bool
    emulator: bool
    """No app id: unauthenticated activities are taken, from loopback only."""


@dataclass(frozen=True, slots=True)
class WorkbenchCredentials:
    """Made at the first start and kept in the data folder: the local platforms sign and check with these."""

    slack_signing_secret: str
    slack_bot_token: str
    slack_team: str
    slack_bot_user: str
    teams_app_id: str
    teams_app_password: str
    teams_tenant: str
    teams_private_key_pem: str


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a process of Countersign needs to know about where it runs."""

    data: Path
    """Folder of everything that must survive a restart."""
    host: str
    port: int
    public_url: str
    """Where people's browsers reach us; used in links to records and approvals."""
    database_url: str
    redis_url: str
    model: ModelSettings
    slack: SlackSettings | None
    teams: TeamsSettings | None
    people_file: Path
    key: bytes | None
    """32 bytes from which everything kept secret is derived; None: the file `key` in the data folder."""
    log_format: str
    """`json` or `console`."""
    approval_hours: float
    """How long a card may be signed."""
    workbench: WorkbenchCredentials | None
    """What the workbench uses to play the platforms that are not configured; None where there is no workbench."""


DEFAULT_PORT = 8000
TEAMS_SERVICE_HOSTS = ("smba.trafficmanager.net", "*.botframework.com")
"""Where Microsoft's public cloud serves the connector API; our token goes nowhere else."""


def load_settings(
    environment: Mapping[str, str],
    *,
    data: Path | None = None,
    port: int | None = None,
    credentials: WorkbenchCredentials | None = None,
) -> Settings:
    """Read and check everything. `credentials` lets the workbench play the platforms that are not configured.

    Raises SettingsError naming the variable and what to do.
    """
    folder = data or Path(environment.get("COUNTERSIGN_DATA") or ".countersign/data")
    folder = folder.expanduser().resolve()
    host = _host(environment)
    chosen_port = checked_port("--port", port) if port is not None else _port(environment)
    public_url = _public_url(environment, chosen_port)
    slack = _slack(environment, chosen_port, credentials)
    return Settings(
        data=folder,
        host=host,
        port=chosen_port,
        public_url=public_url,
        database_url=_database_url(environment, folder),
        redis_url=_redis_url(environment),
        model=load_model_settings(environment),
        slack=slack,
        teams=_teams(environment, chosen_port, credentials, emulator=slack is None or slack.local),
        people_file=Path(environment.get("COUNTERSIGN_PEOPLE") or folder / "people.yaml"),
        key=_key(environment),
        log_format=one_of(environment, "COUNTERSIGN_LOG_FORMAT", ("console", "json"), "json"),
        approval_hours=_hours(environment),
        workbench=credentials,
    )


def _host(environment: Mapping[str, str]) -> str:
    value = environment.get("COUNTERSIGN_HOST") or "127.0.0.1"
    try:
        return value if value == "localhost" else str(ip_address(value))
    except ValueError:
        raise SettingsError(
            f"COUNTERSIGN_HOST is {value!r}, which is no address; set 127.0.0.1, or 0.0.0.0 to listen on all"
        ) from None


def _port(environment: Mapping[str, str]) -> int:
    value = environment.get("COUNTERSIGN_PORT") or str(DEFAULT_PORT)
    return checked_port("COUNTERSIGN_PORT", int(value) if value.isdecimal() else value)


def checked_port(source: str, value: int | str) -> int:
    """Return the value when it is a port; otherwise say what `source` has to be."""
    if not isinstance(value, int) or not 0 < value < 65536:
        raise SettingsError(f"{source} is {value!r}, which is no port; set a number from 1 to 65535")
    return value


def _public_url(environment: Mapping[str, str], port: int) -> str:
    value = environment.get("COUNTERSIGN_PUBLIC_URL")
    if not value:
        return f"http://127.0.0.1:{port}"
    return checked_url("COUNTERSIGN_PUBLIC_URL", value, ("https", "http"), "https://countersign.example.com").rstrip(
        "/"
    )


def _database_url(environment: Mapping[str, str], folder: Path) -> str:
    value = environment.get("DATABASE_URL")
    if not value:
        return f"sqlite:///{folder / 'countersign.db'}"
    return checked_url(
        "DATABASE_URL",
        value,
        ("postgresql", "postgres", "postgresql+psycopg", "sqlite"),
        "postgresql://user:password@host:5432/countersign",
    )


def _redis_url(environment: Mapping[str, str]) -> str:
    value = environment.get("REDIS_URL")
    if not value:
        raise SettingsError(
            "REDIS_URL is not set; set it like redis://host:6379/0, or start everything with `./countersign up`"
        )
    return checked_url("REDIS_URL", value, ("redis", "rediss", "unix"), "redis://host:6379/0")


def _slack(environment: Mapping[str, str], port: int, credentials: WorkbenchCredentials | None) -> SlackSettings | None:
    secret, token = environment.get("SLACK_SIGNING_SECRET"), environment.get("SLACK_BOT_TOKEN")
    if not secret and not token:
        if credentials is None:
            return None
        return SlackSettings(
            signing_secret=credentials.slack_signing_secret,
            bot_token=credentials.slack_bot_token,
            api_url=f"http://127.0.0.1:{port}/workbench/slack/api/",
            local=True,
            team_allow_list=frozenset({credentials.slack_team}),
        )
    if not secret or not token:
        missing = "SLACK_BOT_TOKEN" if secret else "SLACK_SIGNING_SECRET"
        raise SettingsError(
            f"{missing} is not set; Slack needs it beside the other, both from your app's settings page"
        )
    teams = frozenset(filter(None, environment.get("SLACK_TEAM_IDS", "").replace(" ", "").split(",")))
    if not teams:
        raise SettingsError(
            "SLACK_TEAM_IDS is not set; list the ids of the workspaces that may use this app, like T0123ABCD"
        )
    api_url = checked_url(
        "SLACK_API_URL", environment.get("SLACK_API_URL") or PUBLIC_SLACK_API, ("https", "http"), PUBLIC_SLACK_API
    )
    return SlackSettings(secret, token, api_url.rstrip("/") + "/", False, teams)


def _teams(
    environment: Mapping[str, str], port: int, credentials: WorkbenchCredentials | None, *, emulator: bool
) -> TeamsSettings | None:
    """`emulator` is false beside a real Slack: whoever could reach us through its tunnel could speak unsigned."""
    app_id, password = environment.get("TEAMS_APP_ID"), environment.get("TEAMS_APP_PASSWORD")
    if not app_id:
        if password:
            raise SettingsError("TEAMS_APP_ID is not set but TEAMS_APP_PASSWORD is; Teams needs both, or neither")
        if credentials is None:
            return None
        base = f"http://127.0.0.1:{port}/workbench/teams"
        return TeamsSettings(
            app_id=credentials.teams_app_id,
            app_password=credentials.teams_app_password,
            tenant_id=credentials.teams_tenant,
            openid_metadata=f"{base}/v1/.well-known/openidconfiguration",
            token_url=f"{base}/oauth2/v2.0/token",
            service_hosts=("127.0.0.1", "localhost"),
            local=True,
            emulator=emulator,
        )
    tenant = environment.get("TEAMS_TENANT_ID")
    for name, value in (("TEAMS_APP_PASSWORD", password), ("TEAMS_TENANT_ID", tenant)):
        if not value:
            raise SettingsError(f"{name} is not set; Teams needs it beside TEAMS_APP_ID, see docs/connect-teams.md")
    assert password is not None
    assert tenant is not None
    metadata = environment.get("TEAMS_OPENID_METADATA") or PUBLIC_TEAMS_OPENID_METADATA
    token_url = environment.get("TEAMS_TOKEN_URL") or f"https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"
    hosts = tuple(filter(None, environment.get("TEAMS_SERVICE_HOSTS", "").replace(" ", "").split(",")))
    return TeamsSettings(
        app_id=app_id,
        app_password=password,
        tenant_id=tenant,
        openid_metadata=checked_url("TEAMS_OPENID_METADATA", metadata, ("https", "http"), PUBLIC_TEAMS_OPENID_METADATA),
        token_url=checked_url("TEAMS_TOKEN_URL", token_url, ("https", "http"), "https://…/oauth2/v2.0/token"),
        service_hosts=hosts or TEAMS_SERVICE_HOSTS,
        local=False,
        emulator=False,
    )


def _key(environment: Mapping[str, str]) -> bytes | None:
    value = environment.get("COUNTERSIGN_KEY")
    if not value:
        return None
    try:
        key = bytes.fromhex(value)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise SettingsError("COUNTERSIGN_KEY is not 64 hexadecimal digits; make one with `openssl rand -hex 32`")
    return key


def _hours(environment: Mapping[str, str]) -> float:
    value = environment.get("COUNTERSIGN_APPROVAL_HOURS") or "24"
    try:
        hours = float(value)
    except ValueError:
        hours = 0.0
    if not 0 < hours <= 24 * 30:
        raise SettingsError(
            f"COUNTERSIGN_APPROVAL_HOURS is {value!r}; set the hours a card may be signed, above 0 and up to 720"
        )
    return hours
