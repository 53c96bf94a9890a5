"""What a probe says of servers that do everything, something or nothing of what is asked of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from inference.chat_completions import Dialect
from inference.limits import ModelLimits
from inference.probe import Probe
from inference.probe_requests import OUTLINE, PLAIN_REQUESTS, TOOLS, fits_outline
from tests.inference.probed_server import OUTLINED, GoodServer

LIMITS = ModelLimits(
    first_token=timedelta(seconds=0.5), between_tokens=timedelta(seconds=0.5), total=timedelta(seconds=3)
)


async def findings(server: GoodServer, **options: Any) -> dict[str, tuple[bool, str]]:
    """By question: whether it is good, and the text."""
    runner = await server.listen()
    options = {"model": "good", "limits": LIMITS, "abort_patience": timedelta(seconds=0.3), **options}
    probe = Probe(server.url, **options)
    try:
        async with aclosing(probe.findings()) as found:
            return {each.question: (each.good, each.text) async for each in found}
    finally:
        await probe.close()
        await runner.cleanup()


@pytest.fixture
def server() -> GoodServer:
    return GoodServer()


async def test_a_server_that_does_everything_has_nothing_to_mend(server: GoodServer) -> None:
    found = await findings(server)
    assert [question for question, (good, _) in found.items() if not good] == []
    assert found["tool calls"] == (True, "3 of 3 plain requests became the right call")
    assert found["context"] == (True, "16,384 tokens")
    assert found["cancelling"][1].startswith("stops ")
    assert "500 of 600" in found["prefix cache"][1]
    assert "median" in found["first token"][1]
    assert "tokens a second" in found["speed"][1]


async def test_a_server_that_is_not_there_is_one_finding() -> None:
    probe = Probe("http://127.0.0.1:9", "good", limits=LIMITS)
    found = [finding async for finding in probe.findings()]
    await probe.close()
    assert [(each.question, each.good) for each in found] == [("reachable", False)]
    assert "VLLM_BASE_URL" in found[0].text


@pytest.mark.parametrize(
    ("models", "status", "words"),
    [("<html>", 200, "no list of models"), ({"data": 3}, 200, "no list of models"), ("", 502, "answers 502")],
)
async def test_nonsense_instead_of_a_list_of_models_is_described(
    server: GoodServer, models: Any, status: int, words: str
) -> None:
    server.models, server.status = models, status
    found = await findings(server)
    assert list(found) == ["reachable"]
    assert words in found["reachable"][1]


async def test_a_model_of_another_name_is_answered_with_the_names_there_are(server: GoodServer) -> None:
    found = await findings(server, model="better")
    assert list(found) == ["reachable", "model"]
    assert "set VLLM_MODEL to what is: good" in found["model"][1]


async def test_a_key_that_is_missing_is_asked_for_and_one_that_is_right_is_used(server: GoodServer) -> None:
    server.key = "secret"
    found = await findings(server, variables="VLLM_RICH_")
    assert "set VLLM_RICH_API_KEY" in found["reachable"][1]
    assert (await findings(server, api_key="secret"))["reachable"][0]


@pytest.mark.parametrize(
    ("change", "question", "advice"),
    [
        ({"models": {"data": [{"id": "good", "max_model_len": 2048}]}}, "context", "--max-model-len"),
        ({"refuses": {"tools": "needs --tool-call-parser"}}, "tool calls", "--enable-auto-tool-choice"),
        ({"calls": {}}, "tool calls", "0 of 3"),
        ({"outlined": "A tide, gamboge."}, "structured", "response_format"),
        ({"refuses": {"response_format": "unknown"}}, "structured", "structured outputs"),
        ({"refuses": {"priority": "priority is not enabled"}}, "priority", "--scheduling-policy=priority"),
        ({"refuses": {"cache_salt": "unknown field"}}, "priority", "VLLM_DIALECT=openai"),
        ({"caches": False}, "prefix cache", "--enable-prefix-caching"),
        ({"tells_cached": False}, "prefix cache", "--enable-prompt-tokens-details"),
        ({"stops": False}, "cancelling", "still works"),
    ],
)
async def test_what_a_server_lacks_is_found_and_nothing_else(
    server: GoodServer, change: Mapping[str, Any], question: str, advice: str
) -> None:
    for name, value in change.items():
        setattr(server, name, value)
    found = await findings(server)
    assert {name: text for name, (good, text) in found.items() if not good}.keys() == {question}
    assert advice in found[question][1]


async def test_another_company_s_server_need_not_do_what_only_vllm_does(server: GoodServer) -> None:
    server.has_metrics = server.tells_cached = False
    server.models = {"data": [{"id": "good"}]}
    server.refuses = {"priority": "unknown field", "ignore_eos": "unknown field"}
    found = await findings(server, dialect=Dialect.OPENAI)
    assert [question for question, (good, _) in found.items() if not good] == []
    assert "not asked for" in found["priority"][1]


async def test_a_server_that_hangs_ends_the_check_at_the_first_limit() -> None:
    class Hangs(GoodServer):
        async def complete(self, request: web.Request) -> web.StreamResponse:
            await asyncio.Event().wait()
            raise AssertionError

    found = await findings(Hangs())
    assert list(found)[-1] == "streaming"
    assert found["streaming"] == (
        False,
        "the model server was too slow with the first token; nothing more was asked",
    )


def test_an_outline_is_told_from_what_is_none() -> None:
    assert fits_outline(OUTLINED)
    assert not fits_outline("")
    assert not fits_outline(json.dumps({"colour": "red", "chapters": ["tide", "storm"]}))
    assert OUTLINE["additionalProperties"] is False
    assert {tool.name for tool in TOOLS} == {tool for _, tool, _ in PLAIN_REQUESTS}
