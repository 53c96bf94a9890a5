"""A ticket asked for in one sentence, with its day and its person: from what is typed to what the system holds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import pytest

from tests.scenarios.house import House, Seat, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


def next_friday() -> date:
    """The Friday of the next calendar week; Rosa's clock is UTC."""
    today = datetime.now(UTC).date()
    return today + timedelta(days=7 + 4 - today.weekday())


def held(house: House, title: str) -> list[tuple[str | None, str, str]]:
    """Due day, assignee and requester of the tickets of a title, from the ticketing system's own file."""
    with closing(sqlite3.connect(house.data / "sandbox" / "ticketing.db")) as connection:
        return connection.execute("SELECT due, assignee, requester FROM tickets WHERE title = ?", (title,)).fetchall()


async def test_a_due_day_and_an_assignee_in_words_reach_the_ticket(house: House, rosa: Seat) -> None:
    title = f"replace the toner on floor {rosa.name}"
    await house.new_ticket()
    days = {next_friday()}
    await rosa.say(f"@Countersign create a ticket: {title}, due next Friday, assign it to Amir")
    await until(lambda: bool(held(house, title)))
    days.add(next_friday())
    ((due, assignee, requester),) = held(house, title)
    assert date.fromisoformat(str(due)) in days
    assert (assignee, requester) == ("amir", "rosa")
    await rosa.sees("Done", title, f"due {due}", "assigned to amir")
