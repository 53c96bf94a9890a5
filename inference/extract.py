"""Finds what matters in a thread without a language model. Every sentence that comes out stands in the thread, word
for word: this code chooses, it never writes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inference.embeddings import Embedder
from inference.model import Summary, SummaryPoint, Utterance
from inference.statements import (
    ASKS,
    ASKS_HOW_MUCH,
    CLEARLY_DECIDED,
    HAS_QUANTITY,
    NO_ANSWER,
    PERHAPS_DECIDED,
    REFERS_BACK,
    SHORT_ANSWER,
    UNDECIDED,
    gives_a_task,
    names_a_day,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

MOST_SENTENCES = 300
"""Sentences of a thread that are weighed, newest first, besides its opening message: under a second of one core."""

MOST_POINTS = 5
MOST_OF_A_KIND = 5
"""Decisions, and open questions, shown at most; the newest."""

REDUNDANCY = 0.5
"""Weight of being like a point already chosen, the rest being that of being central (maximal marginal relevance). Less
lets one statement in three wordings crowd out the others."""

OPENING = 0.15
"""What the very first sentence gains: it says what the thread is about."""

ANSWERS = 0.5
"""Likeness from which a later statement by somebody else is taken to answer a question. Sentences of one thread that
have nothing to do with each other lie around 0.2."""

ANSWERS_AT_ONCE = 0.35
"""The same for the very next message: where somebody else speaks directly after a question, less is enough."""

DECISION_PROTOTYPES = (
    "We decided to do it this way.",
    "We will go ahead with the second option.",
    "Let's ship it on Friday.",
    "We will use the new supplier from next month.",
    "I'll take this and we do it tomorrow.",
)
REMARK_PROTOTYPES = (
    "I will be late today.",
    "It has been broken since this morning.",
    "Thanks, that is very kind of you.",
    "I looked at the logs and found an error.",
    "We'll see what happens.",
    "I'll have a look and come back to you.",
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, as it stands in its message."""

    text: str
    utterance: Utterance
    position: int
    """Of the message in the thread."""

    def point(self) -> SummaryPoint:
        """The sentence with its speaker."""
        return SummaryPoint(f"{self.utterance.author}: {self.text}", (self.utterance.id,))


@dataclass(frozen=True, slots=True)
class Findings:
    """What a thread holds, in its order. No sentence is in two of them."""

    points: tuple[Sentence, ...]
    decisions: tuple[Sentence, ...]
    open_questions: tuple[Sentence, ...]
    tasks: tuple[Sentence, ...] = ()
    dates: tuple[Sentence, ...] = ()
    """Those that name a day and are nothing of the above."""

    def summary(self) -> Summary:
        """The findings as people get them."""
        return Summary(
            _as_points(self.points),
            _as_points(self.decisions),
            _as_points(self.open_questions),
            tasks=_as_points(self.tasks),
            dates=_as_points(self.dates),
        )


def sentences(thread: Iterable[Utterance]) -> list[Sentence]:
    """The sentences of a thread, without code blocks, quoted lines and bullets."""
    found = []
    for position, utterance in enumerate(thread):
        text = re.sub(r"```.*?(```|$)", "\n", utterance.text, flags=re.DOTALL)
        for line in text.splitlines():
            if line.lstrip().startswith((">", "&gt;")):
                continue
            line = re.sub(r"^\s*([-*•]|\d+[.)])\s+", "", line)
            for sentence in re.split(r"(?<=[.!?…])\s+(?=[^a-z])", line):
                if len(re.findall(r"\w+", sentence)) >= 2:
                    found.append(Sentence(sentence.strip(), utterance, position))
    return found


async def findings(thread: Sequence[Utterance], embedder: Embedder) -> Findings:
    """The central sentences of a thread, its decisions, who does what, its days, and the questions nobody answered."""
    chosen = await asyncio.to_thread(_chosen, thread)
    if not chosen:
        return Findings((), (), ())
    vectors = await embedder.embed([sentence.text for sentence in chosen])
    prototypes = await embedder.embed([*DECISION_PROTOTYPES, *REMARK_PROTOTYPES])
    return await asyncio.to_thread(_find, chosen, vectors, prototypes, thread)


def _chosen(thread: Sequence[Utterance]) -> list[Sentence]:
    """The sentences that are weighed: those of the opening message, and the newest."""
    all_sentences = sentences(thread)
    opening = [sentence for sentence in all_sentences if sentence.position == 0]
    later = [sentence for sentence in all_sentences if sentence.position > 0]
    return opening[:MOST_SENTENCES] + later[-MOST_SENTENCES:]


