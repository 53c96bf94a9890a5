"""Encoder trainings that a worker runs: a folder for each in the data folder, and a process of its own for each run.

The folder is the truth: what is asked for, how far it is, how it ended. A hint in Redis carries its id and nothing
else, so a lost one costs time and a forged one can only make a worker look. A training that died with its worker is
taken up again and goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import structlog

from inference.training import TrainingFailed, TrainingStep

JOB_ID = re.compile(r"[0-9a-f]{32}")
MOST_STARTS = 5
"""A training whose process ends so often at the same step will not get further by itself."""
ROOT = Path(__file__).resolve().parent.parent

logger = structlog.get_logger(__name__)


class State(StrEnum):
    """Where a job stands."""

    ASKED = "asked"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What was asked for."""

    train: str
    """Absolute path of the examples, on a disk that the worker sees."""
    out: str
    """Absolute path of the folder to make."""
    epochs: int
    install: bool


class TrainingJobs:
    """The jobs of one installation.

    job_id = jobs.add(TrainingJob(...))
    jobs.start(job_id)                  # in a process of its own; nothing where one runs already
    jobs.progress(job_id)               # {"state": "running", "step": 120, "steps": 846, "note": "epoch 1, …"}
    """

    def __init__(self, data: Path) -> None:
        """`data` is the data folder, shared by whoever asks and the worker."""
        self._data = data
        self._folder = data / "training"
        self._children: list[subprocess.Popen[bytes]] = []
        self._guard = threading.Lock()
        """A hint and the look for unfinished jobs come on different threads."""

    def add(self, job: TrainingJob) -> str:
        """Store a job; returns its id."""
        job_id = secrets.token_hex(16)
        folder = self._folder / job_id
        folder.mkdir(parents=True)
        self.tell(job_id, State.ASKED, TrainingStep(0, 0, "waiting for a worker"))
        _write(folder / "job.json", asdict(job))
        return job_id

    def job(self, job_id: str) -> TrainingJob:
        """What was asked for. Raises `TrainingFailed` where there is no such job."""
        return TrainingJob(**self._read(job_id, "job.json"))

    def progress(self, job_id: str) -> dict[str, Any]:
        """`state`, `step`, `steps` and `note`. Raises `TrainingFailed` where there is no such job."""
        return self._read(job_id, "progress.json")

    def tell(self, job_id: str, state: State, step: TrainingStep) -> None:
        """Put down where a job is."""
        _write(self._folder / job_id / "progress.json", {"state": state, **asdict(step)})

    def unfinished(self) -> list[str]:
        """Jobs that have not ended and that nobody runs, the oldest first."""
        found = sorted(self._folder.glob("*/job.json"), key=lambda file: file.stat().st_mtime)
        ids = [file.parent.name for file in found if JOB_ID.fullmatch(file.parent.name)]
        return [job_id for job_id in ids if self._is_open(job_id) and not self._is_held(job_id)]

    def start(self, job_id: str) -> None:
        """Begin, or go on with, a job in a process of its own with the lowest priority; it ends when this one does."""
        with self._guard:
            self._children = [child for child in self._children if child.poll() is None]
            if self._children or not self._is_open(job_id) or self._is_held(job_id):
                # One at a time: the next begins when a worker looks for unfinished ones again.
                return
            if self._goes_nowhere(job_id):
                reached = self.progress(job_id)
                note = f"its process ended {MOST_STARTS} times without getting further; is there enough memory?"
                self.tell(job_id, State.FAILED, TrainingStep(reached["step"], reached["steps"], note))
                return
            command = (sys.executable, "-m", "bot.cli", "train", "job", job_id, "--data", str(self._data))
            self._children.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE))
        logger.info("training_started", job=job_id)

    def start_next(self) -> None:
        """Start the oldest unfinished job, if there is one and none runs here."""
        for job_id in self.unfinished()[:1]:
            self.start(job_id)

    @contextlib.contextmanager
    def held(self, job_id: str) -> Iterator[None]:
        """Run a job alone. Raises `TrainingFailed` where another process does."""
        with (self._folder / job_id / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TrainingFailed(f"another process runs the training {job_id}") from None
            yield

    def close(self) -> None:
        """Stop what runs; it goes on from its checkpoint with the next worker."""
        for child in self._children:
            child.kill()
            child.wait()

    def _goes_nowhere(self, job_id: str) -> bool:
        """Count a start; true after too many from one and the same step."""
        reached = self.progress(job_id)["step"]
        try:
            before = self._read(job_id, "starts.json")
        except TrainingFailed:
            before = {"step": reached, "starts": 0}
        starts = before["starts"] + 1 if before["step"] == reached else 1
        _write(self._folder / job_id / "starts.json", {"step": reached, "starts": starts})
        return starts > MOST_STARTS

    def _is_open(self, job_id: str) -> bool:
        return self.progress(job_id)["state"] in (State.ASKED, State.RUNNING)

    def _is_held(self, job_id: str) -> bool:
        try:
            with self.held(job_id):
                return False
        except TrainingFailed:
            return True

    def _read(self, job_id: str, name: str) -> dict[str, Any]:
        if not JOB_ID.fullmatch(job_id):
            raise TrainingFailed("that is no id of a training")
        try:
            content: dict[str, Any] = json.loads((self._folder / job_id / name).read_text())
        except FileNotFoundError:
            raise TrainingFailed(f"there is no training {job_id} in {self._folder}") from None
        return content


def live_with_parent() -> None:
    """In a started process: take the lowest priority, and end at once when the worker that holds our input ends."""
    os.nice(19)

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _write(file: Path, content: dict[str, Any]) -> None:
    partial = file.with_name(file.name + ".partial")
    partial.write_text(json.dumps(content))
    partial.replace(file)
