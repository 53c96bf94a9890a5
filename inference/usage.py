"""What the language model was asked for in tokens: one call's count, and the rows that add them up by account and day.

A row only ever grows, by additions in the database itself, so that any number of processes can add to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from sqlalchemy import BigInteger, Column, Table, delete, select

from records.database import Transaction
from records.schema import Name, metadata

model_usage = Table(
    "model_usage",
    metadata,
    Column("tenant", Name, primary_key=True),
    Column("account", Name, primary_key=True),
    Column("day", Name, primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one call."""

    prompt_tokens: int
    cached_tokens: int | None
    """How many of the prompt's tokens the server took from its prefix cache; None where it did not say."""
    completion_tokens: int
    estimated: bool
    """The server reported no count, or the answer was broken off before it did: these are reckoned from lengths."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """Whose tokens, of which day."""

    tenant: str
    account: str
    """Empty for the house's own work."""
    day: date
    """In UTC."""


@dataclass(frozen=True, slots=True)
class Total:
    """Calls added up."""

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """What counts against a budget: prompt and answer together."""
        return self.prompt_tokens + self.completion_tokens

    def plus(self, usage: Usage) -> Total:
        """With one call more."""
        return Total(
            self.calls + 1,
            self.prompt_tokens + usage.prompt_tokens,
            self.cached_tokens + (usage.cached_tokens or 0),
            self.completion_tokens + usage.completion_tokens,
        )

    def and_also(self, other: Total) -> Total:
        """Both together."""
        return Total(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
        )


def add(tx: Transaction, spent: Mapping[Ledger, Total]) -> None:
    """Add what was spent to the rows, making those that are not there."""
    counts = ("calls", "prompt_tokens", "cached_tokens", "completion_tokens")
    # In one order everywhere, or two processes that add to the same rows wait for each other for ever.
    for ledger in sorted(spent, key=lambda each: (each.tenant, each.account, each.day)):
        insert = tx.insert(model_usage)
        grow = {name: model_usage.c[name] + insert.excluded[name] for name in counts}
        tx.execute(
            insert.on_conflict_do_update(index_elements=["tenant", "account", "day"], set_=grow),
            {
                "tenant": ledger.tenant,
                "account": ledger.account,
                "day": ledger.day.isoformat(),
                **{name: getattr(spent[ledger], name) for name in counts},
            },
        )


def read(tx: Transaction, ledger: Ledger) -> Total:
    """What a row says; nothing where there is none."""
    row = tx.execute(
        select(model_usage).where(
            model_usage.c.tenant == ledger.tenant,
            model_usage.c.account == ledger.account,
            model_usage.c.day == ledger.day.isoformat(),
        )
    ).one_or_none()
    if row is None:
        return Total()
    return Total(row.calls, row.prompt_tokens, row.cached_tokens, row.completion_tokens)


def forget_before(tx: Transaction, day: date) -> int:
    """Delete the rows of days before a day; returns how many."""
    return tx.execute(delete(model_usage).where(model_usage.c.day < day.isoformat())).rowcount