def _find(chosen: Sequence[Sentence], vectors: Vectors, prototypes: Vectors, thread: Sequence[Utterance]) -> Findings:
    names = {first_name(utterance.author) for utterance in thread}
    every = range(len(chosen))
    tasks = {index for index in every if gives_a_task(chosen[index].text, names, chosen[index].utterance.at)}
    questions = {index for index in every if index not in tasks and ASKS.search(chosen[index].text)}
    decisions = {
        index for index in every if index not in questions and _decides(chosen[index].text, vectors[index], prototypes)
    }
    tasks -= decisions
    dates = {
        index
        for index in every
        if index not in questions | decisions | tasks and names_a_day(chosen[index].text, chosen[index].utterance.at)
    }
    unanswered = [index for index in sorted(questions) if not _answered(index, chosen, vectors, questions, thread)]
    taken = questions | decisions | tasks | dates
    statements = [index for index in every if index not in taken and len(re.findall(r"\w+", chosen[index].text)) >= 4]

    def pick(indices: Sequence[int]) -> tuple[Sentence, ...]:
        return tuple(chosen[index] for index in indices)

    return Findings(
        pick(_central(statements, chosen, vectors)),
        pick(sorted(decisions)[-MOST_OF_A_KIND:]),
        pick(unanswered[-MOST_OF_A_KIND:]),
        pick(sorted(tasks)[-MOST_OF_A_KIND:]),
        pick(sorted(dates)[-MOST_OF_A_KIND:]),
    )


def _decides(text: str, vector: Vectors, prototypes: Vectors) -> bool:
    if UNDECIDED.search(text):
        return False
    if CLEARLY_DECIDED.search(text):
        return True
    if not PERHAPS_DECIDED.search(text):
        return False
    likeness = prototypes @ vector
    split = len(DECISION_PROTOTYPES)
    return bool(likeness[:split].max() > likeness[split:].max())


def _answered(
    index: int, chosen: Sequence[Sentence], vectors: Vectors, questions: set[int], thread: Sequence[Utterance]
) -> bool:
    question = chosen[index]
    author = question.utterance.author
    later = [
        other
        for other in range(index + 1, len(chosen))
        if chosen[other].position > question.position
        and chosen[other].utterance.author != author
        and other not in questions
        and not NO_ANSWER.search(chosen[other].text)
    ]
    following = next(iter(thread[question.position + 1 : question.position + 2]), None)
    if following is not None and following.author != author and not NO_ANSWER.search(following.text):
        if SHORT_ANSWER.search(following.text) or _fits(question.text, following.text):
            return True
        at_once = (other for other in later if chosen[other].position == question.position + 1)
        if any(float(vectors[other] @ vectors[index]) >= ANSWERS_AT_ONCE for other in at_once):
            return True
    return any(float(vectors[other] @ vectors[index]) >= ANSWERS for other in later)


def _fits(question: str, answer: str) -> bool:
    """Whether what follows a question has the form of an answer to it: an amount to "how much", "About …" to any."""
    if ASKS.search(answer):
        return False
    return bool(REFERS_BACK.search(answer) or (ASKS_HOW_MUCH.search(question) and HAS_QUANTITY.search(answer)))


def _central(candidates: Sequence[int], chosen: Sequence[Sentence], vectors: Vectors) -> list[int]:
    """Indices of the sentences that stand for the thread without repeating each other, in the thread's order."""
    if not candidates:
        return []
    middle = vectors.mean(axis=0)
    worth = {index: float(vectors[index] @ middle) + (OPENING if index == 0 else 0.0) for index in candidates}
    wanted = min(MOST_POINTS, max(3, len(candidates) // 2), len(candidates))
    picked: list[int] = []
    while len(picked) < wanted:
        left = [index for index in candidates if index not in picked]

        def gain(index: int) -> float:
            repeats = max((float(vectors[index] @ vectors[other]) for other in picked), default=0.0)
            return (1 - REDUNDANCY) * worth[index] - REDUNDANCY * repeats

        picked.append(max(left, key=gain))
    return sorted(picked)


def first_name(author: str) -> str:
    """What colleagues call somebody: the first word of the name that is shown."""
    return author.split(" ")[0]


def _as_points(found: Iterable[Sentence]) -> tuple[SummaryPoint, ...]:
    return tuple(sentence.point() for sentence in found)
