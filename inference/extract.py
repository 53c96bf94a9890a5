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

CLEARLY_DECIDED = re.compile(
    r"^decision\b|\b(we|we've|we have|they|team|i) (just |all |finally |now )?(decided|agreed)\b"
    r"|\b(it'?s|is|was) (now )?(decided|agreed|settled)\b|^agreed\b|\blet'?s (go|stick) with\b"
    r"|\b(we('re| are)|i'?m) going with\b"
    r"|\bwe('ll| will| are going to| shall) (go|stick) with\b|\bsettled on\b|\bis approved\b|^approved\b"
    r"|\bfinal (decision|call|answer)\b",
    re.IGNORECASE,
)
PERHAPS_DECIDED = re.compile(r"\b(we'll|we will|we are going to|we won't|let's|i'll|i will|so be it)\b", re.IGNORECASE)
UNDECIDED = re.compile(
    r"\b(not|never|haven't|hasn't|nothing|before|until|if|whether|once|unless|should|could|would|might|maybe|perhaps)\b"
    r".{0,40}\b(decid|agree|settle|approved|go with|going with)",
    re.IGNORECASE,
)
ASKS = re.compile(
    r"\?\W*$|^(does|do|did|can|could|who|what|when|where|why|how|is|are|should|shall|will|would) .*\?"
    r"|\b(does anyone know|anybody know|open question|still (unclear|open)"
    r"|not sure (if|whether|who|what|how|when|which)|need to (find out|figure out|clarify)"
    r"|(remains|is) to be (seen|decided))\b",
    re.IGNORECASE,
)
SHORT_ANSWER = re.compile(
    r"^\W*(yes|yep|yeah|no|nope|sure|ok|okay|done|correct|right|exactly|will do|on it|both|neither)\b"
    r"|^\W*i('ll| will| can)\b",
    re.IGNORECASE,
)

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

    def summary(self) -> Summary:
        """The findings as people get them."""
        return Summary(_as_points(self.points), _as_points(self.decisions), _as_points(self.open_questions))


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
    """The central sentences of a thread, its decisions, and the questions nobody has answered."""
    all_sentences = sentences(thread)
    opening = [sentence for sentence in all_sentences if sentence.position == 0]
    later = [sentence for sentence in all_sentences if sentence.position > 0]
    chosen = opening[:MOST_SENTENCES] + later[-MOST_SENTENCES:]
    if not chosen:
        return Findings((), (), ())
    vectors = await embedder.embed([sentence.text for sentence in chosen])
    prototypes = await embedder.embed([*DECISION_PROTOTYPES, *REMARK_PROTOTYPES])
    return await asyncio.to_thread(_find, chosen, vectors, prototypes, thread)


def _find(chosen: Sequence[Sentence], vectors: Vectors, prototypes: Vectors, thread: Sequence[Utterance]) -> Findings:
    questions = {index for index, sentence in enumerate(chosen) if ASKS.search(sentence.text)}
    decisions = {
        index
        for index, sentence in enumerate(chosen)
        if index not in questions and _decides(sentence.text, vectors[index], prototypes)
    }
    unanswered = [index for index in sorted(questions) if not _answered(index, chosen, vectors, questions, thread)]
    statements = [
        index
        for index, sentence in enumerate(chosen)
        if index not in questions | decisions and len(re.findall(r"\w+", sentence.text)) >= 4
    ]

    def pick(indices: Sequence[int]) -> tuple[Sentence, ...]:
        return tuple(chosen[index] for index in indices)

    return Findings(
        pick(_central(statements, chosen, vectors)),
        pick(sorted(decisions)[-MOST_OF_A_KIND:]),
        pick(unanswered[-MOST_OF_A_KIND:]),
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
    following = question.position + 1
    if following < len(thread):
        answer = thread[following]
        if answer.author != question.utterance.author and SHORT_ANSWER.search(answer.text):
            return True
    return any(
        later.position > question.position
        and later.utterance.author != question.utterance.author
        and other not in questions
        and float(vectors[other] @ vectors[index]) >= ANSWERS
        for other, later in enumerate(chosen)
    )


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


def _as_points(found: Iterable[Sentence]) -> tuple[SummaryPoint, ...]:
    return tuple(sentence.point() for sentence in found)
