"""An answer while it is written: shown early, not too often, in full at the end, and not written for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from handlers import answers_under_way
from handlers.card import Part, Text
from handlers.live_answer import LONGEST_SHOWN, Ending, LiveAnswers, Pace
from handlers.reply import Reply
from handlers.surface import MessageRef, SurfaceUnavailable, ThreadMessage
from handlers.turn import Place, Sender, Turn, TurnKind
from handlers.wording import Wording
from inference.handover import ReplyStream
from inference.model import ModelUnavailable
from policies.people import Person
from records.database import Database
from tests.handlers.conftest import Records

HERE = Place("slack", "T1", "C1", thread="17.1")
TURN = Turn(
    id="r1",
    kind=TurnKind.MENTION,
    place=HERE,
    sender=Sender("slack", "T1", "U1"),
    text="ask",
    received_at=datetime(2026, 11, 24, tzinfo=UTC),
)
ROSA = Person("rosa", "Rosa", "", frozenset(), frozenset(), (), active=True)
QUICK = Pace(first_words=timedelta(milliseconds=5), between_updates=timedelta(milliseconds=20))


class Source:
    """A reply whose pieces the test hands out; None ends it, an exception breaks it off."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        self.left = asyncio.Event()
        self.stream = ReplyStream(lambda stream: self._read(), "tiny")

    def says(self, *pieces: str | Exception | None) -> None:
        for piece in pieces:
            self.pieces.put_nowait(piece)

    async def _read(self) -> AsyncGenerator[str, None]:
        try:
            while (piece := await self.pieces.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.left.set()


class Wall:
    """A platform: messages in the order of their posting, each with all that it has shown."""

    name = "slack"

    def __init__(self) -> None:
        self.shown: list[list[str]] = []
        self.refuses_updates = False
        self.away = False
        self.changed = asyncio.Condition()

    @property
    def last(self) -> str:
        """What the newest message shows now."""
        return self.shown[-1][-1] if self.shown else ""

    async def sees(self, condition: Callable[[], bool]) -> None:
        """Wait until something on the wall is so."""
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(condition), 10)

    async def post(self, place: Place, reply: Reply) -> MessageRef:
        if self.away:
            raise SurfaceUnavailable("away")
        self.shown.append([])
        return await self._show(MessageRef(place, str(len(self.shown) - 1)), reply)

    async def update(self, ref: MessageRef, reply: Reply) -> None:
        if self.refuses_updates or self.away:
            raise SurfaceUnavailable("there is no such message")
        await self._show(ref, reply)

    async def _show(self, ref: MessageRef, reply: Reply) -> MessageRef:
        async with self.changed:
            text = "\n".join(part.text for part in reply.parts if isinstance(part, Text))
            self.shown[int(ref.message_id)].append(text)
            self.changed.notify_all()
        return ref

    async def tell_privately(self, place: Place, person: Sender, reply: Reply) -> None:
        raise AssertionError("an answer is for everybody in the thread")

    async def show_progress(self, place: Place, step: str) -> None:
        raise AssertionError("the dialog shows it")

    async def read_thread(self, place: Place, *, limit: int = 200) -> Sequence[ThreadMessage]:
        raise AssertionError("the skill reads it")

    async def direct_place(self, person: Sender) -> Place:
        raise AssertionError("nobody is written to")

    async def close(self) -> None:
        """Nothing to release."""


async def by(stream: ReplyStream) -> tuple[Part, ...]:
    return (Text(f"by {stream.engine}"),)


def showing(records: Records, source: Source, wall: Wall, pace: Pace = QUICK) -> asyncio.Task[Ending]:
    live = LiveAnswers(records.database, Wording(), pace)
    return asyncio.create_task(live.show(TURN, ROSA, wall, source.stream, by))


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def source() -> Source:
    return Source()


async def test_first_words_are_shown_while_the_rest_is_awaited_and_all_of_it_in_the_same_message(
    records: Records, source: Source, wall: Wall
) -> None:
    task = showing(records, source, wall)
    source.says("The ", "release")
    await wall.sees(lambda: wall.last.startswith("The release …"))
    assert "Still writing" in wall.last
    source.says(" is on Thursday")
    await wall.sees(lambda: wall.last.startswith("The release is on Thursday …"))
    source.says(".", None)
    assert await task is Ending.COMPLETE
    assert len(wall.shown) == 1
    assert wall.last == "The release is on Thursday.\nby tiny"


async def test_an_answer_that_is_there_at_once_is_one_post(records: Records, source: Source, wall: Wall) -> None:
    source.says("All ", "is ", "well.", None)
    patient = Pace(first_words=timedelta(seconds=5))
    assert await showing(records, source, wall, patient) is Ending.COMPLETE
    assert wall.shown == [["All is well.\nby tiny"]]


