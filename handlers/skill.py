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
from zoneinfo import ZoneInfo

from actions.catalogue import ActionSpec
from actions.road import Road, WantedCall
from actions.signing import Envelope
from handlers.card import Bullets, Text, TextStyle
from handlers.reply import Reply
from handlers.surface import Surface
from handlers.turn import Turn
from inference.handover import Engine, ReplyStream
from inference.model import KnownPerson, Surroundings, Tool
from inference.purpose import Lane
from policies.people import Directory, Person


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, with what a skill may use to answer it."""

    turn: Turn
    person: Person
    request: str
    """All that the person asked for in their own words, with the answer to what we had asked back."""
    words: str
    """The request without the command's name where it was a command."""
    asker: Envelope
    engine: Engine
    """Asks on behalf of this person, in the skill's lane."""
    surface: Surface
    road: Road
    directory: Directory
    skills: tuple[str, ...]
    """One line a skill: what the assistant can do."""

    @property
    def surroundings(self) -> Surroundings:
        """What "tomorrow" and "Amir" mean in this request: the person's own clock, and the organisation's people."""
        return Surroundings(
            now=self.turn.received_at.astimezone(ZoneInfo(self.person.time_zone)),
            people=tuple(KnownPerson(person.id, person.name) for person in self.directory.everyone()),
            asker=self.person.id,
        )


@dataclass(frozen=True, slots=True)
class Composed:
    """A reply that an engine had a part in. The dialog tells people what `degraded` says, as often as they need it."""

    reply: Reply
    engine: str
    """`Answered.engine`."""
    degraded: str | None
    """`Answered.degraded`."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that is shown while it is written, and that the person can stop."""

    stream: ReplyStream


@dataclass(frozen=True, slots=True)
class Question:
    """What the skill must know before it can go on. The person's next message is given to its `follow_up`."""

    text: str
    words: str
    """What was asked for so far; comes back as `asked`."""
    engine: str | None = None
    """Who was asked on the way here; None for nobody."""
    degraded: str | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """Action calls the skill wants made; the rules decide what becomes of them."""

    calls: tuple[WantedCall, ...]
    reason: str
    """Why, in the assistant's words."""
    engine: str | None = None
    """Who proposed them; None for nobody but the skill."""
    degraded: str | None = None


Answer = Reply | Composed | Streamed | Question | Proposal


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

    @property
    def lane(self) -> Lane:
        """Which tier of model it asks: the rich one where a better answer is worth a wait."""
        ...

    def command(self, words: str) -> str | None:
        """The rest of the words when they are exactly this skill's command, None when they are not."""
        ...

    def follow_up(self, asked: str, words: str) -> str | None:
        """The whole request when `words` answer what a `Question` of this skill asked, None when they do not.

        `asked` is that question's `words`. A skill that never asks back returns None.
        """
        ...

    async def answer(self, ask: Ask) -> Answer:
        """Answer, ask back, or propose. Raises CannotPlan with a sentence for the person, SurfaceUnavailable, and
        ModelUnavailable where no engine can answer."""
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


def whole_command(words: str, *commands: str) -> str | None:
    """ "" when the words are one of the commands and nothing else; for skills that have nothing more to read."""
    return "" if plain(words).removesuffix(" please") in commands else None


def plain(words: str) -> str:
    """Words as they are compared with exact ones: lower case, single spaces, no full stop or exclamation mark."""
    return " ".join(words.split()).rstrip(".! ").lower()


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


def what_i_can(introduction: str, skills: Sequence[Skill], excuses: Sequence[str] = ()) -> Reply:
    """What can be asked for, after a sentence on why this is said."""
    notes = (Text(excuse, TextStyle.SUBTLE) for excuse in excuses)
    return Reply(parts=(Text(introduction), Bullets(listed(skills)), *notes))


def listed(skills: Sequence[Skill]) -> tuple[str, ...]:
    """One line a skill, for help and for honest refusals."""
    return tuple(f"{skill.description} For example: {skill.usage}" for skill in skills)
