"""What we asked somebody: one question a person and place, answered once, kept unreadable, forgotten in time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from handlers.open_questions import LIFETIME, OpenQuestion, OpenQuestions, open_questions
from handlers.turn import Place
from records.encryption import Cipher, KeyUnusable
from tests.handlers.conftest import Records

HERE = Place("slack", "T1", "C1", thread="17.1")
KEY = bytes(range(32))


class Asked:
    """The questions of a database."""

    def __init__(self, records: Records, key: bytes = KEY) -> None:
        self.records = records
        self.questions = OpenQuestions(Cipher(key))

    async def ask(self, words: str, *, place: Place = HERE, person: str = "rosa") -> None:
        await self.records.database.write(
            lambda tx: self.questions.ask(tx, place, person, skill="create a ticket", words=words)
        )

    async def waiting(self, *, place: Place = HERE, person: str = "rosa") -> OpenQuestion | None:
        return await self.records.database.read(lambda tx: self.questions.waiting(tx, place, person))

    async def take(self, question: OpenQuestion) -> bool:
        return await self.records.database.write(lambda tx: self.questions.take(tx, question))


@pytest.fixture
def asked(records: Records) -> Asked:
    return Asked(records)


async def test_a_question_waits_for_its_person_in_its_thread_and_for_nobody_elsewhere(asked: Asked) -> None:
    await asked.ask("open a ticket")
    found = await asked.waiting()
    assert found is not None
    assert (found.skill, found.words) == ("create a ticket", "open a ticket")
    assert await asked.waiting(person="amir") is None
    for elsewhere in (
        replace(HERE, thread=None),
        replace(HERE, thread="17.2"),
        replace(HERE, conversation="C2"),
        replace(HERE, tenant="T2"),
        replace(HERE, surface="teams"),
    ):
        assert await asked.waiting(place=elsewhere) is None


async def test_a_question_outside_threads_is_found_again(asked: Asked) -> None:
    direct = Place("teams", "AAAA", "a:1", direct=True)
    await asked.ask("open a ticket", place=direct)
    assert await asked.waiting(place=replace(direct, tenant="aaaa")) is not None


async def test_of_messages_at_the_same_time_exactly_one_answers(asked: Asked) -> None:
    await asked.ask("open a ticket")
    found = await asked.waiting()
    assert found is not None
    assert sorted(await asyncio.gather(*(asked.take(found) for _ in range(5)))) == [False] * 4 + [True]
    assert await asked.waiting() is None


async def test_a_question_that_was_asked_anew_is_not_closed_by_an_answer_to_the_old_one(asked: Asked) -> None:
    await asked.ask("open a ticket")
    old = await asked.waiting()
    assert old is not None
    asked.records.passed += timedelta(seconds=1)
    await asked.ask("close a ticket")
    assert not await asked.take(old)
    new = await asked.waiting()
    assert new is not None
    assert new.words == "close a ticket"


async def test_after_its_time_a_question_is_neither_found_nor_answered_and_is_forgotten(asked: Asked) -> None:
    await asked.ask("open a ticket")
    found = await asked.waiting()
    assert found is not None
    asked.records.passed += LIFETIME - timedelta(seconds=5)
    assert await asked.records.database.write(asked.questions.forget_expired) == 0
    assert await asked.waiting() is not None
    asked.records.passed += timedelta(seconds=10)
    assert await asked.waiting() is None
    assert not await asked.take(found)
    assert await asked.records.database.write(asked.questions.forget_expired) == 1


async def test_an_answer_that_did_not_get_through_leaves_the_question_open_again(asked: Asked) -> None:
    await asked.ask("open a ticket")
    found = await asked.waiting()
    assert found is not None
    assert await asked.take(found)
    await asked.records.database.write(lambda tx: asked.questions.put_back(tx, found))
    assert await asked.waiting() == found


async def test_putting_back_does_not_replace_what_was_asked_since(asked: Asked) -> None:
    await asked.ask("open a ticket")
    found = await asked.waiting()
    assert found is not None
    await asked.take(found)
    await asked.ask("close a ticket")
    await asked.records.database.write(lambda tx: asked.questions.put_back(tx, found))
    now = await asked.waiting()
    assert now is not None
    assert now.words == "close a ticket"


async def test_what_was_asked_for_stands_in_no_row_in_the_clear_and_opens_in_its_own_place_only(asked: Asked) -> None:
    await asked.ask("open a ticket about the merger")
    row = await asked.records.database.read(lambda tx: tx.execute(select(open_questions)).one())
    assert b"merger" not in row.words
    assert "merger" not in str(row)
    await asked.records.database.write(lambda tx: tx.execute(open_questions.update().values(person="amir")))
    with pytest.raises(KeyUnusable):
        await asked.waiting(person="amir")
