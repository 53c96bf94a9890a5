"""The outbox: what is due stays due until it is finished, and what is put again meanwhile is not lost."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from records import outbox
from records.database import Database, Transaction
from records.outbox import Due
from records.schema import metadata
from tests.postgres import postgres_url

TOPIC = "execute"
SECOND = timedelta(seconds=1)


class Box:
    """A database with an outbox, and a clock."""

    def __init__(self, url: str) -> None:
        self.shift = timedelta()
        self.database = Database(url, clock_shift=lambda: self.shift)
        metadata.create_all(self.database.engine, tables=[outbox.outbox])

    def put(self, subject: str, *, topic: str = TOPIC, delay: timedelta = timedelta()) -> None:
        self.database.transact(lambda tx: outbox.put(tx, topic, subject, delay=delay))

    def take(self, limit: int = 10) -> list[Due]:
        return self.database.transact(lambda tx: outbox.take_due(tx, TOPIC, limit=limit))

    def finish(self, subject: str, seen: int | None = None) -> None:
        self.database.transact(lambda tx: outbox.finish(tx, TOPIC, subject, seen))

    def count(self, topic: str = TOPIC) -> int:
        return self.database.query(lambda tx: outbox.count(tx, topic))


@pytest.fixture(params=["sqlite", "postgresql"])
def box(request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """An empty outbox."""
    if request.param == "sqlite":
        built = Box(f"sqlite:///{tmp_path / 'outbox.db'}")
        yield built
        built.database.close()
        return
    with postgres_url(tmp_path_factory) as url:
        built = Box(url)
        yield built
        built.database.close()


def test_what_is_put_is_due_once_its_delay_is_over(box: Box) -> None:
    box.put("a", delay=5 * SECOND)
    assert box.take() == []
    box.shift += 5 * SECOND
    assert box.take() == [Due("a", 1, 1)]


def test_taking_puts_off_by_a_backoff_that_doubles_to_its_longest(box: Box) -> None:
    box.put("a")
    waits = []
    for attempt in range(1, 9):
        (due,) = box.take()
        assert due.attempts == attempt
        waited = timedelta()
        while not box.database.query(lambda tx: _due(tx)):
            box.shift += SECOND
            waited += SECOND
        waits.append(waited // SECOND)
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert waits[-1] == outbox.LONGEST_BACKOFF // SECOND


def test_the_oldest_come_first_and_no_more_than_asked_for(box: Box) -> None:
    for number, subject in enumerate("cab"):
        box.put(subject, delay=number * SECOND)
    box.shift += 10 * SECOND
    assert [due.subject for due in box.take(2)] == ["c", "a"]
    assert [due.subject for due in box.take(2)] == ["b"]
    assert box.take(0) == []


def test_finishing_names_the_generation_it_saw_so_that_what_came_meanwhile_stays(box: Box) -> None:
    box.put("a")
    (due,) = box.take()
    box.put("a")
    box.finish("a", due.generation)
    assert box.count() == 1
    (again,) = box.take()
    assert (again.generation, again.attempts) == (2, 1)
    box.finish("a", again.generation)
    assert box.count() == 0


def test_finishing_without_a_generation_removes_whatever_came(box: Box) -> None:
    box.put("a")
    box.put("a")
    box.finish("a")
    assert box.count() == 0


def test_topics_do_not_mix(box: Box) -> None:
    box.put("a")
    box.put("a", topic="project")
    box.finish("a")
    assert (box.count(), box.count("project")) == (0, 1)
    assert box.take() == []


def test_two_takers_never_take_the_same_order(box: Box) -> None:
    for number in range(40):
        box.put(f"s{number}")
    with ThreadPoolExecutor(4) as threads:
        taken = [due.subject for group in threads.map(lambda _: box.take(10), range(8)) for due in group]
    assert len(taken) == len(set(taken))
    rest = [due.subject for due in box.take(40)]
    assert sorted(taken + rest) == sorted(f"s{number}" for number in range(40))


def test_the_generation_is_none_when_nothing_is_due(box: Box) -> None:
    assert box.database.query(lambda tx: outbox.generation(tx, TOPIC, "a")) is None
    box.put("a")
    assert box.database.query(lambda tx: outbox.generation(tx, TOPIC, "a")) == 1


def _due(tx: Transaction) -> bool:
    return tx.execute(outbox.outbox.select().where(outbox.outbox.c.due_at <= tx.now)).first() is not None
