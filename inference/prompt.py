"""Renders what a model reads. The system part of a kind of request is the same bytes every time the same skills,
labels or tools are given, so that the server can reuse its prefix; what changes comes after it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from inference.model import KnownPerson, Surroundings, Utterance

Message = dict[str, Any]
"""One chat message of a request: `role`, `content`, and what else its role needs."""

THREAD_CHARACTERS = 24_000
"""How much of a thread is shown to the model, newest messages first: some 6,000 tokens."""

MOST_PEOPLE = 40
"""People shown to the model at once."""

_NAME = re.compile(r"[^\W\d_]{2,}")
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Prompts:
    """The templates in `inference/prompts/`, each with a block `system` and a block `user`."""

    def __init__(self, *, thread_characters: int = THREAD_CHARACTERS) -> None:
        self._thread_characters = thread_characters
        self._templates = Environment(
            loader=PackageLoader("inference", "prompts"),
            undefined=StrictUndefined,
            # What a model reads is no HTML; the `data` filter is what keeps outside words inside their fence.
            autoescape=False,  # noqa: S701
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"data": fenced, "moment": moment}
        # Once, because an import in each template would run it for every request.
        self._templates.globals["outside"] = self._templates.get_template("outside.j2").module

    def messages(self, kind: str, **values: Any) -> list[Message]:
        """The system and the user message of a kind of request. A `thread` among the values is cut to fit."""
        if "thread" in values:
            values["thread"], values["left_out"] = self._newest(values["thread"])
        return [
            {"role": "system", "content": self._block(kind, "system", values)},
            {"role": "user", "content": self._block(kind, "user", values)},
        ]

    def repair(self, answer: str, problem: str) -> list[Message]:
        """What is said after an ill-formed answer to get a well-formed one."""
        return [
            {"role": "assistant", "content": inert(answer)},
            {"role": "user", "content": self._block("repair", "user", {"problem": problem})},
        ]

    def call_problem(self, problem: str) -> str:
        """What an ill-formed tool call is told as its result."""
        return self._block("call_tools", "problem", {"problem": problem})

    def _block(self, kind: str, block: str, values: Mapping[str, Any]) -> str:
        template = self._templates.get_template(f"{kind}.j2")
        rendered = "".join(template.blocks[block](template.new_context(dict(values)))).strip()
        return re.sub(r"\n{3,}", "\n\n", rendered)

    def _newest(self, thread: Sequence[Utterance]) -> tuple[list[Utterance], int]:
        kept: list[Utterance] = []
        room = self._thread_characters
        for utterance in reversed(thread):
            if room <= 0:
                break
            kept.append(replace(utterance, text=utterance.text[:room]))
            room -= len(utterance.text)
        return kept[::-1], len(thread) - len(kept)


def inert(text: str) -> str:
    """A model's own words as they may be said back to it: without the angle brackets that its chat template might
    read as the end of a message. JSON stays the same JSON, because they can only stand in its strings."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def fenced(value: Any) -> str:
    """A value as one line of JSON in which no tag can be written, so that it cannot leave the fence it stands in."""
    return json.dumps(value, ensure_ascii=False, default=dict).replace("<", "\\u003c").replace(">", "\\u003e")


def moment(at: datetime) -> str:
    """A time as a model reads it best, in the zone it has: `Monday 2026-03-02 09:00+01:00`."""
    return f"{_WEEKDAYS[at.weekday()]} {at.isoformat(sep=' ', timespec='minutes')}"


def worth_showing(surroundings: Surroundings, words: str, thread: Sequence[Utterance]) -> list[KnownPerson]:
    """Whom a request may mean: all where they are few, else who asks and those one of whose names is mentioned."""
    people = surroundings.people
    if len(people) <= MOST_PEOPLE:
        return list(people)
    said = set(_NAME.findall(" ".join((words, *(utterance.text for utterance in thread))).casefold()))
    asker = [person for person in people if person.id == surroundings.asker]
    others = (person for person in people if person.id != surroundings.asker)
    named = [person for person in others if said & set(_NAME.findall(f"{person.id} {person.name}".casefold()))]
    return [*asker, *named][:MOST_PEOPLE]
