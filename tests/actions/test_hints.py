"""Hints against a real Redis: what a worker takes from the queue, what it refuses, and what a lost hint costs."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from rq import Queue
from rq.job import Job
from rq.serializers import DefaultSerializer, JSONSerializer

from actions import executions
from actions.hints import ENTRY_POINT, MAX_HINTS, QUEUE, Hints, build_worker
from actions.road import Road
from actions.sweep import Sweep
from bot.redis_server import EmbeddedRedis
from tests.invariants.approval_world import LIFETIME, World

IDENTITY = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """The server that `countersign up` runs."""
    embedded = EmbeddedRedis(tmp_path_factory.mktemp("redis"))
    process = subprocess.Popen(embedded.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    asyncio.run(embedded.wait_ready())
    yield embedded
    process.kill()
    process.wait()


class Worker:
    """A real RQ worker that notes what it was asked to run."""

    def __init__(self, url: str) -> None:
        self.ran: list[str] = []
        self.redis = redis.Redis.from_url(url)
        self.redis.flushall()
        self.queue = Queue(QUEUE, connection=self.redis, serializer=JSONSerializer)
        self.worker = build_worker(url, self.ran.append)

    def drain(self) -> list[str]:
        """Take every job there is; returns the executions that were run."""
        self.worker.work(burst=True, logging_level="CRITICAL")
        return self.ran

    def forge(self, function: str, *arguments: Any, **more: Any) -> Job:
        """Put a job in the queue as somebody who can write to Redis would."""
        fields = more.pop("fields", {})
        job = self.queue.enqueue_call(func=function, args=arguments, **more)
        if fields:
            self.redis.hset(job.key, mapping=fields)
        return job


@pytest.fixture
def worker(server: EmbeddedRedis) -> Iterator[Worker]:
    """A worker on an empty queue."""
    built = Worker(server.url)
    yield built
    built.redis.flushall()
    built.redis.close()


@pytest.fixture
def hints(server: EmbeddedRedis) -> Iterator[Hints]:
    """The sending side."""
    sending = Hints(server.url)
    yield sending
    sending.close()


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """A file that exists only when something ran that must not."""
    return tmp_path / "it-ran"


def test_a_hint_wakes_a_worker_for_its_execution_and_leaves_nothing_behind(worker: Worker, hints: Hints) -> None:
    assert hints.send(IDENTITY)
    assert worker.drain() == [IDENTITY]
    assert hints.waiting() == 0
    assert list(worker.redis.keys("rq:job:*")) == []


def test_a_hint_carries_an_id_and_nothing_else(worker: Worker, hints: Hints) -> None:
    hints.send(IDENTITY)
    (job,) = worker.queue.jobs
    assert (job.func_name, list(job.args), dict(job.kwargs)) == (ENTRY_POINT, [IDENTITY], {})
    assert job.meta == {}


@pytest.mark.parametrize(
    "function", ["os.system", "subprocess.check_call", "builtins.eval", "countersign.execute2", ""]
)
def test_a_job_that_names_another_function_runs_nothing(worker: Worker, proof: Path, function: str) -> None:
    try:
        worker.forge(function, f"touch {proof}")
    except ValueError:
        return
    assert worker.drain() == []
    assert not proof.exists()


@pytest.mark.parametrize("field", ["success_callback_name", "failure_callback_name", "stopped_callback_name"])
@pytest.mark.parametrize("function", [ENTRY_POINT, "os.system"])
def test_a_callback_found_in_redis_is_not_called(worker: Worker, proof: Path, field: str, function: str) -> None:
    worker.forge(function, IDENTITY, fields={field: "tests.actions.test_hints.touch", "description": str(proof)})
    worker.drain()
    assert not proof.exists()
    assert worker.ran == ([IDENTITY] if function == ENTRY_POINT else [])


def test_the_callback_test_can_fail(worker: Worker, proof: Path) -> None:
    """The same forgery against RQ's own job class does call back, so the tests above show something."""
    from rq import SimpleWorker

    worker.forge(
        "os.getpid", fields={"success_callback_name": "tests.actions.test_hints.touch", "description": str(proof)}
    )
    SimpleWorker([worker.queue], connection=worker.redis, serializer=JSONSerializer).work(
        burst=True, logging_level="CRITICAL"
    )
    assert proof.exists()


def touch(job: Job, *_: object) -> None:
    """A callback that leaves its mark where the job's description says."""
    assert job.description is not None
    Path(job.description).touch()


