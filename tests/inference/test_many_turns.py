"""Thousands of turns against a server that does everything wrong in turn leave nothing behind.

COUNTERSIGN_LONG_TESTS=1 makes it ten thousand.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from inference.limits import ModelLimits
from inference.model import Facts, Label, ModelUnavailable, Tool, Utterance
from inference.purpose import Lane, Purpose
from inference.vllm import VllmModel
from tests.doubles.model_server import Fault, ModelServer

TURNS = 10_000 if os.environ.get("COUNTERSIGN_LONG_TESTS") == "1" else 2_000
AT_ONCE = 25
SETTLED = 500
"""Turns after which caches are warm and memory is measured for the first time."""
MOST_GROWTH = 400_000
"""Bytes of traced memory, for all the turns after that: a leak of 300 bytes a turn is found."""

LIMITS = ModelLimits(
    first_token=timedelta(milliseconds=150),
    between_tokens=timedelta(milliseconds=150),
    total=timedelta(milliseconds=600),
)
MOST_SECONDS = 2.0
"""How long one turn may take at most; more than the total limit, for a busy machine."""

THREAD = (Utterance("1.1", "Ana", "TCK-7 is done.", datetime(2026, 3, 2, 9, tzinfo=UTC)),)
LABELS = (Label("close", "Close a ticket"), Label("help", "What can you do"))
CLOSE = Tool(
    "tickets.close",
    "Close a ticket",
    {
        "type": "object",
        "properties": {"ticket": {"type": "string"}},
        "required": ["ticket"],
        "additionalProperties": False,
    },
)


class Person:
    """Asks for something else each time, and now and then leaves in the middle of an answer."""

    def __init__(self, model: VllmModel, seed: int) -> None:
        self._model = model
        self._random = random.Random(seed)
        self.outcomes: Counter[str] = Counter()

    async def turn(self, number: int) -> None:
        """One question, answered or given up in time."""
        lane = self._random.choice((Lane.FAST, Lane.RICH))
        model = self._model.on_behalf_of(Purpose(tenant=f"T{number % 3}", request_id=f"turn-{number}", lane=lane))
        kind = self._random.choice(("reply", "leave", "classify", "plan", "draft"))
        try:
            async with asyncio.timeout(MOST_SECONDS):
                await self._ask(model, kind)
            self.outcomes["answered"] += 1
        except ModelUnavailable as error:
            self.outcomes["unavailable" if str(error) else "unavailable without a cause"] += 1

    async def _ask(self, model: VllmModel, kind: str) -> None:
        if kind == "plan":
            await model.propose_plan("close TCK-7", [CLOSE], THREAD)
        elif kind == "classify":
            await model.classify("close it", LABELS)
        elif kind == "draft":
            await model.draft("say hello", THREAD)
        else:
            async with aclosing(model.reply("hello", Facts(thread=THREAD))) as pieces:
                async for _ in pieces:
                    if kind == "leave":
                        break


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        calls = [{"tool": "tickets.close", "arguments": {"ticket": "TCK-7"}}]
        server.answers["propose_plan"] = json.dumps({"calls": calls, "reason": "You asked."})
        yield server


async def test_thousands_of_turns_with_every_fault_leave_nothing_open_running_or_in_memory(server: ModelServer) -> None:
    spent: Counter[str] = Counter()
    model = VllmModel(
        server.url,
        "tiny",
        None,
        LIMITS,
        salt_key=bytes(32),
        observe=lambda kind, seconds, outcome: spent.update(observed=1),
        spent=lambda purpose, usage: spent.update(spent=1),
    )
    person = Person(model, seed=7)
    # Most turns are answered, as in life; a fault lasts for one round of turns at once.
    faults = list(Fault)
    before = asyncio.all_tasks()
    settled = 0
    tracemalloc.start()
    try:
        for round, start in enumerate(range(0, TURNS, AT_ONCE)):
            server.fault = faults[round // 2 % len(faults)] if round % 2 else None
            await asyncio.gather(*(person.turn(number) for number in range(start, start + AT_ONCE)))
            async with asyncio.timeout(MOST_SECONDS):
                await server.idle()
            server.requests.clear()
            if start + AT_ONCE == SETTLED:
                gc.collect()
                settled = tracemalloc.get_traced_memory()[0]
        gc.collect()
        growth = tracemalloc.get_traced_memory()[0] - settled
    finally:
        tracemalloc.stop()
    await model.close()
    async with asyncio.timeout(MOST_SECONDS):
        # What ends with a connection ends in the next few rounds of the event loop; there is nothing to wait on.
        while server.connections or asyncio.all_tasks() - before:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert person.outcomes.keys() == {"answered", "unavailable"}
    assert person.outcomes.total() == TURNS
    assert person.outcomes["answered"] > TURNS / 2
    assert person.outcomes["unavailable"] > TURNS / 10
    assert TURNS < spent["spent"] < 2 * TURNS
    assert spent["observed"] == spent["spent"]
    assert growth < MOST_GROWTH, growth
