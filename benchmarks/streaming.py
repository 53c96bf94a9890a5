"""What a client adds to a streamed answer: Countersign's beside a bare HTTP client, OpenAI's own and a LiteLLM proxy.

python -m benchmarks.streaming [--rounds N]

The server streams fixed tokens at a fixed pace in a process of its own; every client runs in a process of its own on
another processor, in turn, round after round. The peers live in an environment that this script makes, from
benchmarks/peers-streaming.txt; where it cannot be made, their rows say so. What it found: docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.machine import described
from benchmarks.peers import peers_environment
from benchmarks.processes import ROOT, Processes, free_port

STREAMS = (1, 16, 64)
TOKENS = 100
PACE_MS = 20
LONG_REQUESTS = 3
SHORT_REQUESTS = {1: 60, 16: 10, 64: 5}
"""Requests of one token each on every stream: what a request costs apart from its tokens."""

PEERS = ROOT / "benchmarks" / "peers-streaming.txt"
ENVIRONMENT = ROOT / ".countersign" / "environments" / "streaming"
CLIENTS = ROOT / "benchmarks" / "stream_clients.py"
LITELLM = "litellm"
SHOWN = {
    "bare": "bare aiohttp + orjson",
    "countersign": "Countersign's client, prompt and checks included",
    "openai": "openai client",
    LITELLM: "bare client through a LiteLLM proxy (its CPU included)",
}
PATIENCE_S = 120.0


@dataclass(slots=True)
class Measured:
    """What the rounds found for one client at one number of streams."""

    first_ms: list[float] = field(default_factory=list)
    cpu_token_us: list[float] = field(default_factory=list)
    cpu_request_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Run:
    """One client process's measurement."""

    first_ms: list[float]
    tokens: int
    cpu_s: float


