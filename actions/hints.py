"""Hints: RQ jobs that wake a worker. They carry an id and nothing else: no authority, no payload.

A lost hint costs time, never an action; a forged one can only make a worker look at a row. Whoever can write to Redis
can name any importable function in a job, so the worker's job class runs its own doors and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import redis
from redis.exceptions import RedisError
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import SimpleWorker

QUEUE = "countersign"
ENTRY_POINT = "countersign.execute"
"""The job name of an execution; it is a name, not an importable function."""
TRAINING_DOOR = "countersign.train_encoder"
"""The job name of a training of the encoder."""
HINT_TTL_S = 60
"""A hint nobody took for a minute has been replaced by the sweep."""
JOB_TIMEOUT_S = 300
MAX_HINTS = 40
"""At most so many hints wait in Redis: an unbounded queue of hints starves itself."""
SOCKET_TIMEOUT_S = 0.5
"""Hints are sent on the way of a click; Redis gets this long and no longer."""

_ID = re.compile(r"[0-9a-f]{32}")


class HintRefused(Exception):
    """A job in the queue is not one of our hints."""


class Hints:
    """The sending side.

    hints.send(execution_id)        # False when Redis did not take it or has enough; the sweep sends it later
    """

    def __init__(self, redis_url: str) -> None:
        self._connection = redis.Redis.from_url(
            redis_url, socket_timeout=SOCKET_TIMEOUT_S, socket_connect_timeout=SOCKET_TIMEOUT_S
        )
        self._queue = Queue(QUEUE, connection=self._connection, serializer=JSONSerializer)

    def send(self, execution_id: str, *, door: str = ENTRY_POINT) -> bool:
        """Wake a worker for an execution, or what another `door` does with the id, unless enough hints wait.

        Blocks about a second at most; never raises.
        """
        try:
            if self.waiting() >= MAX_HINTS:
                return False
            self._queue.enqueue_call(
                func=door,
                args=(execution_id,),
                timeout=JOB_TIMEOUT_S,
                ttl=HINT_TTL_S,
                result_ttl=0,
                failure_ttl=0,
                description="hint",
            )
        except RedisError:
            return False
        return True

    def room(self) -> int:
        """How many more hints may wait; 0 when Redis does not answer."""
        try:
            return max(0, MAX_HINTS - self.waiting())
        except RedisError:
            return 0

    def waiting(self) -> int:
        """Hints in the queue. Raises RedisError."""
        return int(self._connection.llen(self._queue.key))

    def ping(self) -> bool:
        """Whether Redis answers."""
        try:
            return bool(self._connection.ping())
        except RedisError:
            return False

    def close(self) -> None:
        """Release connections."""
        self._connection.close()


class HintJob(Job):
    """A job that can only be a hint: callbacks and webhooks found in Redis are not looked at."""

    doors: Mapping[str, Callable[[str], None]]

    @property
    def success_callback(self) -> None:
        return None

    @property
    def failure_callback(self) -> None:
        return None

    @property
    def stopped_callback(self) -> None:
        return None

    def send_webhooks(self, status: Any, *, exc_string: str | None = None) -> None:
        return None

    def perform(self) -> None:
        door = type(self).doors.get(self.func_name or "")
        if door is None or self.instance is not None or self.kwargs:
            raise HintRefused("a job that is not a hint was refused")
        if len(self.args) != 1 or not isinstance(self.args[0], str) or not _ID.fullmatch(self.args[0]):
            raise HintRefused("a hint without an id was refused")
        door(self.args[0])


def build_worker(
    redis_url: str, run: Callable[[str], None], *, train: Callable[[str], None] | None = None
) -> SimpleWorker:
    """A worker on our one queue that calls `run(execution_id)`, or `train(job_id)`, for each hint.

    One queue a worker: with two, RQ takes jobs by BLPOP and loses those it holds when it dies.
    """
    doors = {ENTRY_POINT: run} if train is None else {ENTRY_POINT: run, TRAINING_DOOR: train}
    bound = type("BoundHintJob", (HintJob,), {"doors": doors})
    connection = redis.Redis.from_url(redis_url)
    return SimpleWorker(
        [Queue(QUEUE, connection=connection, serializer=JSONSerializer, job_class=bound)],
        connection=connection,
        serializer=JSONSerializer,
        job_class=bound,
        default_result_ttl=0,
        maintenance_interval=15,
        worker_ttl=30,
        job_monitoring_interval=10,
        log_job_description=False,
    )
