"""The worker process: RQ takes hints on the main thread, everything else runs on one event loop beside it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

import structlog

from actions.execute import FaultPoint, no_fault
from actions.hints import JOB_TIMEOUT_S, build_worker
from bot.app import Core, Work
from bot.settings import Settings
from bot.training_jobs import TrainingJobs

SWEEP_EVERY = timedelta(milliseconds=500)
TRAININGS_EVERY = timedelta(seconds=30)

T = TypeVar("T")

logger = structlog.get_logger(__name__)


def work(settings: Settings, *, fault_point: FaultPoint = no_fault) -> int:
    """Run a worker until SIGTERM or SIGINT; a job under way is finished first."""
    loop = _LoopThread()
    core = Core(settings)
    parts = Work(core, fault_point=fault_point)
    jobs = TrainingJobs(settings.data)
    background = [
        loop.start(_keep_training(jobs)),
        loop.start(parts.keep_sweeping(SWEEP_EVERY)),
        loop.start(core.keep_people_fresh()),
        loop.start(parts.keep_tidy()),
    ]

    def run(execution_id: str) -> None:
        loop.run(parts.executor.run(execution_id))

    worker = build_worker(settings.redis_url, run, train=jobs.start)
    try:
        worker.work(logging_level="WARNING")
    finally:
        for future in background:
            future.cancel()
        jobs.close()
        loop.run(parts.close())
        loop.run(core.close())
        loop.stop()
    return 0


async def _keep_training(jobs: TrainingJobs) -> None:
    """Take up trainings whose hint was lost, or whose worker died, until cancelled."""
    while True:
        try:
            await asyncio.to_thread(jobs.start_next)
        except Exception:
            logger.exception("training_not_started")
        await asyncio.sleep(TRAININGS_EVERY.total_seconds())


class _LoopThread:
    """An event loop on its own thread, so that pooled connections outlive single jobs."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event-loop", daemon=True)
        self._thread.start()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        result: T = asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=JOB_TIMEOUT_S)
        return result

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
