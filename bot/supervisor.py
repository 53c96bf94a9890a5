"""Runs the processes of `countersign up` as children: started in order, started again when they die, none left behind.

A child gets a session of its own, so that Ctrl-C in a terminal reaches the supervisor alone, and on Linux the kernel
kills it should the supervisor die. What it prints goes to `logs/<name>.log`.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from bot.readiness import Address, Answer, get, listens

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: the signal a process gets when its parent dies."""

OLD_LOGS = 3
"""Logs of earlier starts that are kept beside the present one."""

KILLED = 130


class UpError(Exception):
    """The processes can't be brought up; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Child:
    """One process to run for as long as the supervisor does."""

    name: str
    """Names the log and the lines about it."""
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Put on top of the supervisor's own variables."""
    ready: Callable[[], Awaitable[None]] | None = None
    """Awaited before the next child is started; None starts the next at once."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the supervisor waits for what."""

    first_delay: timedelta = timedelta(milliseconds=200)
    """Between a child's death and its next start; doubled at every death."""
    longest_delay: timedelta = timedelta(seconds=5)
    healthy_after: timedelta = timedelta(seconds=10)
    """A child that ran this long begins again with the first delay."""
    grace: timedelta = timedelta(seconds=10)
    """Between SIGTERM and SIGKILL."""
    poll: timedelta = timedelta(milliseconds=50)
    slow_after: timedelta = timedelta(seconds=5)
    """From then on a person is told what is being waited for."""
    give_up_after: timedelta = timedelta(seconds=60)
    deaths_before_ready: int = 3
    """A child that dies so often while all are coming up is taken to be unable to start."""


async def run_up(
    children: Sequence[Child],
    *,
    ready_url: str,
    address: str,
    data: Path,
    say: Callable[[str], None] = lambda line: print(line, flush=True),
    timing: Timing | None = None,
) -> int:
    """Run the children until SIGINT or SIGTERM; returns the exit code.

    `ready_url` is polled until it answers 200, then `address` is printed once. A data folder in use, a taken port and a
    child that can't start each give one clear line and 1.
    """
    try:
        with only_one(data):
            ready_address = Address.of(ready_url)
            if await listens(ready_address):
                raise UpError(
                    f"Port {ready_address.port} is taken: something already listens on "
                    f"{ready_address.host}:{ready_address.port}. Stop it, or choose another port."
                )
            supervisor = Supervisor(children, logs=data / "logs", say=say, timing=timing or Timing())
            return await supervisor.run(ready=lambda: get(ready_address), address=address)
    except UpError as error:
        print(f"countersign: {error}", file=sys.stderr, flush=True)
        return 1


