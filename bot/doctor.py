"""`countersign doctor`: what is configured, what answers, and what to do about the rest."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from bot.settings import Settings, without_secrets

PATIENCE = timedelta(seconds=5)
"""Longest wait for an outside system."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One part of the installation."""

    part: str
    good: bool
    text: str


async def examine(settings: Settings) -> list[Finding]:
    """Look at every part; never raises for a part that is away."""
    return [
        await asyncio.to_thread(_database, settings),
        await asyncio.to_thread(_redis, settings),
        await asyncio.to_thread(_rules, settings),
        _embeddings(),
        await examine_model(settings),
        await _slack(settings),
        await _teams(settings),
    ]


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


def _embeddings() -> Finding:
    from bot.app import MODEL_FOLDER

    there = (MODEL_FOLDER / "model.onnx").exists()
    return Finding("embeddings", there, "prepared" if there else "not prepared; run `./countersign setup`")


async def examine_model(settings: Settings) -> Finding:
    """Ask the model server what it serves."""
    if settings.model.base_url is None:
        return Finding("model", True, "none; the offline engine answers (set VLLM_BASE_URL and VLLM_MODEL for one)")
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE.total_seconds())) as session,
            session.get(
                f"{settings.model.base_url.removesuffix('/v1')}/v1/models", headers=_bearer(settings)
            ) as answer,
        ):
            served = [model["id"] for model in (await answer.json())["data"]]
    except Exception as error:
        return Finding(
            "model",
            False,
            f"VLLM_BASE_URL {without_secrets(settings.model.base_url)} does not answer ({type(error).__name__})",
        )
    if settings.model.model not in served:
        return Finding("model", False, f"VLLM_MODEL {settings.model.model} is not served; the server has {served}")
    return Finding("model", True, f"{settings.model.model} is served")


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


def _bearer(settings: Settings) -> dict[str, str]:
    return {"Authorization": f"Bearer {settings.model.api_key}"} if settings.model.api_key else {}
