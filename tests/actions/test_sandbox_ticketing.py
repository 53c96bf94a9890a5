"""The sandbox ticketing system: due days and assignees, in new files and in those made before there were any."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest

from actions.catalogue import ArgumentsInvalid, Catalogue
from actions.connectors.sandbox_ticketing import SandboxTicketing

BEFORE = """
CREATE TABLE tickets (
    number INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL, description TEXT NOT NULL, priority TEXT NOT NULL,
    state TEXT NOT NULL, resolution TEXT NOT NULL, requester TEXT NOT NULL, version INTEGER NOT NULL,
    created_at TEXT NOT NULL, updated_at TEXT NOT NULL
);
CREATE TABLE effects (key TEXT PRIMARY KEY, action TEXT NOT NULL, effect TEXT NOT NULL);
INSERT INTO tickets VALUES (7, 'An old lamp', '', 'low', 'open', '', 'rosa', 3, '2026-01-01T00:00:00+00:00',
    '2026-01-01T00:00:00+00:00');
"""
WANTED = {"title": "Replace the toner", "due": "2026-12-04", "assignee": "amir", "requester": "rosa"}


@pytest.fixture
async def ticketing(tmp_path: Path) -> AsyncIterator[SandboxTicketing]:
    system = SandboxTicketing(tmp_path / "ticketing.db", "https://tickets.example")
    yield system
    await system.close()


async def test_a_ticket_keeps_the_day_it_is_due_and_who_is_to_do_it(ticketing: SandboxTicketing) -> None:
    effect = await ticketing.perform("ticketing.create", WANTED, key="k", expected=None)
    assert effect.text == "Created TCK-1: Replace the toner (due 2026-12-04, assigned to amir)"
    ticket = await ticketing.ticket(effect.record)
    assert (ticket.due, ticket.assignee, ticket.version) == (date(2026, 12, 4), "amir", 1)
    (listed,) = await ticketing.read("ticketing.mine", {"requester": "rosa"})
    assert listed.title == "Replace the toner (due 2026-12-04, assigned to amir)"


async def test_a_ticket_without_them_reads_as_before(ticketing: SandboxTicketing) -> None:
    effect = await ticketing.perform("ticketing.create", {"title": "A lamp"}, key="k", expected=None)
    assert effect.text == "Created TCK-1: A lamp"
    ticket = await ticketing.ticket(effect.record)
    assert (ticket.due, ticket.assignee) == (None, "")


async def test_a_file_made_by_an_earlier_version_keeps_its_tickets_and_takes_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "ticketing.db"
    with closing(sqlite3.connect(path)) as old:
        old.executescript(BEFORE)
    # Two processes open the old file at the same moment.
    systems = [SandboxTicketing(path, "https://tickets.example", samples=True) for _ in range(2)]
    old_tickets = await asyncio.gather(*(system.ticket("TCK-7") for system in systems))
    assert [(ticket.title, ticket.version, ticket.due, ticket.assignee) for ticket in old_tickets] == [
        ("An old lamp", 3, None, "")
    ] * 2
    made = await systems[0].perform("ticketing.create", WANTED, key="k", expected=None)
    assert (await systems[1].ticket(made.record)).assignee == "amir"
    for system in systems:
        await system.close()


async def test_the_same_key_makes_one_ticket(ticketing: SandboxTicketing) -> None:
    effects = [await ticketing.perform("ticketing.create", WANTED, key="k", expected=None) for _ in range(3)]
    assert {effect.record for effect in effects} == {"TCK-1"}


def test_arguments_are_brought_into_one_form_and_a_day_that_does_not_exist_is_refused(
    ticketing: SandboxTicketing,
) -> None:
    catalogue = Catalogue([ticketing])
    canonical = catalogue.check_arguments("ticketing.create", {"title": "A lamp", "due": "2026-12-04"})
    assert canonical["due"] == "2026-12-04"
    assert canonical["assignee"] == ""
    assert catalogue.check_arguments("ticketing.create", {"title": "A lamp"})["due"] is None
    with pytest.raises(ArgumentsInvalid, match="due"):
        catalogue.check_arguments("ticketing.create", {"title": "A lamp", "due": "2026-02-30"})
