"""The audit log: every change to it is found, in the table and in an export, and nothing else is ever raised."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from policies import audit
from policies.audit import AuditBroken
from records.database import Database, Transaction
from records.schema import metadata
from tests.postgres import postgres_url

SIZE = 12
MODERATE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Undo(Exception):
    """Rolls a tampering back when it has been looked at."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database with a log of a dozen entries."""
    if request.param == "sqlite":
        yield from _log(f"sqlite:///{tmp_path_factory.mktemp('audit') / 'audit.db'}")
        return
    with postgres_url(tmp_path_factory) as url:
        yield from _log(url)


def _log(url: str) -> Iterator[Database]:
    database = Database(url)
    metadata.create_all(database.engine, tables=[audit.audit, audit.audit_head])
    for number in range(SIZE):
        database.transact(lambda tx, number=number: _append(tx, number))  # type: ignore[misc]
    yield database
    database.close()


def _append(tx: Transaction, number: int) -> str:
    return audit.append(
        tx, kind="test.done", tenant="default", actor="ana", subject=f"subject-{number}",
        details={"number": number, "flag": number % 2 == 0, "names": ["ä", "😀"]},
    )  # fmt: skip


def found_broken(database: Database, tamper: Any) -> str:
    """What `verify` says after a tampering, which is then taken back; fails when it says nothing."""
    said: list[str] = []

    def work(tx: Transaction) -> None:
        tamper(tx)
        try:
            audit.verify(tx)
        except AuditBroken as broken:
            said.append(str(broken))
        raise Undo

    with pytest.raises(Undo):
        database.transact(work)
    assert said, "the tampering went unnoticed"
    assert database.query(audit.verify) == SIZE
    return said[0]


def _row(tx: Transaction, sequence: int) -> Any:
    return tx.execute(audit.audit.select().where(audit.audit.c.sequence == sequence)).one()


def _set(tx: Transaction, where: int, **values: Any) -> None:
    tx.execute(audit.audit.update().where(audit.audit.c.sequence == where).values(**values))


def _rehashed(tx: Transaction, start: int, changes: dict[int, dict[str, Any]]) -> str:
    """Rewrite the log from `start` on with every hash made to fit; returns the last hash."""
    previous = audit.GENESIS if start == 1 else str(_row(tx, start - 1).hash)
    for sequence in range(start, SIZE + 1):
        entry = {**json.loads(_row(tx, sequence).entry), **changes.get(sequence, {}), "previous": previous}
        canonical = rfc8785.dumps(entry)
        previous = audit.leaf_hash(canonical)
        _set(tx, sequence, entry=canonical, hash=previous)
    return previous


def test_a_whole_log_verifies_and_says_how_long_it_is(log: Database) -> None:
    assert log.query(audit.verify) == SIZE


