"""The gate: its limits hold, nobody who may go waits, the first come go first, and no place is ever lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.excess import Excess
from inference.gate import Gate

FOREVER = timedelta(hours=1)
A_MOMENT = timedelta(milliseconds=5)


@dataclass
class Visitor:
    """Somebody at the gate: waits, holds a place until told to leave, and is gone."""

    tenant: str
    background: bool
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    inside: bool = False
    task: asyncio.Task[None] | None = None

    async def visit(self, gate: Gate, entered: Callable[[Visitor], None]) -> None:
        async with gate.place(self.tenant, background=self.background):
            self.inside = True
            entered(self)
            try:
                await self.leave.wait()
            finally:
                self.inside = False

    @property
    def waiting(self) -> bool:
        assert self.task is not None
        return not self.inside and not self.task.done()


async def settled() -> None:
    """Let every task that can go on go on."""
    for _ in range(6):
        await asyncio.sleep(0)


class Crowd:
    """Visitors of one gate, and the order they got in."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.visitors: list[Visitor] = []
        self.entered: list[Visitor] = []

    async def arrive(self, tenant: str, *, background: bool = False) -> Visitor:
        visitor = Visitor(tenant, background)
        visitor.task = asyncio.create_task(visitor.visit(self.gate, self.entered.append))
        self.visitors.append(visitor)
        await settled()
        return visitor

    async def leave(self, visitor: Visitor) -> None:
        visitor.leave.set()
        await settled()

    async def disperse(self) -> None:
        for visitor in self.visitors:
            assert visitor.task is not None
            visitor.task.cancel()
        await asyncio.gather(*(visitor.task for visitor in self.visitors if visitor.task), return_exceptions=True)


arrivals = st.tuples(st.just("arrive"), st.sampled_from("abc"), st.booleans())
others = st.tuples(st.sampled_from(["leave", "cancel", "leave and cancel at once"]), st.integers(0, 30), st.booleans())


@given(st.lists(st.one_of(arrivals, others), max_size=60))
@settings(max_examples=150, deadline=None)
def test_whatever_happens_the_limits_hold_nobody_waits_for_nothing_and_every_place_comes_back(
    steps: list[tuple[str, str | int, bool]],
) -> None:
    async def run() -> None:
        gate = Gate(in_all=4, per_tenant=3, background=2, patience=FOREVER)
        crowd = Crowd(gate)
        for what, which, background in steps:
            if what == "arrive":
                await crowd.arrive(str(which), background=background)
            else:
                there = [visitor for visitor in crowd.visitors if visitor.task and not visitor.task.done()]
                if there:
                    visitor = there[int(which) % len(there)]
                    if what != "cancel":
                        # The place that comes free is handed over in the same pass of the loop as the cancellation.
                        next((each for each in there if each.inside), visitor).leave.set()
                    if what != "leave" and visitor.task:
                        await asyncio.sleep(0)
                        visitor.task.cancel()
                    await settled()
            inside = [visitor for visitor in crowd.visitors if visitor.inside]
            waiting = [visitor for visitor in crowd.visitors if visitor.waiting]
            assert (gate.under_way, gate.waiting) == (len(inside), len(waiting))
            in_background = sum(visitor.background for visitor in inside)
            of_tenant = {tenant: sum(each.tenant == tenant for each in inside) for tenant in "abc"}
            assert len(inside) <= 4
            assert in_background <= 2
            assert max(of_tenant.values()) <= 3
            for visitor in waiting:
                blocked = len(inside) == 4 or of_tenant[visitor.tenant] == 3
                assert blocked or (visitor.background and in_background == 2)
        await crowd.disperse()
        assert (gate.under_way, gate.waiting) == (0, 0)

    asyncio.run(run())


async def test_people_come_before_background_work_and_each_in_the_order_they_came() -> None:
    crowd = Crowd(Gate(in_all=1, per_tenant=1, background=1, patience=FOREVER))
    first = await crowd.arrive("a")
    digest = await crowd.arrive("a", background=True)
    ana, ben = await crowd.arrive("b"), await crowd.arrive("a")
    for visitor in (first, ana, ben, digest):
        await crowd.leave(visitor)
    assert crowd.entered == [first, ana, ben, digest]


async def test_background_work_leaves_places_free_for_people() -> None:
    crowd = Crowd(Gate(in_all=4, per_tenant=4, background=1, patience=FOREVER))
    digests = [await crowd.arrive("a", background=True) for _ in range(5)]
    person = await crowd.arrive("a")
    assert [digest.inside for digest in digests] == [True, False, False, False, False]
    assert person.inside
    await crowd.disperse()


async def test_one_tenants_crowd_keeps_nobody_else_out() -> None:
    crowd = Crowd(Gate(in_all=3, per_tenant=2, background=3, patience=FOREVER))
    theirs = [await crowd.arrive("a") for _ in range(10)]
    other = await crowd.arrive("b")
    assert other.inside
    assert sum(visitor.inside for visitor in theirs) == 2
    await crowd.disperse()


@pytest.mark.parametrize(
    ("limits", "background", "limit", "words"),
    [
        ((1, 1, 1), False, "all", "Too many people are asking"),
        ((2, 1, 1), False, "tenant", "Your organisation"),
        ((3, 3, 1), True, "background", "background work"),
    ],
)
async def test_who_waits_too_long_is_told_which_limit_it_was(
    limits: tuple[int, int, int], background: bool, limit: str, words: str
) -> None:
    in_all, per_tenant, in_background = limits
    gate = Gate(in_all=in_all, per_tenant=per_tenant, background=in_background, patience=A_MOMENT)
    async with gate.place("a", background=background):
        with pytest.raises(Excess, match=words) as raised:
            async with gate.place("a", background=background):
                pass
        assert raised.value.limit == limit
        assert (gate.under_way, gate.waiting) == (1, 0)
    assert gate.under_way == 0


async def test_a_place_that_comes_in_the_moment_of_a_cancellation_is_given_back() -> None:
    crowd = Crowd(Gate(in_all=1, per_tenant=1, background=1, patience=FOREVER))
    holder, waiter = await crowd.arrive("a"), await crowd.arrive("a")
    assert waiter.task is not None
    holder.leave.set()
    while crowd.gate.waiting:  # noqa: ASYNC110
        await asyncio.sleep(0)
    waiter.task.cancel()
    await settled()
    assert crowd.entered == [holder]
    assert crowd.gate.under_way == 0


async def test_everybody_who_waits_can_be_turned_away_at_once() -> None:
    crowd = Crowd(Gate(in_all=1, per_tenant=1, background=1, patience=FOREVER))
    holder = await crowd.arrive("a")
    waiters = [await crowd.arrive(tenant, background=tenant == "c") for tenant in "abc"]
    crowd.gate.turn_away(lambda: ConnectionError("gone"))
    for waiter in waiters:
        assert waiter.task is not None
        with pytest.raises(ConnectionError):
            await waiter.task
    assert (crowd.gate.under_way, crowd.gate.waiting) == (1, 0)
    await crowd.leave(holder)
    assert crowd.gate.under_way == 0


async def test_a_place_is_given_back_when_what_was_done_in_it_fails() -> None:
    gate = Gate(in_all=1, per_tenant=1, background=1, patience=A_MOMENT)
    for _ in range(3):
        with suppress(ZeroDivisionError):
            async with gate.place("a"):
                raise ZeroDivisionError
    assert gate.under_way == 0


def test_limits_that_would_let_nobody_in_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Gate(background=0)
    with pytest.raises(ValueError, match="patience"):
        Gate(patience=timedelta(0))
