"""The engine that answers when no language model does: sentence embeddings, patterns and templates on one core.

It says less than a model, and it invents nothing: what it states stands in the thread, in the skills it was told of,
or in its templates.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from inference.commands import asks_for, clauses, command_part, phrasings, tells
from inference.embeddings import Embedder
from inference.extract import Sentence, findings, sentences
from inference.intent import IntentIndex
from inference.model import Classification, Facts, Label, PlanProposal, ProposedCall, Summary, Tool, Utterance
from inference.slots import fill

NAME = "offline engine"

MOST_SKILLS = 4
"""Skills named in a reply; the nearest to what was asked."""

RELATED = 0.35
"""Likeness from which a skill is called close to what was asked."""

QUOTABLE = 0.55
"""Likeness from which a sentence of the thread is quoted as an answer; chance pairs in a thread lie around 0.2."""

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
        quote = await self._quote(words, facts.thread)
        text = self._templates.get_template("reply.j2").render(skills=skills, close=close, quote=quote)
        for line in text.strip().splitlines(keepends=True):
            yield line

    async def summarise(self, thread: Sequence[Utterance]) -> Summary:
        """The thread's most telling sentences, decisions and unanswered questions, word for word with who said them."""
        return (await findings(thread, self._embedder)).summary()

    async def draft(self, instruction: str, thread: Sequence[Utterance]) -> str:
        """A frame for a reply: whom to answer, what they asked, what was decided, and what the instruction says."""
        found = await findings(thread, self._embedder)
        named = [each.author for each in thread if _first_name(each.author) in re.findall(r"\w+", instruction)]
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
        text = self._templates.get_template("draft.j2").render(
            to=_first_name(addressees[-1]) if addressees else "",
            question=question.text if question else None,
            last=last[-1].text if last else None,
            said=said.group("said").strip().rstrip(".") if said else None,
            stance=next((stance for stance, pattern in STANCES if pattern.search(manner)), None),
            decisions=found.decisions,
        )
        return text.strip()

    async def classify(self, text: str, labels: Sequence[Label]) -> Classification:
        """By the labels' examples and descriptions, see `IntentIndex`; None for what fits none of them."""
        return await self._index(tuple(labels)).decide(text)

    async def propose_plan(self, words: str, tools: Sequence[Tool], thread: Sequence[Utterance]) -> PlanProposal | None:
        """The calls of the one tool that the words ask for; None where there is none, or where a required argument is
        not in the words. The thread is not used: what others wrote fills no argument."""
        if tells(words):
            return None
        labels = tuple(Label(tool.name, tool.description, phrasings(tool)) for tool in tools)
        nearest = await self._nearest_tool(labels, words)
        asked_for = [tool for tool in tools if tool.name == nearest]
        asked_for += [tool for tool in tools if tool.name != nearest and asks_for(tool, words)]
        for tool in asked_for:
            calls = tuple(ProposedCall(tool.name, arguments) for arguments in fill(tool, words))
            if calls:
                return PlanProposal(calls, f"The request reads like: {tool.description.rstrip('.')}.")
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

    async def _quote(self, words: str, thread: Sequence[Utterance]) -> Sentence | None:
        told = [sentence for sentence in sentences(thread) if not sentence.text.endswith("?")][-100:]
        if not told:
            return None
        likeness = await self._likeness(words, [sentence.text for sentence in told])
        best = max(range(len(told)), key=likeness.__getitem__)
        return told[best] if likeness[best] >= QUOTABLE else None

    async def _likeness(self, words: str, texts: Sequence[str]) -> list[float]:
        vectors = await self._embedder.embed([words, *texts])
        return [float(each) for each in vectors[1:] @ vectors[0]]


def _first_name(author: str) -> str:
    return author.split(" ")[0]
