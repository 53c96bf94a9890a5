"""The circuit breaker: when it opens, that one probe goes through, and that nothing it learns too late counts."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.breaker import Circuit, CircuitBreaker, CircuitOpen


class Away(Exception):
    pass


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def breaker_with_clock(failures: int = 3) -> tuple[CircuitBreaker, Clock]:
    clock = Clock()
    return CircuitBreaker(failures=failures, cool_down=timedelta(seconds=10), clock=clock), clock


def fail(breaker: CircuitBreaker) -> None:
    with suppress(Away), breaker.attempt(Away):
        raise Away


def succeed(breaker: CircuitBreaker) -> None:
    with breaker.attempt(Away):
        pass


def test_it_opens_after_the_failures_in_a_row_and_refuses() -> None:
    breaker, _ = breaker_with_clock()
    fail(breaker), fail(breaker), succeed(breaker), fail(breaker), fail(breaker)
    assert breaker.circuit is Circuit.CLOSED
    fail(breaker)
    assert breaker.circuit is Circuit.OPEN
    with pytest.raises(CircuitOpen):
        succeed(breaker)


def test_a_successful_probe_closes_it_and_a_failed_one_starts_the_cool_down_again() -> None:
    breaker, clock = breaker_with_clock(failures=1)
    fail(breaker)
    clock.now += 10
    fail(breaker)
    assert breaker.circuit is Circuit.OPEN
    clock.now += 10
    succeed(breaker)
    assert breaker.circuit is Circuit.CLOSED


async def test_of_fifty_calls_at_once_exactly_one_probes() -> None:
    breaker, clock = breaker_with_clock(failures=1)
    fail(breaker)
    clock.now += 10
    let_in = 0
    release = asyncio.Event()

    async def call() -> None:
        nonlocal let_in
        with suppress(CircuitOpen), breaker.attempt(Away):
            let_in += 1
            await release.wait()

    calls = [asyncio.create_task(call()) for _ in range(50)]
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(*calls)
    assert let_in == 1
    assert breaker.circuit is Circuit.CLOSED


def test_a_cancelled_probe_hands_its_place_to_the_next() -> None:
    breaker, clock = breaker_with_clock(failures=1)
    fail(breaker)
    clock.now += 10
    with suppress(asyncio.CancelledError), breaker.attempt(Away):
        raise asyncio.CancelledError
    assert breaker.circuit is Circuit.HALF_OPEN
    succeed(breaker)
    assert breaker.circuit is Circuit.CLOSED


def test_a_slow_success_from_before_does_not_close_an_open_circuit() -> None:
    breaker, _ = breaker_with_clock(failures=1)
    with breaker.attempt(Away):
        fail(breaker)
    assert breaker.circuit is Circuit.OPEN


def test_a_slow_failure_from_before_does_not_open_a_circuit_that_has_closed() -> None:
    breaker, clock = breaker_with_clock(failures=1)
    with suppress(Away), breaker.attempt(Away):
        fail(breaker)
        clock.now += 10
        succeed(breaker)
        raise Away
    assert breaker.circuit is Circuit.CLOSED


def test_an_error_of_ours_is_no_verdict_on_the_peer() -> None:
    breaker, _ = breaker_with_clock(failures=1)
    with suppress(ZeroDivisionError), breaker.attempt(Away):
        raise ZeroDivisionError
    assert breaker.circuit is Circuit.CLOSED


@given(st.lists(st.one_of(st.sampled_from(["succeed", "fail", "cancel"]), st.integers(1, 15)), max_size=60))
def test_it_never_calls_during_the_cool_down_and_always_calls_after_it(steps: list[str | int]) -> None:
    breaker, clock = breaker_with_clock(failures=2)
    in_a_row, opened_at = 0, None
    for step in steps:
        if isinstance(step, int):
            clock.now += step
            continue
        refused = False
        try:
            with breaker.attempt(Away):
                if step == "fail":
                    raise Away
                if step == "cancel":
                    raise asyncio.CancelledError
        except CircuitOpen:
            refused = True
        except (Away, asyncio.CancelledError):
            pass
        assert refused == (opened_at is not None and clock.now - opened_at < 10)
        if refused or step == "cancel":
            continue
        if step == "succeed":
            # One short of opening again: the peer is on trial.
            in_a_row, opened_at = 1 if opened_at is not None else 0, None
            continue
        in_a_row += 1
        if in_a_row >= 2 or opened_at is not None:
            opened_at = clock.now


@pytest.mark.parametrize(("failures", "cool_down"), [(0, timedelta(seconds=1)), (1, timedelta(0))])
def test_a_breaker_that_could_not_work_is_refused(failures: int, cool_down: timedelta) -> None:
    with pytest.raises(ValueError, match="must be"):
        CircuitBreaker(failures=failures, cool_down=cool_down)


def test_a_peer_that_a_probe_found_back_is_on_trial_until_a_call_succeeds() -> None:
    breaker, clock = breaker_with_clock(failures=3)
    for _ in range(3):
        fail(breaker)
    clock.now += 10
    succeed(breaker)
    fail(breaker)
    assert breaker.circuit is Circuit.OPEN
    clock.now += 10
    succeed(breaker)
    succeed(breaker)
    fail(breaker)
    fail(breaker)
    assert breaker.circuit is Circuit.CLOSED
