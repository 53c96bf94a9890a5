"""`docs/configuration.md` names every variable that the settings read, no other, and the defaults that are in force."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bot.settings import SettingsError, load_settings

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
FOR_SETTINGS = PAGE.partition("## For set-up and tests")[0]

SLACK = {"SLACK_SIGNING_SECRET": "s", "SLACK_BOT_TOKEN": "t", "SLACK_TEAM_IDS": "T1"}
TEAMS = {"TEAMS_APP_ID": "app", "TEAMS_APP_PASSWORD": "p", "TEAMS_TENANT_ID": "tenant"}
MODELS = {
    "VLLM_BASE_URL": "https://llm.example.com",
    "VLLM_MODEL": "small",
    "VLLM_RICH_BASE_URL": "https://llm.example.com",
    "VLLM_RICH_MODEL": "large",
    "EMBEDDINGS_URL": "http://embeddings.internal",
    "EMBEDDINGS_MODEL": "minilm",
}
ALL = {"REDIS_URL": "redis://127.0.0.1:6379/0", **SLACK, **TEAMS, **MODELS}

MADE_WITHOUT_SETTINGS = {"COUNTERSIGN_ENV"}
"""Read by the start script, before there are settings."""


class Recording(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, variables: dict[str, str]) -> None:
        super().__init__(variables)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> str:
        self.asked.add(key)
        return super().__getitem__(key)


def read_variables() -> set[str]:
    """Every variable that the settings ask for when all is configured."""
    environment = Recording(ALL)
    load_settings(environment)
    return environment.asked


def documented() -> dict[str, str]:
    """The variables in the first column of the page's tables, with their second column."""
    rows = re.findall(r"^\|([^|]*)\|([^|]*)\|", FOR_SETTINGS, flags=re.MULTILINE)
    return {name: second.strip() for first, second in rows for name in re.findall(r"`([A-Z][A-Z_]+)`", first)}


def test_every_variable_the_settings_read_is_on_the_page() -> None:
    assert read_variables() - documented().keys() == set()


def test_every_variable_on_the_page_is_read() -> None:
    assert documented().keys() - read_variables() - MADE_WITHOUT_SETTINGS == set()


@pytest.mark.parametrize(
    "variable",
    sorted(name for name, default in documented().items() if re.fullmatch(r"`[^`<]+`", default)),
)
def test_a_default_on_the_page_is_the_one_in_force(variable: str) -> None:
    default = documented()[variable].strip("`")
    try:
        said = load_settings({**ALL, variable: default})
    except SettingsError as error:
        pytest.fail(str(error))
    assert said == load_settings(ALL)


@pytest.mark.parametrize(
    ("url", "location"), [("https://embeddings.example.com", ""), ("http://127.0.0.1:8090", "outside")]
)
def test_an_embedding_server_outside_is_refused_because_every_message_would_go_there(url: str, location: str) -> None:
    with pytest.raises(SettingsError, match="EMBEDDINGS_URL is outside"):
        load_settings({**ALL, "EMBEDDINGS_URL": url, "EMBEDDINGS_LOCATION": location})


def test_an_embedding_server_that_is_said_to_be_inside_is_believed() -> None:
    url = "https://embeddings.example.com"
    settings = load_settings({**ALL, "EMBEDDINGS_URL": url, "EMBEDDINGS_LOCATION": "inside"})
    assert settings.model.embeddings_url == url