class Comparison:
    """The clients against one server."""

    def __init__(self, processes: Processes, *, peers: Path | None) -> None:
        self._processes = processes
        self._peers = peers
        self._port = free_port()
        self._proxy: psutil.Process | None = None
        self._proxy_port = free_port()
        self._key = f"sk-{secrets.token_hex(32)}"
        self.measured: dict[str, dict[int, Measured]] = {
            client: {streams: Measured() for streams in STREAMS}
            for client in SHOWN
            if peers is not None or client not in ("openai", LITELLM)
        }

    def run(self, rounds: int) -> None:
        """Start the server and the proxy, then measure all clients, round after round."""
        self._processes.start("benchmarks.stream_server", str(self._port))
        _wait_for(self._port, "/")
        if self._peers is not None:
            self._start_proxy(self._peers)
        for _ in range(rounds):
            for streams in STREAMS:
                for client in self.measured:
                    self._measure(client, streams)

    def _measure(self, client: str, streams: int) -> None:
        long = self._once(client, streams, LONG_REQUESTS, TOKENS)
        short = self._once(client, streams, SHORT_REQUESTS[streams], 1)
        requests = len(short.first_ms)
        found = self.measured[client][streams]
        # With one stream the few long answers are too few to tell times by, and the short ones wait for nobody.
        found.first_ms.extend(short.first_ms if streams == 1 else long.first_ms)
        a_request = short.cpu_s / requests
        found.cpu_request_ms.append(a_request * 1000)
        found.cpu_token_us.append(
            (long.cpu_s - a_request * len(long.first_ms)) / (long.tokens - len(long.first_ms)) * 1e6
        )

    def _once(self, client: str, streams: int, requests: int, tokens: int) -> Run:
        proxy = self._proxy if client == LITELLM else None
        before = _cpu(proxy)
        interpreter = str(self._peers) if client == "openai" else sys.executable
        spread = tokens * PACE_MS / 1000 if tokens > 1 else 0.0
        name = f"tokens-{tokens}"
        url = f"http://127.0.0.1:{self._port}/{name}/pace-{PACE_MS}"
        if proxy is not None:
            url = f"http://127.0.0.1:{self._proxy_port}"
        out = subprocess.run(
            [
                interpreter,
                str(CLIENTS),
                "bare" if client == LITELLM else client,
                url,
                str(streams),
                str(requests),
                str(spread),
                name,
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "STREAMING_BENCHMARK_KEY": self._key},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        if out.returncode:
            raise RuntimeError(f"{client} failed: {out.stderr[-800:]}")
        said = json.loads(out.stdout.splitlines()[-1])
        # The proxy's share of the requests that only warmed up is taken off; they are one in `requests + 1`.
        of_proxy = (_cpu(proxy) - before) * requests / (requests + 1)
        return Run(said["first_ms"], said["tokens"], said["cpu_s"] + of_proxy)

    def _start_proxy(self, peers: Path) -> None:
        """One proxy that serves each length of answer as a model of its own."""
        models = [
            {
                "model_name": f"tokens-{tokens}",
                "litellm_params": {
                    "model": "openai/fixed",
                    "api_base": f"http://127.0.0.1:{self._port}/tokens-{tokens}/pace-{PACE_MS}/v1",
                    "api_key": "key",
                },
            }
            for tokens in (1, TOKENS)
        ]
        # JSON is YAML.
        config = self._processes.folder / "litellm.yaml"
        config.write_text(json.dumps({"model_list": models, "litellm_settings": {"telemetry": False}}))
        child = self._processes.run(
            (str(peers.with_name("litellm")), "--config", str(config), "--port", str(self._proxy_port)),
            {
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_LOG": "ERROR",
                "LITELLM_MASTER_KEY": self._key,
                "PYTHONPATH": "",
            },
        )
        try:
            _wait_for(self._proxy_port, "/health/liveliness")
        except TimeoutError as error:
            raise RuntimeError(f"the proxy did not start:\n{self._processes.logs()}") from error
        self._proxy = psutil.Process(child.pid)

    def table(self) -> str:
        """Medians of the rounds, and what each adds to the bare client."""
        head = ["client", "streams", "first token p50 ms", "added", "CPU a token µs", "added", "CPU a request ms"]
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for client, shown in SHOWN.items():
            for streams in STREAMS:
                found = self.measured.get(client, {}).get(streams)
                bare = self.measured["bare"][streams]
                if found is None:
                    row = [shown, str(streams), "not installed", "", "", "", ""]
                else:
                    first, token = statistics.median(found.first_ms), statistics.median(found.cpu_token_us)
                    row = [
                        shown,
                        str(streams),
                        f"{first:.2f}",
                        f"{first - statistics.median(bare.first_ms):+.2f}",
                        f"{token:.1f}",
                        f"{token - statistics.median(bare.cpu_token_us):+.1f}",
                        f"{statistics.median(found.cpu_request_ms):.2f}",
                    ]
                lines.append("| " + " | ".join(row) + " |")
        return "\n".join(lines)


def _cpu(process: psutil.Process | None) -> float:
    """CPU seconds of a process and its children so far."""
    if process is None:
        return 0.0
    seconds: dict[int, float] = defaultdict(float)
    for each in (process, *process.children(recursive=True)):
        times = each.cpu_times()
        seconds[each.pid] = times.user + times.system
    return sum(seconds.values())


def _wait_for(port: int, path: str) -> None:
    """Wait until the server answers; raises TimeoutError."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"nothing answers on port {port}")


def main() -> None:
    """Read the arguments and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each client; medians are shown")
    rounds = parser.parse_args().rounds
    print(described())
    print(f"{TOKENS} tokens an answer, one every {PACE_MS} ms; {rounds} rounds\n", flush=True)
    with Processes() as processes:
        comparison = Comparison(processes, peers=peers_environment(ENVIRONMENT, PEERS))
        comparison.run(rounds)
        print(comparison.table())
    print("\nNot shown: a network, TLS, a model's own time, prompts of thousands of tokens.")


if __name__ == "__main__":
    main()
