"""What one server-sent chunk of a streamed chat completion says, and the answer that the chunks add up to.

A chunk that is not what the protocol says is `ModelUnavailable`, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import orjson

from inference.model import ModelUnavailable
from inference.usage import Usage

LONGEST_LINE = 1 << 20
"""Bytes of one server-sent event line. A peer that sends more is not speaking the protocol."""

LONGEST_ANSWER = 4 << 20
"""Characters of one answer, tool calls included."""

MOST_CALLS_STREAMED = 64
"""Tool calls in one answer."""

CHARACTERS_PER_TOKEN = 4
"""For estimates where a server does not count: about right for English, too few tokens for most other languages."""

NOT_A_CHUNK = "the model server sent something that is not a chunk"


@dataclass(slots=True)
class ToolCall:
    """One call as the model wrote it; its arguments may not even be JSON."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Answer:
    """What has arrived of an answer so far."""

    finish: str | None = None
    """Why the server ended it; None while it has not."""
    calls: dict[int, ToolCall] = field(default_factory=dict)
    """By the index the server gives them."""
    usage: Usage | None = None
    characters: int = 0
    pieces: int = 0
    """Chunks with a token in them, whether people see it or not."""
    turned_away: bool = False
    """The server reported an error before any token: most often, a full queue."""

    @property
    def empty(self) -> bool:
        """Nothing of use came: neither a word nor a call. Thinking is neither."""
        return not self.characters and not self.calls

    def take(self, event: Mapping[str, Any]) -> str | None:
        """Read one chunk; returns its words, "" for progress without words, None for neither.

        A full queue shows up here and not in the status: with `stream` vLLM answers 200 and then sends the error as
        an event. Raises `ModelUnavailable`.
        """
        self.take_usage(event)
        if not event.get("choices") or event.get("error"):
            self._check_without_choices(event)
            return None
        try:
            choice = event["choices"][0]
            delta = choice.get("delta") or {}
            finish = choice.get("finish_reason")
            content = delta.get("content")
            thinking = delta.get("reasoning_content") or delta.get("reasoning")
            calls = delta.get("tool_calls")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise ModelUnavailable(NOT_A_CHUNK) from None
        if (content is not None and type(content) is not str) or (finish is not None and type(finish) is not str):
            raise ModelUnavailable(NOT_A_CHUNK)
        if finish is not None:
            self.finish = finish
        if calls:
            self._add_calls(calls)
        if not content and not thinking and not calls:
            return None
        self.pieces += 1
        if content:
            self.characters += len(content)
        if self.characters > LONGEST_ANSWER:
            raise ModelUnavailable("the model server sent an answer without end")
        return content or ""

    def take_usage(self, event: Mapping[str, Any]) -> None:
        """Read what a chunk says of the tokens spent, which is most often nothing."""
        said = event.get("usage")
        if said:
            self.usage = _usage(said) or self.usage

    def estimate(self, prompt_characters: int) -> Usage:
        """Tokens by what went and came, for an answer that the server has not counted."""
        return Usage(
            prompt_tokens=-(-prompt_characters // CHARACTERS_PER_TOKEN),
            cached_tokens=None,
            completion_tokens=max(self.pieces, -(-self.characters // CHARACTERS_PER_TOKEN)),
            estimated=True,
        )

    def _check_without_choices(self, event: Mapping[str, Any]) -> None:
        if "error" in event or event.get("object") == "error":
            self.turned_away = not self.pieces
            error = event.get("error", event)
            code = error.get("code") if isinstance(error, dict) else None
            raise ModelUnavailable(f"the model server reported an error in its stream (code {str(code)[:20]})")
        if event.get("choices") != [] and "usage" not in event:
            raise ModelUnavailable(NOT_A_CHUNK)

    def _add_calls(self, deltas: Any) -> None:
        """Pieces of tool calls: the id and the name come once, the arguments in any number of pieces."""
        malformed = ModelUnavailable("the model server sent a tool call that is not one")
        if not isinstance(deltas, list):
            raise malformed
        for delta in deltas:
            function = delta.get("function") if isinstance(delta, dict) else None
            index = delta.get("index") if isinstance(delta, dict) else None
            if type(index) is not int or not 0 <= index < MOST_CALLS_STREAMED or not isinstance(function, dict):
                raise malformed
            parts = (delta.get("id"), function.get("name"), function.get("arguments"))
            if not all(isinstance(part, str | None) for part in parts):
                raise malformed
            call = self.calls.setdefault(index, ToolCall())
            call.id = call.id or parts[0] or ""
            call.name = call.name or parts[1] or ""
            call.arguments += parts[2] or ""
            self.characters += len(parts[1] or "") + len(parts[2] or "")


class Lines:
    """Server-sent events out of bytes that are cut anywhere."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The `data:` of every line that is complete with this chunk. Raises `ModelUnavailable`."""
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        if len(self._pending) > LONGEST_LINE:
            raise ModelUnavailable("the model server sent a line without end")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


def parsed(data: bytes) -> Mapping[str, Any]:
    """One event's JSON object. Raises `ModelUnavailable`."""
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise ModelUnavailable("the model server sent something that is not JSON") from None
    if not isinstance(event, dict):
        raise ModelUnavailable(NOT_A_CHUNK)
    return event


def _usage(said: Any) -> Usage | None:
    """None where the counts are none: usage is never a reason to lose an answer."""
    if not isinstance(said, dict):
        return None
    prompt, completion = said.get("prompt_tokens"), said.get("completion_tokens", 0)
    if not _is_count(prompt) or not _is_count(completion):
        return None
    details = said.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Usage(
        prompt_tokens=prompt,
        cached_tokens=cached if _is_count(cached) else None,
        completion_tokens=completion,
        estimated=False,
    )


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and value >= 0