def test_an_empty_log_verifies(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    metadata.create_all(database.engine, tables=[audit.audit, audit.audit_head])
    assert database.query(audit.verify) == 0
    assert audit.verify_lines([]) == (0, audit.GENESIS)
    database.close()


@MODERATE
@given(sequence=st.integers(1, SIZE), position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_every_flipped_bit_of_a_stored_entry_is_found(log: Database, sequence: int, position: int, bit: int) -> None:
    def flip(tx: Transaction) -> None:
        entry = bytearray(_row(tx, sequence).entry)
        entry[position % len(entry)] ^= 1 << bit
        _set(tx, sequence, entry=bytes(entry))

    assert f"entry {sequence} was changed" in found_broken(log, flip)


@MODERATE
@given(sequence=st.integers(1, SIZE), column=st.sampled_from(["hash", "kind", "subject"]), position=st.integers(0, 63))
def test_every_changed_column_beside_an_entry_is_found(
    log: Database, sequence: int, column: str, position: int
) -> None:
    def change(tx: Transaction) -> None:
        value = str(getattr(_row(tx, sequence), column))
        at = position % len(value)
        _set(tx, sequence, **{column: value[:at] + ("0" if value[at] != "0" else "1") + value[at + 1 :]})

    found_broken(log, change)


@MODERATE
@given(first=st.integers(1, SIZE), length=st.integers(1, SIZE))
def test_every_dropped_run_of_entries_is_found_the_tail_included(log: Database, first: int, length: int) -> None:
    gone = audit.audit.c.sequence.between(first, first + length - 1)
    found_broken(log, lambda tx: tx.execute(audit.audit.delete().where(gone)))


@MODERATE
@given(pair=st.lists(st.integers(1, SIZE), min_size=2, max_size=2, unique=True), renumber=st.booleans())
def test_every_swap_of_two_entries_is_found(log: Database, pair: list[int], renumber: bool) -> None:
    def swap(tx: Transaction) -> None:
        rows = {sequence: _row(tx, sequence) for sequence in pair}
        for here, there in (pair, pair[::-1]):
            row = rows[there]
            entry, digest = row.entry, row.hash
            if renumber:
                entry = rfc8785.dumps({**json.loads(entry), "sequence": here})
                digest = audit.leaf_hash(entry)
            _set(tx, here, entry=entry, hash=digest, kind=row.kind, subject=row.subject)

    found_broken(log, swap)


@MODERATE
@given(at=st.integers(1, SIZE + 1), fitting=st.booleans())
def test_every_inserted_entry_is_found(log: Database, at: int, fitting: bool) -> None:
    def insert(tx: Transaction) -> None:
        for sequence in range(SIZE, at - 1, -1):
            _set(tx, sequence, sequence=sequence + 1)
        previous = audit.GENESIS if at == 1 else str(_row(tx, at - 1).hash)
        entry = rfc8785.dumps(
            {
                "sequence": at, "at": "2026-01-01T00:00:00.000000+00:00", "tenant": "default", "kind": "test.done",
                "actor": "mallory", "subject": "s", "details": {}, "previous": previous if fitting else "",
            }
        )  # fmt: skip
        row = {"sequence": at, "kind": "test.done", "subject": "s", "entry": entry, "hash": audit.leaf_hash(entry)}
        tx.execute(audit.audit.insert(), row)

    found_broken(log, insert)


def test_a_log_rewritten_to_its_end_does_not_match_the_recorded_head(log: Database) -> None:
    found_broken(log, lambda tx: _rehashed(tx, 5, {5: {"actor": "mallory"}}))


def test_a_log_rewritten_with_its_head_does_not_match_a_hash_noted_elsewhere(log: Database) -> None:
    """What no chain can show from the inside: only the noted hash tells. `audit export` prints it for that purpose."""
    noted = audit.verify_lines(log.query(lambda tx: list(audit.export(tx))))
    forged: list[tuple[int, str]] = []

    def rewrite(tx: Transaction) -> None:
        last = _rehashed(tx, 5, {5: {"actor": "mallory"}})
        tx.execute(audit.audit_head.update().values(hash=last))
        assert audit.verify(tx) == SIZE
        forged.append(audit.verify_lines(audit.export(tx)))
        raise Undo

    with pytest.raises(Undo):
        log.transact(rewrite)
    assert forged[0] != noted


@pytest.mark.parametrize("content", [b"5", b"null", b"[]", b'"text"', b"{}", b"not json", b"[" * 100_000, b"\xff"])
def test_a_stored_entry_that_is_no_entry_is_a_broken_log_though_its_hash_fits(log: Database, content: bytes) -> None:
    found_broken(log, lambda tx: _set(tx, 3, entry=content, hash=audit.leaf_hash(content)))


def test_an_export_verifies_without_the_database_and_names_size_and_last_hash(log: Database) -> None:
    lines = log.query(lambda tx: list(audit.export(tx)))
    head = log.query(lambda tx: tx.execute(audit.audit_head.select()).one())
    assert audit.verify_lines(lines) == (SIZE, head.hash)
    assert audit.verify_lines(line + "\n" for line in lines) == (SIZE, head.hash)
    assert audit.verify_lines([*lines, "", "\n"]) == (SIZE, head.hash)


@MODERATE
@given(line=st.integers(0, SIZE - 1), position=st.integers(0, 10_000), other=st.characters(codec="utf-8"))
def test_every_changed_character_of_an_export_is_found(log: Database, line: int, position: int, other: str) -> None:
    lines = log.query(lambda tx: list(audit.export(tx)))
    at = position % len(lines[line])
    changed = lines[line][:at] + other + lines[line][at + 1 :]
    if changed == lines[line]:
        return
    with pytest.raises(AuditBroken):
        audit.verify_lines([*lines[:line], changed, *lines[line + 1 :]])


@MODERATE
@given(line=st.integers(0, SIZE - 1), position=st.integers(0, 10_000), added=st.text(min_size=1, max_size=5))
def test_everything_inserted_in_a_line_of_an_export_is_found(
    log: Database, line: int, position: int, added: str
) -> None:
    lines = log.query(lambda tx: list(audit.export(tx)))
    at = 1 + position % (len(lines[line]) - 1)
    with pytest.raises(AuditBroken):
        audit.verify_lines([*lines[:line], lines[line][:at] + added + lines[line][at:], *lines[line + 1 :]])


@MODERATE
@given(order=st.permutations(range(SIZE)), keep=st.integers(0, SIZE))
def test_every_reordering_and_gap_of_an_export_is_found_and_a_cut_tail_shows_in_its_size(
    log: Database, order: list[int], keep: int
) -> None:
    lines = log.query(lambda tx: list(audit.export(tx)))
    whole = audit.verify_lines(lines)
    kept = order[:keep]
    if kept == list(range(keep)):
        assert (audit.verify_lines([lines[n] for n in kept]) == whole) == (keep == SIZE)
        return
    with pytest.raises(AuditBroken):
        audit.verify_lines([lines[n] for n in kept])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@MODERATE
@given(line=st.text() | _JSON.map(json.dumps) | st.fixed_dictionaries({"entry": _JSON, "hash": _JSON}).map(json.dumps))
@example(line="[" * 100_000)
@example(line='{"entry":' + "[" * 3000 + "]" * 3000 + ',"hash":""}')
@example(line='{"entry":"text","hash":"x"}')
@example(line='{"entry":{"sequence":1e400},"hash":"x"}')
@example(line='{"entry":{"sequence":' + "9" * 5000 + '},"hash":"x"}')
@example(line='{"entry":{"a":"\\ud800"},"hash":"\\ud800"}')
@example(line='{"hash":"x"}')
@example(line="5")
def test_a_hostile_line_is_a_broken_log_and_never_another_error(line: str) -> None:
    if not line.strip():
        return
    with pytest.raises(AuditBroken):
        audit.verify_lines([line])


@pytest.mark.parametrize("sequence", [True, 1.0, "1", None])
def test_a_sequence_that_is_not_a_whole_number_is_refused_though_its_hash_fits(sequence: Any) -> None:
    entry: dict[str, Any] = {"sequence": sequence, "previous": audit.GENESIS}
    canonical = rfc8785.dumps(entry)
    line = rfc8785.dumps({"entry": entry, "hash": audit.leaf_hash(canonical)}).decode()
    if sequence == 1.0 and sequence is not True:
        # RFC 8785 writes 1.0 as 1: the same entry.
        assert audit.verify_lines([line])[0] == 1
        return
    with pytest.raises(AuditBroken):
        audit.verify_lines([line])


def test_entries_of_one_subject_come_in_order_and_read_as_they_were_written(log: Database) -> None:
    (entry,) = log.query(lambda tx: list(audit.entries(tx, subject="subject-4")))
    assert entry.sequence == 5
    assert entry.entry["details"] == {"number": 4, "flag": True, "names": ["ä", "😀"]}


def test_an_entry_rolled_back_with_its_transaction_leaves_no_gap(log: Database) -> None:
    def abandoned(tx: Transaction) -> None:
        _append(tx, 99)
        raise Undo

    with pytest.raises(Undo):
        log.transact(abandoned)
    assert log.query(audit.verify) == SIZE
