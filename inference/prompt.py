"""Renders what a model reads. The system part of a kind of request is the same bytes every time the same skills,
labels or tools are given, so that the server can reuse its prefix; what changes comes after it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from inference.model import Utterance

Message = dict[str, str]
"""One chat message of a request: `role` and `content`."""

THREAD_CHARACTERS = 24_000
"""How much of a thread is shown to the model, newest messages first: some 6,000 tokens."""


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
        self._templates.filters["data"] = fenced

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
            {"role": "assistant", "content": answer},
            {"role": "user", "content": self._block("repair", "user", {"problem": problem})},
        ]

    def _block(self, kind: str, block: str, values: Mapping[str, Any]) -> str:
        template = self._templates.get_template(f"{kind}.j2")
        return "".join(template.blocks[block](template.new_context(dict(values)))).strip()

    def _newest(self, thread: Sequence[Utterance]) -> tuple[list[Utterance], int]:
        kept: list[Utterance] = []
        room = self._thread_characters
        for utterance in reversed(thread):
            if room <= 0:
                break
            kept.append(replace(utterance, text=utterance.text[:room]))
            room -= len(utterance.text)
        return kept[::-1], len(thread) - len(kept)


def fenced(value: Any) -> str:
    """A value as one line of JSON in which no tag can be written, so that it cannot leave the fence it stands in."""
    return json.dumps(value, ensure_ascii=False, default=dict).replace("<", "\\u003c").replace(">", "\\u003e")
