"""`countersign doctor`: what is configured, what answers, and what to do about the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from bot.model_settings import EndpointSettings
from bot.settings import Settings, without_secrets

PATIENCE = timedelta(seconds=2)
"""Longest wait for an outside system; they are all asked at once."""

NAMES_SHOWN = 5
"""Served models named when the one configured is not among them; a hosted service has dozens."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One part of the installation."""

    part: str
    good: bool
    text: str


async def examine(settings: Settings) -> list[Finding]:
    """Look at every part; never raises for a part that is away."""
    found = await asyncio.gather(
        asyncio.to_thread(_database, settings),
        asyncio.to_thread(_redis, settings),
        asyncio.to_thread(_rules, settings),
        _embeddings(settings),
        asyncio.to_thread(_router, settings),
        examine_model(settings),
        *([_lane("rich model", "VLLM_RICH_", settings.model.rich)] if settings.model.rich else []),
        _slack(settings),
        _teams(settings),
    )
    return [*found, _budget(settings)]


def _database(settings: Settings) -> Finding:
    from bot.settings import SettingsError
    from bot.up import existing_database
    from records.migrate import current, newest

    try:
        database = existing_database(settings)
    except SettingsError as error:
        return Finding("database", False, str(error))
    try:
        found = current(database)
    finally:
        database.close()
    if found != newest():
        return Finding("database", False, "answers, but its schema is old; run `countersign migrate`")
    return Finding("database", True, f"{database.dialect} answers, schema {found}")


def _redis(settings: Settings) -> Finding:
    from bot.settings import SettingsError
    from bot.up import NO_REDIS, check_redis

    if settings.redis_url == NO_REDIS:
        return Finding("redis", True, "REDIS_URL is not set, so `up` brings its own")
    try:
        check_redis(settings)
    except SettingsError as error:
        return Finding("redis", False, str(error))
    return Finding("redis", True, "answers")


def _rules(settings: Settings) -> Finding:
    from bot.settings import SettingsError
    from bot.up import load_rules
    from policies.people import PeopleError
    from policies.rules import RulesError

    try:
        rules = load_rules(settings)
    except (SettingsError, PeopleError, RulesError) as error:
        return Finding("rules", False, str(error))
    return Finding("rules", True, f"{len(rules.ruleset.rules)} rules, digest {rules.digest[:12]}")


async def _embeddings(settings: Settings) -> Finding:
    """What decides where a message goes: the router's vectors, and who computes them."""
    model = settings.model
    if model.embeddings_url is None or model.embeddings_model is None:
        from bot.app import MODEL_FOLDER

        there = (MODEL_FOLDER / "model.onnx").exists()
        return Finding("embeddings", there, "prepared" if there else "not prepared; run `./countersign setup`")
    shown = without_secrets(model.embeddings_url)
    url = f"{model.embeddings_url.removesuffix('/v1')}/v1/embeddings"
    try:
        # A word of ours: nobody's message leaves for a check.
        question = {"model": model.embeddings_model, "input": ["hello"]}
        status, answer = await _ask(url, model.embeddings_api_key, question)
        length = len(answer["data"][0]["embedding"]) if status == 200 else 0
    except Exception as error:
        return Finding("embeddings", False, f"EMBEDDINGS_URL {shown} does not answer ({type(error).__name__})")
    if not length:
        return Finding(
            "embeddings", False, f"EMBEDDINGS_URL {shown} gives no vectors of {model.embeddings_model} ({status})"
        )
    return Finding("embeddings", True, f"{model.embeddings_model} answers with {length} numbers a text")


def _router(settings: Settings) -> Finding:
    """Whether a fit of the skills' intents is at hand; one that is missing is no fault, it only takes its time."""
    if any((settings.data / "models").glob("skills-*")):
        return Finding("router", True, "fitted; it is fitted anew when skills or the embedding model change")
    return Finding("router", True, "not fitted yet; the web process does it when it starts, in some ten seconds")


async def examine_model(settings: Settings) -> Finding:
    """Ask the model server, that of people who wait, what it serves."""
    if settings.model.fast is None:
        return Finding("model", True, "none; the offline engine answers (set VLLM_BASE_URL and VLLM_MODEL for one)")
    return await _lane("model", "VLLM_", settings.model.fast)


