"""A real vLLM server for the tests: started, waited for, watched and surely ended.

with Serving(python, folder_of_a_model, log) as server:
    VllmModel(server.url, server.model)
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

SCRIPT = Path(__file__).with_name("tiny_model.py")
MODELS = SCRIPT.parents[2] / ".countersign" / "models"

PATIENCE = 240.0
"""Seconds a start may take; some 15 to 30 with compiled files and an idle core."""
READY = "Application startup complete"
PR_SET_PDEATHSIG = 1

VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    # Otherwise the first request that asks for log probabilities compiles for 15 seconds.
    "TORCH_COMPILE_DISABLE": "1",
}
"""What vLLM's CPU build needs to run beside other things, offline and without reporting home."""

CONTEXT = 32768
LONG = 30000
"""Tokens of an answer that takes many seconds even of a model that writes a thousand in one."""

FLAGS = (
    "--dtype=bfloat16", "--enforce-eager", "--generation-config=vllm",
    # Room for answers so long that even a model as small as this is still writing when a test looks.
    f"--max-model-len={CONTEXT}", f'--hf-overrides={{"max_position_embeddings": {CONTEXT}}}',
    "--enable-auto-tool-choice", "--tool-call-parser=hermes", "--scheduling-policy=priority",
    "--enable-prefix-caching", "--enable-prompt-tokens-details", "--enable-request-id-headers",
    # Else a weak model may write spaces between two values for ever.
    '--structured-outputs-config={"backend": "xgrammar", "disable_any_whitespace": true}',
    # Few slots, so that a test can fill them and see who is let in first.
    "--max-num-seqs=4",
)  # fmt: skip


def tiny_model(python: Path, kind: str) -> Path:
    """The folder of a model the tests make themselves; kept by the hash of the script, since training takes minutes."""
    folder = MODELS / f"tiny-{kind}-{hashlib.sha256(SCRIPT.read_bytes()).hexdigest()[:16]}"
    if not folder.exists():
        partial = folder.with_suffix(f".{os.getpid()}.partial")
        try:
            subprocess.run([python, SCRIPT, kind, partial], check=True)
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


class Serving:
    """One server process on a port of its own, which it keeps over restarts."""

    def __init__(self, python: Path, folder: Path, log: Path, *, model: str = "tiny") -> None:
        """`python` has vLLM; `folder` is the model's; everything the server prints goes to the file `log`."""
        self._python = python
        self._folder = folder
        self._log = log
        self.model = model
        """The name it is served under."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start and wait until it answers. Raises RuntimeError with its last words when it ends or takes too long.

        Call it from the main thread: the server ends with the thread that started it.
        """
        ready = threading.Event()
        self._process = subprocess.Popen(
            [
                self._python, "-m", "vllm.entrypoints.cli.main", "serve", self._folder,
                f"--served-model-name={self.model}", "--host=127.0.0.1", f"--port={self._port}", *FLAGS,
            ],
            env={**os.environ, **VARIABLES},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._keep, args=(self._process, ready), daemon=True)
        self._reader.start()
        try:
            if not ready.wait(PATIENCE) or not self._listens():
                raise RuntimeError(f"the model server did not start; its last words:\n{self.log()[-3000:]}")
            self._warm_up()
        except BaseException:
            self.kill()
            raise

    @property
    def runs(self) -> bool:
        """It was started and not killed since."""
        return self._process is not None

    def kill(self) -> None:
        """End it and whatever it started, at once; returns when nothing of it is left to be waited for."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if self._reader is not None:
            self._reader.join()

    def log(self) -> str:
        """Everything it has printed since the tests began."""
        return self._log.read_text() if self._log.exists() else ""

    async def metrics(self) -> Mapping[str, float]:
        """What `/metrics` says now, by name, summed over the labels."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as answer:
            found: dict[str, float] = {}
            for name, value in re.findall(r"^(vllm:\w+)(?:\{[^}]*\})? (\S+)$", await answer.text(), re.MULTILINE):
                found[name] = found.get(name, 0.0) + float(value)
            return found

    async def until(self, name: str, value: float, within: float) -> float:
        """Ask `/metrics` until a figure is `value`; how many seconds it took. Raises TimeoutError."""
        started = time.monotonic()
        while (await self.metrics()).get(name) != value:
            if time.monotonic() - started > within:
                raise TimeoutError(f"{name} is {(await self.metrics()).get(name)} and not {value} after {within} s")
        return time.monotonic() - started

    def _listens(self) -> bool:
        """It says that it is ready a moment before it takes connections."""
        until = time.monotonic() + PATIENCE
        while self._process is not None and self._process.poll() is None and time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return True
        return False

    def _warm_up(self) -> None:
        """The first answer and the first figures take seconds; no test is about that."""
        body = {"model": self.model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 16}
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        for each in (request, f"{self.url}/metrics"):
            with urllib.request.urlopen(each, timeout=PATIENCE) as answer:
                answer.read()

    def _keep(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stdout is not None
        with process.stdout, self._log.open("a") as log:
            for line in process.stdout:
                log.write(line)
                log.flush()
                if READY in line:
                    ready.set()
        # It has ended: whoever waits for its start need not wait for the limit.
        process.wait()
        ready.set()


def _die_with_parent() -> None:
    # Should the tests be killed outright, nobody is left to end the server; what it has started ends with it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
