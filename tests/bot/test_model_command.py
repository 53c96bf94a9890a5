"""`countersign model check`: a line a finding, one server after the other, and what the exit code rests on."""

from __future__ import annotations

import pytest

from bot.commands.model import check
from bot.commands.registry import CommandFailed
from bot.model_settings import load_model_settings
from tests.inference.probed_server import GoodServer


async def test_every_configured_server_is_asked_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    fast, rich = GoodServer(), GoodServer()
    runners = [await fast.listen(), await rich.listen()]
    variables = {"VLLM_BASE_URL": fast.url, "VLLM_MODEL": "good"}
    variables |= {"VLLM_RICH_BASE_URL": rich.url, "VLLM_RICH_MODEL": "good"}
    assert await check(load_model_settings(variables), lane=None)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith("ok  ")] == [
        "fast: 127.0.0.1/good",
        "rich: 127.0.0.1/good",
    ]
    for runner in runners:
        await runner.cleanup()


async def test_one_thing_to_mend_is_enough_to_fail(capsys: pytest.CaptureFixture[str]) -> None:
    server = GoodServer()
    server.caches = False
    runner = await server.listen()
    settings = load_model_settings({"VLLM_BASE_URL": server.url, "VLLM_MODEL": "good"})
    assert not await check(settings, lane="fast")
    mend = [line for line in capsys.readouterr().out.splitlines() if line.startswith("MEND")]
    assert len(mend) == 1
    assert "--enable-prefix-caching" in mend[0]
    await runner.cleanup()


@pytest.mark.parametrize(("lane", "variable"), [(None, "VLLM_BASE_URL"), ("rich", "VLLM_RICH_BASE_URL")])
async def test_a_lane_without_a_server_says_what_to_set(lane: str | None, variable: str) -> None:
    with pytest.raises(CommandFailed, match=variable):
        await check(load_model_settings({}), lane=lane)
