"""What `/metrics` says: counters of this process, and the state of the rows that all processes share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import ColumnElement, func, select

from actions.executions import executions
from actions.hints import Hints
from inference.breaker import Circuit
from inference.purpose import Lane
from inference.tier import Tier
from inference.usage import Usage
from policies.approvals import approvals
from records.database import Database, Transaction
from records.inbox import inbox
from records.outbox import outbox

Rows = list[tuple[str, int]]


class Metrics:
    """The counters doors and engines feed, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._events = Counter(
            "countersign_events", "Inbound events by door and outcome.", ["door", "outcome"], registry=self._registry
        )
        self._model = Histogram(
            "countersign_model_seconds",
            "Calls of the inference engine.",
            ["call", "outcome"],
            registry=self._registry,
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60),
        )

        self._first_token = Histogram(
            "countersign_model_first_token_seconds",
            "From a question to the first piece of a reply by a lane's model, waiting for a place included.",
            ["lane"],
            registry=self._registry,
            buckets=(0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
        )
        self._tokens = Counter(
            "countersign_model_tokens",
            "Tokens by lane and kind, as the servers reported them, and reckoned where they did not.",
            ["lane", "kind"],
            registry=self._registry,
        )
        self._hit_ratio = Gauge(
            "countersign_model_prefix_cache_hit_ratio",
            "Share of the prompt tokens that a lane's server took from its prefix cache, since this process began.",
            ["lane"],
            registry=self._registry,
        )
        self._waiting = Gauge(
            "countersign_model_requests_waiting",
            "Requests that wait for a place at a lane's server.",
            ["lane"],
            registry=self._registry,
        )
        self._under_way = Gauge(
            "countersign_model_requests_under_way",
            "Requests under way to a lane's server.",
            ["lane"],
            registry=self._registry,
        )
        self._circuit = Gauge(
            "countersign_model_circuit",
            "1 for the state that the circuit breaker of a lane's server is in.",
            ["lane", "state"],
            registry=self._registry,
        )
        self._excess = Counter(
            "countersign_model_excess",
            "Requests that met one of our own limits.",
            ["limit"],
            registry=self._registry,
        )
        self._reported = dict.fromkeys(Lane, (0, 0))

    def event(self, door: str, outcome: str) -> None:
        """Count an inbound event: `stored`, `repeated`, `handled` or `failed`."""
        self._events.labels(door, outcome).inc()

    def model_call(self, call: str, seconds: float, outcome: str) -> None:
        """Record one call of the engine."""
        self._model.labels(call, outcome).observe(seconds)

    def first_token(self, lane: Lane, seconds: float) -> None:
        """Record how long the first piece of a reply took."""
        self._first_token.labels(lane).observe(seconds)

    def excess(self, limit: str) -> None:
        """Count a request that met a limit of ours."""
        self._excess.labels(limit).inc()

    def tokens(self, lane: Lane, usage: Usage) -> None:
        """Count the tokens of one call of a lane's server. The hit ratio is of calls where the server said both."""
        self._tokens.labels(lane, "prompt").inc(usage.prompt_tokens)
        self._tokens.labels(lane, "completion").inc(usage.completion_tokens)
        if usage.cached_tokens is None:
            return
        self._tokens.labels(lane, "cached").inc(usage.cached_tokens)
        if usage.estimated:
            return
        cached, prompt = self._reported[lane]
        cached, prompt = self._reported[lane] = cached + usage.cached_tokens, prompt + usage.prompt_tokens
        self._hit_ratio.labels(lane).set(cached / prompt if prompt else 0.0)

    def watch(self, tiers: Mapping[Lane, Tier]) -> None:
        """Show at every scrape how the servers stand."""
        for lane, tier in tiers.items():
            self._waiting.labels(lane).set_function(partial(_waiting, tier))
            self._under_way.labels(lane).set_function(partial(_under_way, tier))
            for state in Circuit:
                self._circuit.labels(lane, state).set_function(partial(_stands, tier, state))

    def page(self, shared: Iterable[GaugeMetricFamily]) -> bytes:
        """The Prometheus text format."""
        registry = CollectorRegistry()
        registry.register(_Once(shared))
        return generate_latest(self._registry) + generate_latest(registry)


def _waiting(tier: Tier) -> float:
    return tier.gate.waiting


def _under_way(tier: Tier) -> float:
    return tier.gate.under_way


def _stands(tier: Tier, state: Circuit) -> float:
    return float(tier.breaker.circuit is state)


class _Once:
    def __init__(self, families: Iterable[GaugeMetricFamily]) -> None:
        self._families = list(families)

    def collect(self) -> list[GaugeMetricFamily]:
        return self._families


async def shared_state(database: Database, hints: Hints) -> list[GaugeMetricFamily]:
    """How many rows stand where, read from the database at each scrape."""

    def read(tx: Transaction) -> dict[str, Rows]:
        def counted(column: ColumnElement[str]) -> Rows:
            rows = tx.execute(select(column.label("state"), func.count().label("rows")).group_by(column)).all()
            return [(str(row.state), int(row.rows)) for row in rows]

        return {
            "approvals": counted(approvals.c.state),
            "executions": counted(executions.c.state),
            "inbox": counted(inbox.c.state),
            "outbox": counted(outbox.c.topic),
        }

    families = []
    for name, rows in (await database.read(read)).items():
        family = GaugeMetricFamily(f"countersign_{name}", f"Rows of {name} by state.", labels=["state"])
        for state, count in rows:
            family.add_metric([state], count)
        families.append(family)
    redis_up = GaugeMetricFamily("countersign_redis_up", "Whether Redis answers.", value=float(hints.ping()))
    return [*families, redis_up]