def test_a_webhook_found_in_redis_is_not_called(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    from rq import webhook

    called: list[str] = []
    monkeypatch.setattr(webhook.Webhook, "send", lambda self, *args, **kwargs: called.append(self.url))
    hooks: list[dict[str, Any]] = [
        {"url": "http://127.0.0.1:9/", "job_status": status, "headers": {}, "timeout": 1}
        for status in ("finished", "failed")
    ]
    worker.forge(ENTRY_POINT, IDENTITY, fields={"webhooks": json.dumps(hooks)})
    worker.forge("os.system", "true", fields={"webhooks": json.dumps(hooks)})
    assert worker.drain() == [IDENTITY]
    assert called == []


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (IDENTITY, "more"),
        ("short",),
        (IDENTITY.upper(),),
        (IDENTITY + "\n",),
        (f"{IDENTITY}; true",),
        (7,),
        ([IDENTITY],),
        (None,),
    ],
)
def test_a_hint_with_other_arguments_than_one_id_is_refused(worker: Worker, arguments: tuple[object, ...]) -> None:
    worker.forge(ENTRY_POINT, *arguments)
    assert worker.drain() == []


def test_a_hint_with_named_arguments_or_an_instance_is_refused(worker: Worker) -> None:
    worker.forge(ENTRY_POINT, IDENTITY, kwargs={"authority": "all"})
    job = worker.forge(ENTRY_POINT, IDENTITY)
    forged = json.dumps([ENTRY_POINT, "os", [IDENTITY], {}]).encode()
    worker.redis.hset(job.key, "data", forged)
    assert worker.drain() == []


def test_a_pickled_job_is_never_unpickled(worker: Worker, proof: Path) -> None:
    """A pickle in the job's data runs code where it is read; ours is read as JSON only."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return Path.touch, (proof,)  # type: ignore[return-value]

    job = worker.forge(ENTRY_POINT, IDENTITY)
    worker.redis.hset(job.key, "data", DefaultSerializer.dumps(("os.getpid", None, (Bomb(),), {})))
    assert worker.drain() == []
    assert not proof.exists()


def test_a_refused_job_does_not_stop_the_next_hint(worker: Worker, hints: Hints) -> None:
    worker.forge("os.system", "true")
    hints.send(IDENTITY)
    assert worker.drain() == [IDENTITY]


def test_at_most_a_bounded_number_of_hints_waits(worker: Worker, hints: Hints) -> None:
    for number in range(MAX_HINTS):
        assert hints.room() == MAX_HINTS - number
        assert hints.send(f"{number:032x}")
    assert hints.room() == 0
    assert not hints.send(IDENTITY)
    assert hints.waiting() == MAX_HINTS
    assert len(worker.drain()) == MAX_HINTS
    assert hints.room() == MAX_HINTS


def test_a_redis_that_is_away_is_an_answer_and_no_error(tmp_path: Path) -> None:
    away = Hints(f"unix://{tmp_path / 'nobody.sock'}")
    assert not away.send(IDENTITY)
    assert away.room() == 0
    assert not away.ping()
    away.close()


async def test_hints_lost_by_flushall_are_sent_again_by_the_sweep_and_it_runs_once(
    worker: Worker, hints: Hints, tmp_path: Path
) -> None:
    """Between click and execution Redis forgets everything."""
    world = World(tmp_path, f"sqlite:///{tmp_path / 'world.db'}")
    world.road = Road(world.database, world.catalogue, world.judgement, hints, lifetime=LIFETIME)
    sweep = Sweep(world.database, hints)
    _, execution_id = await world.approved()
    assert hints.waiting() == 1
    worker.redis.flushall()
    assert await sweep.once() == 0, "the direct hint has a moment before the sweep sends another"
    world.let_pass(timedelta(seconds=2))
    assert await sweep.once() == 1
    for woken in worker.drain():
        await world.run(woken)
    assert (await world.execution(execution_id)).state is executions.State.DONE
    assert len(world.ledger.effects) == 1
    world.let_pass(timedelta(minutes=5))
    assert await sweep.once() == 0, "what is done is not hinted at"
    world.close()


async def test_the_sweep_hints_within_the_room_there_is_and_the_rest_later(
    worker: Worker, hints: Hints, tmp_path: Path
) -> None:
    world = World(tmp_path, f"sqlite:///{tmp_path / 'world.db'}")
    orders = [(await world.ask("ledger.note")).execution_id for _ in range(MAX_HINTS + 5)]
    world.let_pass(timedelta(seconds=5))
    sweep = Sweep(world.database, hints)
    assert await sweep.once() == MAX_HINTS
    assert await sweep.once() == 0
    for woken in worker.drain():
        await world.run(woken)
    assert await sweep.once() == 5
    for woken in worker.drain():
        await world.run(woken)
    assert len({key for _, _, key in world.ledger.effects}) == len(orders) == len(world.ledger.effects)
    world.close()
