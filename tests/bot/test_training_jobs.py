"""Trainings that a worker runs: one hint, a process of its own, progress that is put down, and no training lost."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from actions.hints import TRAINING_DOOR, Hints, build_worker
from bot.commands.train import train_encoder
from bot.redis_server import EmbeddedRedis
from bot.training_jobs import MOST_STARTS, State, TrainingJob, TrainingJobs
from inference.embeddings import INSTALLED, encoder_folder
from inference.training import TrainingFailed
from tests.inference.training_examples import write_examples

ROOT = Path(__file__).parents[2]
STOCK = ROOT / ".countersign" / "models" / "minilm"


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    examples = write_examples(tmp_path / "examples.json")
    return TrainingJob(str(examples), str(tmp_path / "tuned"), epochs=1, install=False)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[TrainingJobs]:
    jobs = TrainingJobs(tmp_path)
    yield jobs
    jobs.close()


def wait_until(true: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait for what another process does; fails at once when that process has ended."""
    while not true():
        assert process is None or process.poll() is None
        os.sched_yield()


def test_a_job_runs_to_its_end_puts_down_how_far_it_is_and_is_installed(
    jobs: TrainingJobs, job: TrainingJob, tmp_path: Path
) -> None:
    job_id = jobs.add(replace(job, install=True))
    assert jobs.progress(job_id)["state"] == State.ASKED
    assert train_encoder(jobs, job_id, tmp_path) == 0
    progress = jobs.progress(job_id)
    assert progress["state"] == State.DONE
    assert progress["step"] == progress["steps"] > 0
    assert encoder_folder(tmp_path, STOCK) == tmp_path / INSTALLED
    assert jobs.unfinished() == []


def test_a_job_that_cannot_run_says_why_and_is_not_tried_for_ever(
    jobs: TrainingJobs, job: TrainingJob, tmp_path: Path
) -> None:
    job_id = jobs.add(replace(job, train=str(tmp_path / "gone.json")))
    assert train_encoder(jobs, job_id, tmp_path) == 1
    assert jobs.progress(job_id)["state"] == State.FAILED
    assert "gone.json" in jobs.progress(job_id)["note"]
    assert jobs.unfinished() == []


def test_a_started_job_has_a_process_of_its_own_with_the_lowest_priority_and_ends_with_the_worker(
    jobs: TrainingJobs, job: TrainingJob
) -> None:
    job_id = jobs.add(job)
    jobs.start(job_id)
    (child,) = jobs._children
    wait_until(lambda: jobs.progress(job_id)["state"] == State.RUNNING, child)
    assert psutil.Process(child.pid).nice() == 19
    assert jobs.unfinished() == []
    jobs.start(jobs.add(job))
    assert len(jobs._children) == 1
    assert child.stdin is not None
    # What the child sees when the worker is killed.
    child.stdin.close()
    assert child.wait() != 0
    assert jobs.unfinished()[0] == job_id


def test_a_job_whose_process_keeps_ending_at_one_step_is_given_up(jobs: TrainingJobs, job: TrainingJob) -> None:
    job_id = jobs.add(job)
    for _ in range(MOST_STARTS):
        jobs.start(job_id)
        assert jobs.progress(job_id)["state"] == State.ASKED
        jobs.close()
    jobs.start(job_id)
    assert jobs.progress(job_id)["state"] == State.FAILED
    assert "is there enough memory?" in jobs.progress(job_id)["note"]
    assert jobs.unfinished() == []


def test_a_hint_carries_the_id_to_the_worker_and_nothing_else_does(tmp_path: Path) -> None:
    embedded = EmbeddedRedis(tmp_path)
    process = subprocess.Popen(embedded.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    asyncio.run(embedded.wait_ready())
    hints = Hints(embedded.url)
    trained: list[str] = []
    executed: list[str] = []
    try:
        for job_id in ("0123456789abcdef" * 2, "../../etc/passwd"):
            assert hints.send(job_id, door=TRAINING_DOOR)
        assert hints.send("f" * 32, door="os.system")
        build_worker(embedded.url, executed.append, train=trained.append).work(burst=True, logging_level="CRITICAL")
        assert trained == ["0123456789abcdef" * 2]
        assert hints.send("0" * 32, door=TRAINING_DOOR)
        build_worker(embedded.url, executed.append).work(burst=True, logging_level="CRITICAL")
        assert executed == []
    finally:
        hints.close()
        process.kill()
        process.wait()


@pytest.mark.parametrize("job_id", ["0" * 32, "../people", "", "0" * 31 + "g"])
def test_an_id_that_is_no_job_is_refused(jobs: TrainingJobs, job_id: str) -> None:
    with pytest.raises(TrainingFailed):
        jobs.job(job_id)
    with pytest.raises(TrainingFailed):
        jobs.start(job_id)


def test_one_process_runs_a_job(jobs: TrainingJobs, job: TrainingJob) -> None:
    job_id = jobs.add(job)
    with jobs.held(job_id), pytest.raises(TrainingFailed, match="another process"), jobs.held(job_id):
        raise AssertionError


def test_the_command_queues_a_job_without_a_worker_and_tells_its_progress(job: TrainingJob, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment: dict[str, Any] = {
            **os.environ,
            "REDIS_URL": "redis://127.0.0.1:1",
            "COUNTERSIGN_DATA": str(tmp_path),
        }
        command = [sys.executable, "-m", "bot.cli", "train", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)

    queued = run("encoder", "--train", job.train, "--out", job.out, "--epochs", "3", "--queue")
    job_id = queued.stdout.strip()
    assert "within half a minute" in queued.stderr
    assert TrainingJobs(tmp_path).job(job_id) == replace(job, epochs=3)
    assert run("progress", job_id).stdout.startswith("asked: step 0 of 0; waiting for a worker")
    refused = run("progress", "nonsense")
    assert (refused.returncode, refused.stderr.strip()) == (2, "countersign: that is no id of a training")
