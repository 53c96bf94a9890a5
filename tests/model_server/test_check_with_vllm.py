"""`countersign model check` against real servers: one as it should be, one whose model cannot call tools."""

from __future__ import annotations

from contextlib import aclosing

from inference.probe import Finding, Probe
from tests.model_server.serving import Serving


async def findings(server: Serving) -> dict[str, Finding]:
    probe = Probe(server.url, server.model)
    async with aclosing(probe.findings()) as findings:
        found = {finding.question: finding async for finding in findings}
    await probe.close()
    return found


async def test_a_server_started_as_we_say_has_nothing_to_mend(server: Serving) -> None:
    found = await findings(server)
    assert [finding for finding in found.values() if not finding.good] == []
    assert "3 of 3" in found["tool calls"].text
    assert found["cancelling"].text.startswith("stops ")
    assert "came from the cache" in found["prefix cache"].text


async def test_a_model_that_cannot_call_tools_is_found_out_and_everything_else_still_measured(
    untrained: Serving,
) -> None:
    found = await findings(untrained)
    assert [name for name, finding in found.items() if not finding.good] == ["tool calls"]
    assert "0 of 3" in found["tool calls"].text
    assert "VLLM_PLANS_BY=schema" in found["tool calls"].text
