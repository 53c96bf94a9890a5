"""The audit log: insert-only, hash-chained, written in the transaction of what it records.

Invariant: entry n holds the hash of entry n-1, so a changed, dropped, inserted or reordered entry breaks the chain.
An entry's hash is SHA-256 of a zero byte and its canonical JSON (RFC 8785), the leaf form of RFC 9162. `append` is
the one function that writes; the row of `audit_head` is its lock and tells a truncated log from a whole one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import rfc8785
from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, insert, select, update

from records.database import Transaction
from records.schema import Id, Name, metadata

GENESIS = "0" * 64
_PAGE = 1000

audit = Table(
    "audit",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Name, nullable=False),
    Column("subject", Id, nullable=False),
    Column("entry", LargeBinary, nullable=False),
    Column("hash", Id, nullable=False),
    Index("audit_subject", "subject"),
)
audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("hash", Id, nullable=False),
)


class AuditBroken(Exception):
    """The log does not verify; the message says at which entry and how."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One recorded fact."""

    sequence: int
    entry: Mapping[str, Any]
    """`sequence, at, tenant, kind, actor, subject, details, previous`, as hashed."""
    hash: str


def append(tx: Transaction, *, kind: str, tenant: str, actor: str, subject: str, details: Mapping[str, Any]) -> str:
    """Record that `actor` did `kind` to `subject`; returns the entry's hash.

    `details` holds strings, integers, booleans, lists and objects of them; never message text or secrets.
    """
    sequence, previous = _advance(tx)
    entry: dict[str, Any] = {
        "sequence": sequence,
        "at": tx.now.isoformat(timespec="microseconds"),
        "tenant": tenant,
        "kind": kind,
        "actor": actor,
        "subject": subject,
        "details": dict(details),
        "previous": previous,
    }
    canonical = rfc8785.dumps(entry)
    digest = leaf_hash(canonical)
    tx.execute(
        insert(audit),
        {"sequence": sequence, "kind": kind, "subject": subject, "entry": canonical, "hash": digest},
    )
    tx.execute(update(audit_head).where(audit_head.c.id == 1).values(hash=digest))
    return digest


def leaf_hash(canonical: bytes) -> str:
    """SHA-256(0x00 ‖ canonical JSON), RFC 9162 section 2.1.1."""
    return hashlib.sha256(b"\x00" + canonical).hexdigest()


def _advance(tx: Transaction) -> tuple[int, str]:
    step = (
        update(audit_head)
        .where(audit_head.c.id == 1)
        .values(size=audit_head.c.size + 1)
        .returning(audit_head.c.size, audit_head.c.hash)
    )
    row = tx.execute(step).first()
    if row is None:
        first = tx.insert(audit_head)
        tx.execute(first.values(id=1, size=0, hash=GENESIS).on_conflict_do_nothing())
        row = tx.execute(step).one()
    return int(row.size), str(row.hash)


def entries(tx: Transaction, *, subject: str | None = None) -> Iterator[AuditEntry]:
    """The log in order, read page by page; only one subject's entries when it is given."""
    last = 0
    while True:
        page = select(audit).where(audit.c.sequence > last).order_by(audit.c.sequence).limit(_PAGE)
        if subject is not None:
            page = page.where(audit.c.subject == subject)
        rows = tx.execute(page).all()
        for row in rows:
            yield AuditEntry(row.sequence, json.loads(row.entry), row.hash)
        if len(rows) < _PAGE:
            return
        last = rows[-1].sequence


def export(tx: Transaction) -> Iterator[str]:
    """The log as JSON lines; `verify_lines` checks them without the database."""
    for entry in entries(tx):
        yield _exported(entry.entry, entry.hash)


def verify(tx: Transaction) -> int:
    """Check every entry and the head; returns the size, raises AuditBroken."""
    size, last = 0, GENESIS
    for row in tx.execute(select(audit).order_by(audit.c.sequence)).yield_per(_PAGE):
        size += 1
        entry = _verify_one(size, last, bytes(row.entry), row.hash)
        last = row.hash
        if (row.sequence, entry.get("kind"), entry.get("subject")) != (size, row.kind, row.subject):
            raise AuditBroken(f"entry {size}: its index columns do not match what was hashed")
    head = tx.execute(select(audit_head.c.size, audit_head.c.hash)).first()
    recorded = (0, GENESIS) if head is None else (head.size, head.hash)
    if recorded != (size, last):
        raise AuditBroken(f"the log ends at entry {size}, but {recorded[0]} were written")
    return size


def verify_lines(lines: Iterable[str]) -> tuple[int, str]:
    """Check an export; returns its size and the last hash, to hold against one noted elsewhere. Raises AuditBroken.

    A line must be byte for byte what `export` writes: what a reader might take for something else is not let through.
    """
    size, last = 0, GENESIS
    for line in lines:
        if not line.strip():
            continue
        size += 1
        try:
            record = json.loads(line)
            canonical, claimed = rfc8785.dumps(record["entry"]), str(record["hash"])
            as_exported = _exported(record["entry"], claimed)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise AuditBroken(f"line {size} is not an audit entry") from error
        if line.rstrip("\r\n") != as_exported:
            raise AuditBroken(f"line {size} is not written as it was exported")
        _verify_one(size, last, canonical, claimed)
        last = claimed
    return size, last


def _exported(entry: Mapping[str, Any], claimed: str) -> str:
    return rfc8785.dumps({"entry": dict(entry), "hash": claimed}).decode()


def _verify_one(expected: int, previous: str, canonical: bytes, claimed: str) -> Mapping[str, Any]:
    if leaf_hash(canonical) != claimed:
        raise AuditBroken(f"entry {expected} was changed: its hash does not match its content")
    try:
        entry = json.loads(canonical)
    except (ValueError, RecursionError) as error:
        raise AuditBroken(f"entry {expected} cannot be read") from error
    if not isinstance(entry, dict) or type(entry.get("sequence")) is not int:
        raise AuditBroken(f"entry {expected} is no audit entry")
    if entry["sequence"] != expected:
        raise AuditBroken(f"entry {expected} is missing; {entry['sequence']} stands in its place")
    if entry.get("previous") != previous:
        raise AuditBroken(f"entry {expected} does not follow the entry before it")
    return entry