@contextmanager
def only_one(data: Path) -> Iterator[None]:
    """Hold the data folder for this process; raises UpError when another one holds it."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (data / "up.lock").open("a+")
    except OSError as error:
        raise UpError(f"The data folder {data} can't be written: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UpError(
                f"Countersign already runs on {data} (process {lock.read().strip() or 'unknown'}). "
                "Stop it first, or choose another data folder."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


class Supervisor:
    """Brings children up in order, keeps them up, and takes them down in reverse order."""

    def __init__(self, children: Sequence[Child], *, logs: Path, say: Callable[[str], None], timing: Timing) -> None:
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._say = say
        self._timing = timing
        self._running = [_Running(child, logs / f"{child.name}.log", say, timing) for child in children]
        self._stop = asyncio.Event()
        self._killed = False

    async def run(self, *, ready: Callable[[], Awaitable[Answer | None]], address: str) -> int:
        """Run until told to stop; returns 0 after a clean stop, 130 when hurried by a second signal.

        Raises UpError, with everything stopped, when a child can't start or nothing is ready in time.
        """
        loop = asyncio.get_running_loop()
        # A closed terminal stops it too, unless it was started to outlive one (nohup).
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal)
        stopped = asyncio.create_task(self._stop.wait())
        coming_up = asyncio.create_task(self._come_up(ready, address))
        try:
            await asyncio.wait({stopped, coming_up}, return_when=asyncio.FIRST_COMPLETED)
            if coming_up.done():
                coming_up.result()
                await stopped
        finally:
            for task in (coming_up, stopped):
                task.cancel()
            await asyncio.wait({coming_up, stopped})
            for running in reversed(self._running):
                await running.stop()
            for number in numbers:
                loop.remove_signal_handler(number)
        return KILLED if self._killed else 0

    async def _come_up(self, ready: Callable[[], Awaitable[Answer | None]], address: str) -> None:
        try:
            async with asyncio.timeout(self._timing.give_up_after.total_seconds()):
                for running in self._running:
                    running.start()
                    if running.child.ready is not None:
                        await self._unless_one_fails(running.child.ready())
                await self._unless_one_fails(self._until_ready(ready))
        except TimeoutError:
            culprit = max(self._running, key=lambda running: running.deaths)
            about = [culprit] if culprit.deaths else self._running
            limit = self._timing.give_up_after.total_seconds()
            raise UpError(
                f"Not ready after {limit:.0f} s; giving up.\n" + "\n".join(running.last_words() for running in about)
            ) from None
        for running in self._running:
            running.came_up()
        self._say(address)

    async def _unless_one_fails(self, waiting: Awaitable[None]) -> None:
        """Await something; raises UpError as soon as a child proves unable to start."""
        awaited = asyncio.ensure_future(waiting)
        tasks = [running.task for running in self._running if running.task is not None]
        try:
            await asyncio.wait({awaited, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            await awaited
        finally:
            awaited.cancel()

    async def _until_ready(self, ready: Callable[[], Awaitable[Answer | None]]) -> None:
        loop = asyncio.get_running_loop()
        tell_at = loop.time() + self._timing.slow_after.total_seconds()
        while True:
            answer = await ready()
            if answer is not None and answer.status == 200:
                return
            if loop.time() >= tell_at:
                tell_at = loop.time() + self._timing.slow_after.total_seconds()
                self._say(f"Still starting: {self._waited_for(answer)}")
            await asyncio.sleep(self._timing.poll.total_seconds())

    def _waited_for(self, answer: Answer | None) -> str:
        if answer is not None:
            return f"not ready yet, it says: {' '.join(answer.body.split())[:200] or answer.status}"
        down = [running.child.name for running in self._running if not running.alive]
        return f"{', '.join(down)} stopped" if down else "nothing answers yet"

    def _on_signal(self) -> None:
        if not self._stop.is_set():
            self._say("Stopping; Ctrl-C again kills at once.")
            self._stop.set()
            return
        self._killed = True
        for running in self._running:
            running.kill()


class _Running:
    """One child, its log, and the task that keeps it running."""

    def __init__(self, child: Child, log: Path, say: Callable[[str], None], timing: Timing) -> None:
        self.child = child
        self.task: asyncio.Task[None] | None = None
        self.deaths = 0
        self._log = log
        self._say = say
        self._timing = timing
        self._process: asyncio.subprocess.Process | None = None
        self._coming_up = True
        self._stopping = False
        rotate(log)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def start(self) -> None:
        self.task = asyncio.create_task(self._keep_running())

    def came_up(self) -> None:
        """From now on it is started again however often it dies."""
        self._coming_up = False

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        delay = self._timing.first_delay
        while True:
            started = loop.time()
            code = await self._run_once()
            if self._stopping:
                return
            self.deaths += 1
            if self._coming_up and self.deaths >= self._timing.deaths_before_ready:
                raise UpError(f"{self.child.name} can't start ({ending(code)}).\n{self.last_words()}")
            if loop.time() - started >= self._timing.healthy_after.total_seconds():
                delay = self._timing.first_delay
            self._say(
                f"{self.child.name} stopped ({ending(code)}); starting it again in {delay.total_seconds():g} s. "
                f"Its log: {self._log}"
            )
            await asyncio.sleep(delay.total_seconds())
            delay = min(delay * 2, self._timing.longest_delay)

    async def _run_once(self) -> int:
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.child.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env={**os.environ, **self.child.environment},
                start_new_session=True,
                preexec_fn=dies_with_parent(),
            )
        except OSError as error:
            raise UpError(f"{self.child.name} can't be started: {error}") from error
        finally:
            os.close(descriptor)
        code = await self._process.wait()
        # What the child itself started is still in its process group, and must not outlive it.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return code

    async def stop(self) -> None:
        """Ask the child to end, and make it end when it doesn't in time; nothing of its session is left."""
        self._stopping = True
        if self.task is None:
            return
        if self.alive:
            self._signal(signal.SIGTERM)
        else:
            self.task.cancel()
        _done, late = await asyncio.wait({self.task}, timeout=self._timing.grace.total_seconds())
        if late:
            self._say(f"{self.child.name} did not stop within {self._timing.grace.total_seconds():g} s; killing it.")
            self.kill()
            await asyncio.wait({self.task})
        if not self.task.cancelled():
            self.task.exception()

    def kill(self) -> None:
        """Kill the child and whatever it started."""
        self._signal(signal.SIGKILL)

    def last_words(self, lines: int = 15) -> str:
        """Return the end of the log, under a heading that says whose it is."""
        try:
            tail = self._log.read_bytes()[-16384:].decode(errors="replace").splitlines()[-lines:]
        except FileNotFoundError:
            tail = []
        return "\n".join([f"The end of {self._log}:", *(f"  {line}" for line in tail or ["(empty)"])])

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def rotate(log: Path) -> None:
    """Move the log of the last start aside, and those before it one further."""
    for age in range(OLD_LOGS, 0, -1):
        newer = log if age == 1 else log.with_name(f"{log.name}.{age - 1}")
        if newer.exists():
            newer.replace(log.with_name(f"{log.name}.{age}"))


def ending(code: int) -> str:
    """Say how a process ended, from its return code (negative: the signal that killed it)."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def dies_with_parent() -> Callable[[], None] | None:
    """Return what a new child runs before its program so that the kernel kills it with us; None off Linux."""
    if not sys.platform.startswith("linux"):
        return None
    # Loaded here and not in the child: between fork and exec only calls that need no lock are safe.
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask_kernel() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return ask_kernel
