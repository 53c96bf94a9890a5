"""What `/metrics` says: counters of this process, and the state of the rows that all processes share."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import ColumnElement, func, select

from actions.executions import executions
from actions.hints import Hints
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

    def event(self, door: str, outcome: str) -> None:
        """Count an inbound event: `stored`, `repeated`, `handled` or `failed`."""
        self._events.labels(door, outcome).inc()

    def model_call(self, call: str, seconds: float, outcome: str) -> None:
        """Record one call of the engine."""
        self._model.labels(call, outcome).observe(seconds)

    def page(self, shared: Iterable[GaugeMetricFamily]) -> bytes:
        """The Prometheus text format."""
        registry = CollectorRegistry()
        registry.register(_Once(shared))
        return generate_latest(self._registry) + generate_latest(registry)


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
