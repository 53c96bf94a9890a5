"""Shows an answer while it is written: the first words at once, then the same message again and again until it ends.

Invariant: a request goes on only while somebody can see its answer. When the person says stop, when the message can no
longer be changed, and when this task ends, the request is aborted; and what is shown then says that it is not complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

import structlog

from handlers import answers_under_way
from handlers.card import Part, Text, TextStyle
from handlers.reply import Reply
from handlers.surface import MessageRef, Surface, SurfaceUnavailable
from handlers.turn import Turn
from handlers.wording import Wording
from inference.handover import ReplyStream
from inference.model import ModelUnavailable
from policies.people import Person
from records.database import Database

LONGEST_SHOWN = 2_500
"""Characters in the message that is updated; escaped at their worst they fit one message on every platform. The rest
of a longer answer follows in a message of its own once it is complete."""

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often an answer is shown."""

    first_words: timedelta = timedelta(milliseconds=200)
    """From the first piece to the first message, so that it holds words and not a syllable."""
    between_updates: timedelta = timedelta(seconds=1.2)
    """Slack takes about 50 updates a minute, Teams one a second."""


class Ending(StrEnum):
    """How an answer ended."""

    COMPLETE = "complete"
    STOPPED = "stopped"
    """By the person."""
    UNSEEN = "unseen"
    """The message was deleted or could not be changed."""
    BROKEN_OFF = "broken_off"
    """No engine could finish it."""


Closing = Callable[[ReplyStream], Awaitable[tuple[Part, ...]]]
"""What stands under a complete answer: who wrote it, and what people should know of that."""


@dataclass(slots=True)
class _Writing:
    """What has come so far, and what of it is shown."""

    pieces: list[str] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    ref: MessageRef | None = None
    shown: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces).strip()


class LiveAnswers:
    """Shows streamed answers.

    ending = await live.show(turn, person, surface, stream, closing)
    """

    def __init__(self, database: Database, wording: Wording, pace: Pace | None = None) -> None:
        self._database = database
        self._wording = wording
        self._pace = pace or Pace()

    async def show(self, turn: Turn, person: Person, surface: Surface, stream: ReplyStream, closing: Closing) -> Ending:
        """Show it to its end, whatever that is. Raises SurfaceUnavailable when the person saw no honest end."""
        writing = _Writing()
        reader = asyncio.create_task(_read(stream, writing))
        try:
            await self._database.write(lambda tx: answers_under_way.begin(tx, turn.id, turn.place, person.id))
            ending = await self._follow(turn, surface, writing, reader)
        finally:
            reader.cancel()
            # Leaving the stream is what aborts the request, so it is waited for.
            await asyncio.wait({reader})
        await self._end(turn, surface, stream, writing, ending, closing)
        return ending

    async def _follow(self, turn: Turn, surface: Surface, writing: _Writing, reader: asyncio.Task[None]) -> Ending:
        """Show what comes until it ends; the message itself is brought to its end by `_end`."""
        while True:
            await self._pause(writing, reader)
            if reader.done():
                try:
                    reader.result()
                except ModelUnavailable:
                    return Ending.BROKEN_OFF
                return Ending.COMPLETE
            if not await self._database.read(lambda tx: answers_under_way.is_wanted(tx, turn.id)):
                return Ending.STOPPED
            head, _ = _divided(writing.text)
            if not head or head == writing.shown:
                continue
            if writing.ref is None:
                writing.ref = await surface.post(turn.place, self._unfinished(head))
            else:
                try:
                    await surface.update(writing.ref, self._unfinished(head))
                except SurfaceUnavailable:
                    return Ending.UNSEEN
            writing.shown = head

    async def _pause(self, writing: _Writing, reader: asyncio.Task[None]) -> None:
        """Until it is time to show something or to look whether it was stopped, or until there is no more to come."""
        if writing.ref is not None:
            await asyncio.wait({reader}, timeout=self._pace.between_updates.total_seconds())
            return
        begun = asyncio.create_task(writing.begun.wait())
        try:
            await asyncio.wait(
                {reader, begun},
                timeout=self._pace.between_updates.total_seconds(),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            begun.cancel()
        if writing.begun.is_set():
            await asyncio.wait({reader}, timeout=self._pace.first_words.total_seconds())

    async def _end(
        self,
        turn: Turn,
        surface: Surface,
        stream: ReplyStream,
        writing: _Writing,
        ending: Ending,
        closing: Closing,
    ) -> None:
        if ending is Ending.UNSEEN:
            await surface.post(turn.place, Reply.text(self._wording.say("dialog", "not_shown")))
            return
        text = writing.text
        match ending:
            case Ending.COMPLETE:
                last = await closing(stream)
            case Ending.STOPPED:
                last = (Text(self._wording.say("dialog", "stopped" if text else "stopped_at_once")),)
            case _:
                last = (Text(self._wording.say("dialog", "broken_off" if text else "unavailable")),)
        await self._show_all(turn, surface, writing.ref, text, last)

    async def _show_all(
        self, turn: Turn, surface: Surface, ref: MessageRef | None, text: str, last: tuple[Part, ...]
    ) -> None:
        """The text and what stands under it, in the message that is there or in a new one."""
        whole = _generated(text, last)
        if ref is None:
            await surface.post(turn.place, whole)
            return
        head, rest = _divided(text)
        try:
            await surface.update(ref, _generated(head, () if rest else last))
        except SurfaceUnavailable as error:
            logger.warning("answer_posted_again", surface=surface.name, reason=str(error))
            await surface.post(turn.place, whole)
            return
        if rest:
            await surface.post(turn.place, _generated(rest, last))

    def _unfinished(self, text: str) -> Reply:
        return _generated(f"{text} …", (Text(self._wording.say("dialog", "writing"), TextStyle.SUBTLE),))


async def _read(stream: ReplyStream, writing: _Writing) -> None:
    async with stream:
        async for piece in stream:
            writing.pieces.append(piece)
            if piece.strip():
                writing.begun.set()


def _generated(text: str, last: tuple[Part, ...]) -> Reply:
    return Reply(parts=((Text(text), *last) if text else last), generated=bool(text))


def _divided(text: str) -> tuple[str, str]:
    """What fits the message that is updated, and the rest; divided after a line or a word where there is one."""
    if len(text) <= LONGEST_SHOWN:
        return text, ""
    end = max(text.rfind("\n", 0, LONGEST_SHOWN), text.rfind(" ", LONGEST_SHOWN - 200, LONGEST_SHOWN))
    end = end if end > 0 else LONGEST_SHOWN
    return text[:end].rstrip(), text[end:].lstrip()
