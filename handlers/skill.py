"""The contract of a skill: it answers one kind of request. One module in `handlers/skills/`, one line in its registry.

class Help:
    name = "help"
    ...
    async def answer(self, ask: Ask) -> Answer:
        return Reply.text("...")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from actions.catalogue import ActionSpec
from actions.road import Road, WantedCall
from actions.signing import Envelope
from handlers.reply import Reply
from handlers.surface import Surface
from handlers.turn import Turn
from inference.handover import Engine
from inference.model import Tool
from policies.people import Person


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, with what a skill may use to answer it."""

    turn: Turn
    person: Person
    words: str
    """What the person said, without the command's name when it was a command."""
    asker: Envelope
    engine: Engine
    surface: Surface
    road: Road


@dataclass(frozen=True, slots=True)
class Proposal:
    """Action calls the skill wants made; the rules decide what becomes of them."""

    calls: tuple[WantedCall, ...]
    reason: str
    """Why, in the assistant's words."""
    note: str | None = None
    """Something the person should know, such as that the offline engine answered."""


Answer = Reply | Proposal


class Skill(Protocol):
    """Answers one kind of request."""

    @property
    def name(self) -> str:
        """`close a ticket`; also the label the router decides on."""
        ...

    @property
    def usage(self) -> str:
        """How to ask for it, as people may type it."""
        ...

    @property
    def description(self) -> str:
        """What it does, in a sentence."""
        ...

    @property
    def examples(self) -> tuple[str, ...]:
        """Ways people ask for it; the router learns from them."""
        ...

    @property
    def progress(self) -> str:
        """What is shown while it works: `reading the thread`."""
        ...

    def command(self, words: str) -> str | None:
        """The rest of the words when they are exactly this skill's command, None when they are not."""
        ...

    async def answer(self, ask: Ask) -> Answer:
        """Answer, or propose. Raises CannotPlan with a sentence for the person."""
        ...


def after_command(words: str, *commands: str) -> str | None:
    """What follows the first of the commands that the words begin with; case and extra spaces do not matter."""
    folded = " ".join(words.split())
    for command in commands:
        if folded.lower() == command:
            return ""
        if folded.lower().startswith((f"{command} ", f"{command}:")):
            return words.strip()[_length_of(words.strip(), command) :].lstrip(" :\n\t")
    return None


def _length_of(words: str, command: str) -> int:
    """How many characters of `words` the command takes, however it is spaced."""
    position = 0
    for part in command.split():
        position = words.lower().index(part, position) + len(part)
    return position


def as_tool(spec: ActionSpec) -> Tool:
    """An action as a model sees it: without the arguments that the assistant fills in itself."""
    schema = spec.schema()
    properties = {
        name: field for name, field in schema.get("properties", {}).items() if field.get("x-filled-by") != "assistant"
    }
    return Tool(spec.name, spec.description, {**schema, "properties": properties})


def listed(skills: Sequence[Skill]) -> tuple[str, ...]:
    """One line a skill, for help and for honest refusals."""
    return tuple(f"{skill.description} For example: {skill.usage}" for skill in skills)