async def test_a_message_is_changed_no_oftener_than_the_pace_says(records: Records, source: Source, wall: Wall) -> None:
    pace = Pace(first_words=timedelta(milliseconds=1), between_updates=timedelta(milliseconds=10))
    began = asyncio.get_running_loop().time()
    task = showing(records, source, wall, pace)
    for _ in range(100):
        source.says("word ")
        await records.database.read(lambda tx: tx.now)
    source.says(None)
    await task
    lasted = asyncio.get_running_loop().time() - began
    (states,) = wall.shown
    assert 2 <= len(states) <= lasted / 0.01 + 2, "the first, at most one a pause, and the last"
    assert states[-1].count("word") == 100


async def test_stop_from_another_process_leaves_the_stream_and_says_that_it_is_not_complete(
    records: Records, source: Source, wall: Wall
) -> None:
    elsewhere = Database(records.database.engine.url.render_as_string(hide_password=False))
    task = showing(records, source, wall)
    source.says("The release")
    await wall.sees(lambda: "The release" in wall.last)
    assert await elsewhere.write(lambda tx: answers_under_way.stop(tx, HERE, "rosa")) == 1
    assert await task is Ending.STOPPED
    assert source.left.is_set()
    assert wall.shown[0][-1] == "The release\nStopped by you; the answer above is not complete."
    elsewhere.close()


async def test_stop_before_the_first_word_ends_it_too(records: Records, source: Source, wall: Wall) -> None:
    task = showing(records, source, wall)

    while not await records.database.write(lambda tx: answers_under_way.stop(tx, HERE, "rosa")):
        assert not task.done()
    assert await task is Ending.STOPPED
    assert source.left.is_set()
    assert wall.shown == [["Stopped by you before there was an answer."]]


async def test_a_message_that_can_not_be_changed_any_more_ends_the_stream_and_is_said_below(
    records: Records, source: Source, wall: Wall
) -> None:
    task = showing(records, source, wall)
    source.says("The release")
    await wall.sees(lambda: "The release" in wall.last)
    wall.refuses_updates = True
    source.says(" is")
    assert await task is Ending.UNSEEN
    assert source.left.is_set(), "nothing is read to the end for nobody"
    assert "not complete" in wall.last


async def test_a_complete_answer_whose_message_is_gone_is_posted_again(
    records: Records, source: Source, wall: Wall
) -> None:
    slow = Pace(first_words=timedelta(milliseconds=1), between_updates=timedelta(seconds=30))
    task = showing(records, source, wall, slow)
    source.says("The release")
    await wall.sees(lambda: "The release" in wall.last)
    wall.refuses_updates = True
    source.says(" is on Thursday.", None)
    assert await task is Ending.COMPLETE
    assert wall.last == "The release is on Thursday.\nby tiny"
    assert len(wall.shown) == 2


async def test_when_nothing_can_be_shown_the_stream_is_left_and_the_turn_is_to_be_heard_again(
    records: Records, source: Source, wall: Wall
) -> None:
    wall.away = True
    source.says("The release")
    with pytest.raises(SurfaceUnavailable):
        await showing(records, source, wall)
    assert source.left.is_set()


async def test_a_cancelled_task_leaves_the_stream(records: Records, source: Source, wall: Wall) -> None:
    task = showing(records, source, wall)
    source.says("The release")
    await wall.sees(lambda: "The release" in wall.last)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.left.is_set()


@pytest.mark.parametrize(
    ("before", "says"), [("The release", "Here the answer broke off"), ("", "nothing here can work on words")]
)
async def test_an_engine_that_can_not_go_on_ends_in_an_honest_sentence(
    records: Records, source: Source, wall: Wall, before: str, says: str
) -> None:
    source.says(before, ModelUnavailable("gone"))
    assert await showing(records, source, wall) is Ending.BROKEN_OFF
    assert wall.last.startswith(before)
    assert says in wall.last


async def test_an_error_that_nobody_foresaw_is_not_hidden(records: Records, source: Source, wall: Wall) -> None:
    source.says("The release", RuntimeError("a mistake of ours"))
    with pytest.raises(RuntimeError):
        await showing(records, source, wall)


async def test_a_long_answer_goes_on_in_a_second_message_and_loses_nothing(
    records: Records, source: Source, wall: Wall
) -> None:
    words = [f"word{number} " for number in range(1_000)]
    task = showing(records, source, wall)
    source.says(*words[:900])
    await wall.sees(lambda: bool(wall.last))
    source.says(*words[900:], None)
    assert await task is Ending.COMPLETE
    assert len(wall.shown) == 2
    first, second = wall.shown[0][-1], wall.shown[1][-1]
    assert all(len(state) < LONGEST_SHOWN + 100 for state in wall.shown[0])
    assert f"{first} {second}" == f"{''.join(words).strip()}\nby tiny"
