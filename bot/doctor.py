"""`countersign doctor`: what is configured, what answers, and what to do about the rest."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bot.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One part of the installation."""

    part: str
    good: bool
    text: str


async def examine(settings: Settings) -> list[Finding]:
    """Look at every part; never raises for a part that is away."""
    findings = [
        await asyncio.to_thread(_database, settings),
        await asyncio.to_thread(_redis, settings),
        await asyncio.to_thread(_rules, settings),
        _embeddings(),
        await _model(settings),
    ]
    for name, part in (("Slack", settings.slack), ("Teams", settings.teams)):
        if part is None:
            findings.append(Finding(name, True, f"not configured; see docs/connect-{name.lower()}.md"))
        else:
            findings.append(Finding(name, True, "played by the workbench" if part.local else "configured"))
    return findings


def _database(settings: Settings) -> Finding:
    from bot.app import open_database
    from bot.settings import SettingsError
    from records.migrate import current, newest

    try:
        database = open_database(settings)
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
    from actions.hints import Hints

    if settings.redis_url == "unix:///not-used":
        return Finding("redis", True, "not set; `up` brings its own")
    hints = Hints(settings.redis_url)
    try:
        answers = hints.ping()
    finally:
        hints.close()
    return Finding("redis", answers, "answers" if answers else "does not answer; check REDIS_URL and that it runs")


def _rules(settings: Settings) -> Finding:
    from bot.app import RULES_FOLDER
    from policies.people import Directory, PeopleError
    from policies.rules import Rules, RulesError

    try:
        directory = Directory.load(settings.people_file)
        rules = Rules.load(RULES_FOLDER, directory)
    except (PeopleError, RulesError, OSError) as error:
        return Finding("rules", False, str(error))
    return Finding("rules", True, f"{len(rules.ruleset.rules)} rules, digest {rules.digest[:12]}")


def _embeddings() -> Finding:
    from bot.app import MODEL_FOLDER

    there = (MODEL_FOLDER / "model.onnx").exists()
    return Finding("embeddings", there, "prepared" if there else "not prepared; run `./countersign setup`")


async def _model(settings: Settings) -> Finding:
    if settings.model.base_url is None:
        return Finding("model", True, "none; the offline engine answers (set VLLM_BASE_URL and VLLM_MODEL for one)")
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
            session.get(f"{settings.model.base_url}/v1/models", headers=_bearer(settings)) as answer,
        ):
            served = [model["id"] for model in (await answer.json())["data"]]
    except Exception as error:
        return Finding(
            "model", False, f"VLLM_BASE_URL {settings.model.base_url} does not answer ({type(error).__name__})"
        )
    if settings.model.model not in served:
        return Finding("model", False, f"VLLM_MODEL {settings.model.model} is not served; the server has {served}")
    return Finding("model", True, f"{settings.model.model} is served")


def _bearer(settings: Settings) -> dict[str, str]:
    return {"Authorization": f"Bearer {settings.model.api_key}"} if settings.model.api_key else {}
