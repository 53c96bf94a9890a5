"""The engine that answers when no language model does: sentence embeddings, patterns and templates on one core.

It says less than a model, and it invents nothing: what it states stands in the thread, in the skills it was told of,
or in its templates.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from inference.commands import EMPTY_WORDS, asks_for, clauses, command_part, name_parts, phrasings, tells, tokens
from inference.embeddings import Embedder
from inference.extract import Sentence, findings, first_name, sentences
from inference.intent import IntentIndex
from inference.model import (
    Classification,
    Facts,
    Label,
    PlanProposal,
    ProposedCall,
    Summary,
    Surroundings,
    Tool,
    Utterance,
)
from inference.origins import labelled
from inference.slots import Filled, fill
from inference.statements import ASKS, HAS_QUANTITY, says_when

NAME = "offline engine"

MOST_SKILLS = 4
"""Skills named in a reply; the nearest to what was asked."""

RELATED = 0.35
"""Likeness from which a skill is called close to what was asked."""

QUOTABLE = 0.55
"""Likeness from which a sentence of the thread is quoted as an answer; chance pairs in a thread lie around 0.2."""

SHARED_WORDS = 0.2
"""What a sentence gains that has all the words of the question that say something."""

RIGHT_KIND = 0.1
"""What a sentence gains that has what the question asks for: a day for "when", a number for "how many"."""

MOST_SEARCHED = 150
"""Sentences of a thread that are compared with a question; the newest."""

MOST_QUOTES = 3
NEARLY_AS_GOOD = 0.1
"""How far behind the best a sentence may lie and still be quoted beside it."""

INDEXES = 16
"""Label sets whose index is kept; a caller asks with the same few again and again."""

STANCES = (
    (
        "decline",
        re.compile(r"\b(declin|refus|reject|turn (it |them |him |her )?down|say no\b|can'?t make|cannot)", re.I),
    ),
    ("more time", re.compile(r"\b(more time|postpone|delay|later|not ready|extension)", re.I)),
    ("accept", re.compile(r"\b(accept|agree|confirm|say yes|approve|yes\b)", re.I)),
    ("thank", re.compile(r"\bthank", re.I)),
)
POLITE = re.compile(r"\b(polite(ly)?|formal(ly)?|kind(ly)?|friendly|courteous(ly)?|warm(ly)?)\b", re.IGNORECASE)
SHORT = re.compile(r"\b(short(ly)?|brief(ly)?|concise(ly)?|one[- ]liner|in one (line|sentence))\b", re.IGNORECASE)
QUESTION_WORDS = frozenset(
    tokens(
        "what when where who whose which why how do does did is are was were has have had will would can could should "
        "much many"
    )
)
SAID = re.compile(
    r"\b(?:say(?:ing)?|tell(?:ing)?\s+(?:her|him|them|everyone|everybody|[A-Z]\w+)|mention(?:ing)?|explain(?:ing)?|"
    r"because)\s+(?:that\s+)?(?!no\b|yes\b|thank)(?P<said>.+)$",
    re.DOTALL,
)


class OfflineEngine:
    """An `AssistantModel` that needs no server, no GPU and no download."""

    name = NAME

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._indexes: OrderedDict[tuple[Label, ...], IntentIndex] = OrderedDict()
        self._templates = Environment(
            loader=PackageLoader("inference", "words"),
            undefined=StrictUndefined,
            # Plain text for people; each surface escapes it in its own way.
            autoescape=False,  # noqa: S701
            trim_blocks=True,
            lstrip_blocks=True,
        )

    async def reply(self, words: str, facts: Facts) -> AsyncGenerator[str, None]:
        """Say honestly what this engine cannot do, quote the thread where it answers, and name the nearest skills."""
        skills, close = await self._nearest_skills(words, facts.skills)
        quotes = await self._quotes(words, facts.thread)
        asked = ASKS.search(words) is not None
        text = self._templates.get_template("reply.j2").render(
            skills=skills, close=close, quotes=quotes, searched=bool(facts.thread) and asked
        )
        for line in text.strip().splitlines(keepends=True):
            yield line

    async def summarise(self, thread: Sequence[Utterance]) -> Summary:
        """The thread's most telling sentences, decisions and unanswered questions, word for word with who said them."""
        return (await findings(thread, self._embedder)).summary()

    async def draft(self, instruction: str, thread: Sequence[Utterance]) -> str:
        """A frame for a reply: whom to answer, what they asked, what was decided and when, and what the instruction
        says, in the tone it asks for. What is not known is left in brackets for the person."""
        found = await findings(thread, self._embedder)
        named = [each.author for each in thread if first_name(each.author) in re.findall(r"\w+", instruction)]
        questions = [each for each in found.open_questions if not named or each.utterance.author in named]
        question = questions[-1] if questions else None
        addressees = [
            *(each.author for each in thread[-1:]),
            *named[-1:],
            *(each.utterance.author for each in questions),
        ]
        last = sentences(each for each in thread if each.author in addressees[-1:])
        said = SAID.search(instruction.strip())
        manner = instruction[: said.start()] if said else instruction
        short = SHORT.search(manner) is not None
        text = self._templates.get_template("draft.j2").render(
            to=first_name(addressees[-1]) if addressees else "",
            question=question.text if question else None,
            last=last[-1].text if last else None,
            said=said.group("said").strip().rstrip(".") if said else None,
            stance=next((stance for stance, pattern in STANCES if pattern.search(manner)), None),
            polite=POLITE.search(manner) is not None,
            decisions=() if short else found.decisions,
            dates=() if short else found.dates,
        )
        return text.strip()

    async def classify(self, text: str, labels: Sequence[Label]) -> Classification:
        """By the labels' examples and descriptions, see `IntentIndex`; None for what fits none of them."""
        return await self._index(tuple(labels)).decide(text)

    async def propose_plan(
        self,
        words: str,
        tools: Sequence[Tool],
        thread: Sequence[Utterance],
        surroundings: Surroundings | None = None,
    ) -> PlanProposal | None:
        """The calls of the one tool that the words ask for; None where there is none, or where a required argument is
        not in the words. The thread fills no argument: what others wrote is not what the requester asks.

        The reason says which words each date, sum and person was read from, and what was left open and why.
        """
        if tells(words):
            return None
        labels = tuple(Label(tool.name, tool.description, phrasings(tool)) for tool in tools)
        nearest = await self._nearest_tool(labels, words)
        asked_for = [tool for tool in tools if tool.name == nearest]
        asked_for += [tool for tool in tools if tool.name != nearest and asks_for(tool, words)]
        for tool in asked_for:
            # In a thread: a long message takes the patterns some milliseconds that the event loop has not.
            filled = await asyncio.to_thread(fill, tool, words, surroundings)
            if filled:
                calls = tuple(ProposedCall(tool.name, each.arguments) for each in filled)
                return labelled(PlanProposal(calls, _reason(tool, filled[0])), words, thread)
        return None

    async def _nearest_tool(self, labels: tuple[Label, ...], words: str) -> str | None:
        """The tool that the words name before they come to what it is about, or else in their last clause that names
        one: "create a ticket: the printer is jammed" as well as "the printer is jammed, please create a ticket"."""
        for part in (command_part(words), *reversed(clauses(words))):
            found = await self._index(labels).decide(part)
            if found.label is not None:
                return found.label
        return None

    async def close(self) -> None:
        """Nothing of its own to release; the embedder belongs to whoever made it."""

    def _index(self, labels: tuple[Label, ...]) -> IntentIndex:
        index = self._indexes.get(labels)
        if index is None:
            index = self._indexes[labels] = IntentIndex(self._embedder, labels)
        self._indexes.move_to_end(labels)
        while len(self._indexes) > INDEXES:
            self._indexes.popitem(last=False)
        return index

    async def _nearest_skills(self, words: str, skills: Sequence[str]) -> tuple[list[str], bool]:
        if not skills:
            return [], False
        likeness = await self._likeness(words, skills)
        order = sorted(range(len(skills)), key=likeness.__getitem__, reverse=True)[:MOST_SKILLS]
        return [skills[index] for index in order], likeness[order[0]] >= RELATED

    async def _quotes(self, words: str, thread: Sequence[Utterance]) -> list[Sentence]:
        """What was said that answers the words best, best first; empty where nothing comes near."""
        told = (await asyncio.to_thread(sentences, thread))[-MOST_SEARCHED:]
        told = [sentence for sentence in told if not sentence.text.endswith("?")]
        if not told:
            return []
        likeness = await self._likeness(words, [sentence.text for sentence in told])
        asked = tokens(words) - EMPTY_WORDS - QUESTION_WORDS
        worth = []
        for sentence, near in zip(told, likeness, strict=True):
            shared = len(asked & tokens(sentence.text)) / len(asked) if asked else 0.0
            kind = RIGHT_KIND if _is_of_the_kind_asked_for(words, sentence) else 0.0
            # An echo of the question's own words is worth nothing without a sentence that is about the same.
            worth.append(near + (SHARED_WORDS * shared + kind if near >= RELATED else 0.0))
        order = sorted(range(len(told)), key=worth.__getitem__, reverse=True)
        best = worth[order[0]]
        if best < QUOTABLE:
            return []
        return [told[index] for index in order[:MOST_QUOTES] if worth[index] >= max(QUOTABLE, best - NEARLY_AS_GOOD)]

    async def _likeness(self, words: str, texts: Sequence[str]) -> list[float]:
        vectors = await self._embedder.embed([words, *texts])
        return [float(each) for each in vectors[1:] @ vectors[0]]


def _is_of_the_kind_asked_for(words: str, sentence: Sentence) -> bool:
    asked = words.lower()
    if re.search(r"\b(when|what (day|date|time)|which day|deadline|how long until)\b", asked):
        return says_when(sentence.text, sentence.utterance.at)
    return (
        re.search(r"\bhow (much|many|long|often)\b", asked) is not None
        and HAS_QUANTITY.search(sentence.text) is not None
    )


def _reason(tool: Tool, filled: Filled) -> str:
    """Why this call, from which words its reckoned values come, and what was left open."""
    said = [f"The request reads like: {tool.description.rstrip('.')}."]
    by_words = {(each.text, each.shown): name for name, each in reversed(list(filled.read.items()))}
    for (words, shown), name in reversed(list(by_words.items())):
        said.append(f"{_spoken(name)}: {shown}, read from “{words}”.")
    said += [f"{_spoken(name)} is left open: {why}." for name, why in filled.open.items()]
    return " ".join(said)


def _spoken(name: str) -> str:
    words = " ".join(name_parts(name))
    return words[:1].upper() + words[1:]
