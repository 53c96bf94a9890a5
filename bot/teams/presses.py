"""Answers to button presses: for the request that waits for one, and for repetitions of it.

They are kept in this process only. A repetition that reaches another process is told that the press was taken, which is
true: the inbox's unique key, not this memory, is what keeps a press from being taken twice.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

REMEMBERED = 2_000

Json = dict[str, Any]


@dataclass(slots=True)
class _Press:
    event_id: str
    answer: asyncio.Future[Json]
    waiting: int = field(default=0)


class Presses:
    """Presses by unique key and by event id.

    presses.open(key, event.id)      # after it was stored
    answer = await presses.wait(key, seconds)
    """

    def __init__(self) -> None:
        self._by_key: OrderedDict[str, _Press] = OrderedDict()
        self._by_event: dict[str, _Press] = {}

    def open(self, key: str, event_id: str) -> None:
        """Note a press that is about to be taken."""
        press = _Press(event_id, asyncio.get_running_loop().create_future())
        self._by_key[key] = self._by_event[event_id] = press
        while len(self._by_key) > REMEMBERED:
            _, oldest = self._by_key.popitem(last=False)
            self._by_event.pop(oldest.event_id, None)

    def knows(self, key: str) -> bool:
        """Whether a press of this key is taken or being taken in this process."""
        return key in self._by_key

    async def wait(self, key: str, seconds: float) -> Json | None:
        """The answer to a known press; None when it takes longer."""
        press = self._by_key[key]
        press.waiting += 1
        try:
            await asyncio.wait([press.answer], timeout=seconds)
        finally:
            press.waiting -= 1
        return press.answer.result() if press.answer.done() else None

    def answer(self, event_id: str, answer: Json) -> bool:
        """Give the answer; whether somebody was waiting for it and so shows it."""
        press = self._by_event.get(event_id)
        if press is None:
            return False
        if press.answer.done():
            press.answer = asyncio.get_running_loop().create_future()
        press.answer.set_result(answer)
        return press.waiting > 0