async def _lane(part: str, prefix: str, lane: EndpointSettings) -> Finding:
    """Whether a server answers, serves the model, and what may go there. `prefix` begins its variables' names."""
    shown = without_secrets(lane.base_url)
    try:
        status, answer = await _ask(f"{lane.base_url.removesuffix('/v1')}/v1/models", lane.api_key)
        served = [str(model["id"]) for model in answer["data"]] if status == 200 else []
    except Exception as error:
        return Finding(part, False, f"{prefix}BASE_URL {shown} does not answer ({type(error).__name__})")
    if status in (401, 403):
        return Finding(part, False, f"{prefix}BASE_URL {shown} does not take {prefix}API_KEY ({status})")
    if status != 200:
        return Finding(part, False, f"{prefix}BASE_URL {shown} does not say what it serves ({status})")
    if lane.model not in served:
        others = ", ".join(map(repr, served[:NAMES_SHOWN])) + (", …" if len(served) > NAMES_SHOWN else "")
        return Finding(part, False, f"{prefix}MODEL {lane.model} is not served; the server has {others or 'none'}")
    host = urlsplit(lane.base_url).hostname
    if lane.inside:
        return Finding(part, True, f"{lane.model} is served; {host} is inside, so everything may go there")
    if lane.receives == "nothing":
        return Finding(
            part,
            False,
            f"{lane.model} is served, but {host} is outside and receives nothing: every request stays with the offline "
            f"engine; set {prefix}RECEIVES to own-words or everything, or {prefix}LOCATION=inside if it is your own",
        )
    what = "what people ask it themselves, no messages of others" if lane.receives == "own-words" else "everything"
    return Finding(
        part, True, f"{lane.model} is served; {host} is outside and receives {what}, from internal places only"
    )


async def _ask(url: str, api_key: str | None, question: Mapping[str, Any] | None = None) -> tuple[int, Any]:
    """The status and, of a 200, the JSON; a question is POSTed. Raises what aiohttp raises, within `PATIENCE`."""
    import aiohttp

    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    timeout = aiohttp.ClientTimeout(total=PATIENCE.total_seconds())
    async with (
        aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
        # A redirect could lead the key elsewhere.
        session.request("POST" if question else "GET", url, json=question, allow_redirects=False) as answer,
    ):
        return answer.status, await answer.json(content_type=None) if answer.status == 200 else None


def _budget(settings: Settings) -> Finding:
    tokens = settings.model.tokens_per_person_and_day
    if settings.model.fast is None:
        return Finding("budget", True, "no language model, so no tokens are counted")
    if not tokens:
        return Finding("budget", True, "VLLM_TOKENS_PER_PERSON_AND_DAY is 0: nobody's use of the model is limited")
    return Finding("budget", True, f"{tokens:,} tokens a person and day (UTC)")


async def _slack(settings: Settings) -> Finding:
    if settings.slack is None:
        return Finding("Slack", True, "not configured, so `up` plays it; see docs/connect-slack.md")
    from bot.slack.web_api import SlackCallFailed, SlackWebApi

    api = SlackWebApi(settings.slack.api_url, settings.slack.bot_token, timeout=PATIENCE)
    try:
        answer = await api.call("auth.test", {}, tries=1)
    except SlackCallFailed as error:
        return Finding("Slack", False, f"does not take SLACK_BOT_TOKEN ({error.code}); see docs/connect-slack.md")
    finally:
        await api.close()
    ids = {str(answer.get("team_id")), str(answer.get("enterprise_id"))}
    if not ids & settings.slack.team_allow_list:
        return Finding("Slack", False, f"the token is for workspace {answer.get('team_id')}; add it to SLACK_TEAM_IDS")
    return Finding("Slack", True, f"the token is good, for workspace {answer.get('team_id')}")


async def _teams(settings: Settings) -> Finding:
    teams = settings.teams
    if teams is None:
        return Finding("Teams", True, "not configured, so `up` plays it; see docs/connect-teams.md")
    import aiohttp

    from bot.teams.tokens import ServiceToken, TokenUnavailable

    token = ServiceToken(token_url=teams.token_url, app_id=teams.app_id, app_password=teams.app_password)
    timeout = aiohttp.ClientTimeout(total=PATIENCE.total_seconds())
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            await token.value(session)
    except TokenUnavailable as error:
        wanted = "TEAMS_APP_ID, TEAMS_APP_PASSWORD and TEAMS_TENANT_ID"
        return Finding("Teams", False, f"{error}; check {wanted}, see docs/connect-teams.md")
    return Finding("Teams", True, f"the app's password is good, for tenant {teams.tenant_id}")
