"""Every wrong variable is one line that names it and says what to do; what it holds that is secret is not shown."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from bot.settings import PUBLIC_SLACK_API, SettingsError, load_settings, without_secrets
from bot.workbench.credentials import load_or_create_credentials

REDIS = {"REDIS_URL": "redis://127.0.0.1:6379/0"}
SLACK = {"SLACK_SIGNING_SECRET": "s3cret", "SLACK_BOT_TOKEN": "xoxb-s3cret", "SLACK_TEAM_IDS": "T1, E2"}
TEAMS = {"TEAMS_APP_ID": "app", "TEAMS_APP_PASSWORD": "s3cret", "TEAMS_TENANT_ID": "tenant"}

MODEL = {"VLLM_BASE_URL": "http://llm.internal:8000/v1/", "VLLM_MODEL": "qwen3"}
OUTSIDE = {"VLLM_BASE_URL": "https://api.example.com/v1", "VLLM_MODEL": "large"}


def without(variables: dict[str, str], name: str) -> dict[str, str]:
    return {other: value for other, value in variables.items() if other != name}


@pytest.mark.parametrize(
    ("variables", "named", "advice"),
    [
        ({"REDIS_URL": ""}, "REDIS_URL", "./countersign up"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL", "redis://host:6379/0"),
        ({"REDIS_URL": "http://127.0.0.1"}, "REDIS_URL", "redis://host:6379/0"),
        ({"REDIS_URL": "redis://:s3cret@host:port/0"}, "REDIS_URL", "redis://host:6379/0"),
        ({"REDIS_URL": "redis://"}, "REDIS_URL", "redis://host:6379/0"),
        ({"DATABASE_URL": "mysql://u:s3cret@host/db"}, "DATABASE_URL", "postgresql://user:password@host:5432/"),
        ({"DATABASE_URL": "u:s3cret@host/db"}, "DATABASE_URL", "postgresql://user:password@host:5432/"),
        ({"VLLM_BASE_URL": "http://127.0.0.1:8000"}, "VLLM_MODEL", "both, or neither"),
        ({"VLLM_MODEL": "some-model"}, "VLLM_BASE_URL", "both, or neither"),
        ({"VLLM_BASE_URL": "127.0.0.1:8000", "VLLM_MODEL": "m"}, "VLLM_BASE_URL", "http://127.0.0.1:8000"),
        ({**MODEL, "VLLM_DIALECT": "bedrock"}, "VLLM_DIALECT", "vllm or openai"),
        ({**MODEL, "VLLM_LOCATION": "abroad"}, "VLLM_LOCATION", "inside or outside"),
        ({**OUTSIDE, "VLLM_RECEIVES": "all"}, "VLLM_RECEIVES", "nothing or own-words or everything"),
        ({**MODEL, "VLLM_RECEIVES": "own-words"}, "VLLM_RECEIVES", "VLLM_LOCATION=outside"),
        ({**MODEL, "VLLM_PLANS_BY": "hope"}, "VLLM_PLANS_BY", "tools or schema"),
        ({"VLLM_RICH_BASE_URL": "http://rich", "VLLM_RICH_MODEL": "m"}, "VLLM_BASE_URL", "set both"),
        ({**MODEL, "VLLM_RICH_BASE_URL": "http://rich"}, "VLLM_RICH_MODEL", "both, or neither"),
        ({"VLLM_CONCURRENCY": "0"}, "VLLM_CONCURRENCY", "whole number, 1 or more"),
        ({"VLLM_CONCURRENCY": "many"}, "VLLM_CONCURRENCY", "whole number, 1 or more"),
        ({"VLLM_TENANT_CONCURRENCY": "65"}, "VLLM_TENANT_CONCURRENCY", "at most that"),
        ({"VLLM_BACKGROUND_CONCURRENCY": "²"}, "VLLM_BACKGROUND_CONCURRENCY", "whole number, 1 or more"),
        ({"VLLM_TOKENS_PER_PERSON_AND_DAY": "-1"}, "VLLM_TOKENS_PER_PERSON_AND_DAY", "whole number, 0 or more"),
        ({"EMBEDDINGS_URL": "http://127.0.0.1:8001"}, "EMBEDDINGS_MODEL", "both, or neither"),
        ({"EMBEDDINGS_URL": "tcp://x", "EMBEDDINGS_MODEL": "m"}, "EMBEDDINGS_URL", "http://127.0.0.1:8000"),
        ({"VLLM_TOTAL_SECONDS": "soon"}, "VLLM_TOTAL_SECONDS", "number of seconds"),
        ({"COUNTERSIGN_PORT": "eighty"}, "COUNTERSIGN_PORT", "1 to 65535"),
        ({"COUNTERSIGN_PORT": "65536"}, "COUNTERSIGN_PORT", "1 to 65535"),
        ({"COUNTERSIGN_HOST": "256.0.0.1"}, "COUNTERSIGN_HOST", "0.0.0.0"),
        ({"COUNTERSIGN_PUBLIC_URL": "bot.example.com"}, "COUNTERSIGN_PUBLIC_URL", "https://countersign.example.com"),
        ({"COUNTERSIGN_PUBLIC_URL": "https://"}, "COUNTERSIGN_PUBLIC_URL", "https://countersign.example.com"),
        ({"COUNTERSIGN_KEY": "s3cret"}, "COUNTERSIGN_KEY", "openssl rand -hex 32"),
        ({"COUNTERSIGN_KEY": "ab" * 31}, "COUNTERSIGN_KEY", "openssl rand -hex 32"),
        ({"COUNTERSIGN_LOG_FORMAT": "xml"}, "COUNTERSIGN_LOG_FORMAT", "console or json"),
        ({"COUNTERSIGN_APPROVAL_HOURS": "nan"}, "COUNTERSIGN_APPROVAL_HOURS", "up to 720"),
        ({"COUNTERSIGN_APPROVAL_HOURS": "0"}, "COUNTERSIGN_APPROVAL_HOURS", "up to 720"),
        (without(SLACK, "SLACK_BOT_TOKEN"), "SLACK_BOT_TOKEN", "your app's settings page"),
        (without(SLACK, "SLACK_SIGNING_SECRET"), "SLACK_SIGNING_SECRET", "your app's settings page"),
        (without(SLACK, "SLACK_TEAM_IDS"), "SLACK_TEAM_IDS", "like T0123ABCD"),
        ({**SLACK, "SLACK_API_URL": "ftp://x"}, "SLACK_API_URL", PUBLIC_SLACK_API),
        (without(TEAMS, "TEAMS_APP_ID"), "TEAMS_APP_ID", "both, or neither"),
        (without(TEAMS, "TEAMS_APP_PASSWORD"), "TEAMS_APP_PASSWORD", "docs/connect-teams.md"),
        (without(TEAMS, "TEAMS_TENANT_ID"), "TEAMS_TENANT_ID", "docs/connect-teams.md"),
        ({**TEAMS, "TEAMS_OPENID_METADATA": "x"}, "TEAMS_OPENID_METADATA", "https://login.botframework.com/"),
    ],
)
def test_a_wrong_variable_is_named_with_what_to_do(
    variables: dict[str, str], named: str, advice: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({**REDIS, **variables}, data=tmp_path)
    line = str(raised.value)
    assert line.startswith(f"{named} is ")
    assert advice in line
    assert "\n" not in line
    assert "s3cret" not in line


def test_a_wrong_port_option_is_named_as_the_option(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^--port is 0, which is no port"):
        load_settings(REDIS, data=tmp_path, port=0)


def test_nothing_but_redis_has_to_be_set(tmp_path: Path) -> None:
    settings = load_settings(REDIS, data=tmp_path)
    assert (settings.host, settings.port, settings.public_url) == ("127.0.0.1", 8000, "http://127.0.0.1:8000")
    assert settings.database_url == f"sqlite:///{tmp_path.resolve() / 'countersign.db'}"
    assert (settings.slack, settings.teams, settings.model.fast) == (None, None, None)
    assert settings.people_file == tmp_path.resolve() / "people.yaml"


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    names = (
        "DATABASE_URL", "VLLM_BASE_URL", "VLLM_MODEL", "VLLM_RICH_BASE_URL", "VLLM_DIALECT", "VLLM_LOCATION",
        "VLLM_RECEIVES", "VLLM_PLANS_BY", "VLLM_CONCURRENCY", "VLLM_TOKENS_PER_PERSON_AND_DAY", "EMBEDDINGS_URL",
        "COUNTERSIGN_PORT", "COUNTERSIGN_HOST", "COUNTERSIGN_PUBLIC_URL",
        "COUNTERSIGN_KEY", "COUNTERSIGN_LOG_FORMAT", "COUNTERSIGN_APPROVAL_HOURS", "COUNTERSIGN_PEOPLE",
        "SLACK_SIGNING_SECRET", "SLACK_BOT_TOKEN", "TEAMS_APP_ID", "TEAMS_APP_PASSWORD",
    )  # fmt: skip
    assert load_settings({**REDIS, **dict.fromkeys(names, "")}, data=tmp_path) == load_settings(REDIS, data=tmp_path)


def test_the_workbench_plays_only_what_is_not_configured(tmp_path: Path) -> None:
    credentials = load_or_create_credentials(tmp_path)
    settings = load_settings({**REDIS, **SLACK}, data=tmp_path, port=8123, credentials=credentials)
    assert settings.slack is not None
    assert settings.teams is not None
    assert (settings.slack.local, settings.teams.local) == (False, True)
    assert settings.slack.team_allow_list == {"T1", "E2"}
    assert settings.teams.openid_metadata.startswith("http://127.0.0.1:8123/workbench/teams/")


def test_a_configured_app_never_takes_unsigned_activities(tmp_path: Path) -> None:
    credentials = load_or_create_credentials(tmp_path)
    settings = load_settings({**REDIS, **TEAMS}, data=tmp_path, credentials=credentials)
    assert settings.teams is not None
    assert (settings.teams.emulator, settings.teams.local) == (False, False)


def test_the_models_patience_can_be_set(tmp_path: Path) -> None:
    model = load_settings({**REDIS, "VLLM_FIRST_TOKEN_SECONDS": "2.5"}, data=tmp_path).model
    assert model.limits.first_token == timedelta(seconds=2.5)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pw@host:1/0", "redis://:***@host:1/0"),
        ("postgresql://u:p@ss@host/db?password=pw", "postgresql://u:***@host/db"),
        ("user:pw@host", "user:***@host"),
        ("sqlite:////data/x.db", "sqlite:////data/x.db"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
