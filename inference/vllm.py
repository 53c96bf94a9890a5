"""The language model behind a vLLM server, as an `AssistantModel`.

Everything is asked for as a stream, so that a server that hangs is noticed at its first missing token and not after a
minute. Nothing that comes back is trusted: it fits the agreed form, mended once if need be, or is `ModelUnavailable`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from inference.answers import (
    IllFormedAnswer,
    Schema,
    classification_schema,
    plan_schema,
    read_classification,
    read_plan,
    read_summary,
    summary_schema,
)
from inference.chat_completions import ChatCompletions
from inference.limits import ModelLimits
from inference.model import Classification, Facts, Label, ModelUnavailable, PlanProposal, Summary, Tool, Utterance
from inference.observe import Observe, ignore
from inference.prompt import Message, Prompts

T = TypeVar("T")

MOST_TOKENS = {"reply": 700, "summarise": 1200, "draft": 700, "classify": 60, "propose_plan": 800}
"""How long an answer of each kind may get."""


class VllmModel:
    """Answers through vLLM's OpenAI-compatible `/v1/chat/completions`."""

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        limits: ModelLimits | None = None,
        *,
        observe: Observe = ignore,
    ) -> None:
        """`model` is the served model's name; it is also what people are told answered.
        `observe` hears of every request to the server: `answered`, `unavailable` or `cancelled`."""
        self.name = model
        self._limits = limits or ModelLimits()
        self._server = ChatCompletions(base_url, api_key=api_key)
        self._prompts = Prompts()
        self._observe = observe

    async def reply(self, words: str, facts: Facts) -> AsyncGenerator[str, None]:
        """See `AssistantModel.reply`. Closing the iterator aborts the request on the server."""
        messages = self._prompts.messages("reply", skills=facts.skills, thread=facts.thread, words=words)
        async with aclosing(self._stream("reply", messages, temperature=0.3)) as pieces:
            async for piece in pieces:
                yield piece

    async def summarise(self, thread: Sequence[Utterance]) -> Summary:
        """See `AssistantModel.summarise`."""
        messages = self._prompts.messages("summarise", thread=thread)
        return await self._structured(
            "summarise", messages, summary_schema(), lambda answer: read_summary(answer, thread)
        )

    async def draft(self, instruction: str, thread: Sequence[Utterance]) -> str:
        """See `AssistantModel.draft`."""
        messages = self._prompts.messages("draft", thread=thread, words=instruction)
        async with aclosing(self._stream("draft", messages, temperature=0.3)) as pieces:
            return "".join([piece async for piece in pieces]).strip()

    async def classify(self, text: str, labels: Sequence[Label]) -> Classification:
        """See `AssistantModel.classify`."""
        messages = self._prompts.messages("classify", labels=labels, words=text)
        return await self._structured(
            "classify", messages, classification_schema(labels), lambda answer: read_classification(answer, labels)
        )

    async def propose_plan(self, words: str, tools: Sequence[Tool], thread: Sequence[Utterance]) -> PlanProposal | None:
        """See `AssistantModel.propose_plan`."""
        messages = self._prompts.messages("propose_plan", tools=tools, thread=thread, words=words)
        return await self._structured(
            "propose_plan", messages, plan_schema(tools), lambda answer: read_plan(answer, tools)
        )

    async def close(self) -> None:
        """Release connections."""
        await self._server.close()

    async def _structured(self, kind: str, messages: list[Message], schema: Schema, read: Callable[[str], T]) -> T:
        """Ask for JSON of a schema and read it; an ill-formed answer gets one second try within the same limits."""
        deadline = self._deadline()
        response_format = {"type": "json_schema", "json_schema": {"name": kind, "schema": schema, "strict": True}}
        answer = await self._whole(kind, messages, deadline, response_format)
        try:
            return read(answer)
        except IllFormedAnswer as problem:
            messages = [*messages, *self._prompts.repair(answer, str(problem))]
        answer = await self._whole(kind, messages, deadline, response_format)
        try:
            return read(answer)
        except IllFormedAnswer:
            # The problem may quote the answer, and so the thread: it goes to the model, never into an error.
            raise ModelUnavailable("the model answered twice in another form than agreed") from None

    async def _whole(self, kind: str, messages: list[Message], deadline: float, response_format: Schema) -> str:
        stream = self._stream(kind, messages, temperature=0, deadline=deadline, response_format=response_format)
        async with aclosing(stream) as pieces:
            return "".join([piece async for piece in pieces])

    async def _stream(
        self,
        kind: str,
        messages: list[Message],
        *,
        temperature: float,
        deadline: float | None = None,
        response_format: Schema | None = None,
    ) -> AsyncGenerator[str, None]:
        body: dict[str, Any] = {
            "model": self.name,
            "messages": messages,
            "temperature": temperature,
            "max_tokens": MOST_TOKENS[kind],
        }
        if response_format is not None:
            body["response_format"] = response_format
        started = time.perf_counter()
        outcome = "cancelled"
        try:
            stream = self._server.stream(body, self._limits, deadline or self._deadline())
            async with aclosing(stream) as pieces:
                async for piece in pieces:
                    yield piece
            outcome = "answered"
        except ModelUnavailable:
            outcome = "unavailable"
            raise
        finally:
            self._observe(kind, time.perf_counter() - started, outcome)

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._limits.total.total_seconds()
