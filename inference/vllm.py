"""The language model behind a vLLM server, or another that speaks OpenAI's protocol, as an `AssistantModel`.

Everything is asked for as a stream, so that a server that hangs is noticed at its first missing token and not after a
minute. Nothing that comes back is trusted: it fits the agreed form, mended once if need be, or is `ModelUnavailable`.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from inference import tool_calls
from inference.answers import (
    IllFormedAnswer,
    Schema,
    classification_schema,
    leaves_nothing_open,
    plan_schema,
    read_classification,
    read_plan,
    read_summary,
    summary_schema,
)
from inference.chat_completions import CONNECTIONS, ChatCompletions, Dialect, Exchange, RequestRefused
from inference.limits import ModelLimits
from inference.model import (
    AnswerUnusable,
    Classification,
    Facts,
    Label,
    ModelUnavailable,
    PlanProposal,
    Summary,
    Surroundings,
    Tool,
    Utterance,
)
from inference.observe import Observe, ignore
from inference.origins import labelled
from inference.prompt import Message, Prompts, worth_showing
from inference.purpose import Purpose
from inference.usage import Usage

T = TypeVar("T")

MOST_TOKENS = {"reply": 700, "summarise": 1200, "draft": 700, "classify": 60, "propose_plan": 800}
"""How long an answer of each kind may get."""

Spent = Callable[[Purpose, Usage], None]
"""Told once of every request to a server, however it ended: on whose behalf, and what it cost."""

PlansBy = Literal["tools", "schema"]


class VllmModel:
    """Answers through a server's `/v1/chat/completions`."""

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        limits: ModelLimits | None = None,
        *,
        dialect: Dialect = Dialect.VLLM,
        salt_key: bytes = b"",
        plans_by: PlansBy = "tools",
        connections: int = CONNECTIONS,
        observe: Observe = ignore,
        spent: Spent | None = None,
    ) -> None:
        """`model` is the served model's name; it is also what people are told answered.

        `dialect`, `salt_key` and `connections`: see `ChatCompletions`. `plans_by`: ask for plans as tool calls, or, for
        models whose tool calls fail, as JSON of a schema. `observe` hears of every request to the server: `answered`,
        `unavailable` or `cancelled`.
        """
        self.name = model
        self._limits = limits or ModelLimits()
        self._dialect = dialect
        self._server = ChatCompletions(
            base_url, api_key=api_key, dialect=dialect, salt_key=salt_key, connections=connections
        )
        self._prompts = Prompts()
        self._plans = _Plans(plans_by)
        self._observe = observe
        self._spent = spent
        self._purpose = Purpose()

    def on_behalf_of(self, purpose: Purpose) -> VllmModel:
        """The same model, over the same connections, asked in the name of one request. Close the original, not this."""
        bound = copy.copy(self)
        bound._purpose = purpose
        return bound

    async def reply(self, words: str, facts: Facts) -> AsyncGenerator[str, None]:
        """See `AssistantModel.reply`. Closing the iterator aborts the request on the server."""
        messages = self._prompts.messages("reply", skills=facts.skills, thread=facts.thread, now=facts.now, words=words)
        async with self._asked("reply", {"messages": messages, "temperature": 0.3}, self._deadline()) as exchange:
            async for piece in exchange:
                yield piece

    async def summarise(self, thread: Sequence[Utterance]) -> Summary:
        """See `AssistantModel.summarise`."""
        messages = self._prompts.messages("summarise", thread=thread)
        return await self._structured(
            "summarise", messages, summary_schema(), lambda answer: read_summary(answer, thread), self._deadline()
        )

    async def draft(self, instruction: str, thread: Sequence[Utterance]) -> str:
        """See `AssistantModel.draft`."""
        messages = self._prompts.messages("draft", thread=thread, words=instruction)
        text, _ = await self._whole("draft", {"messages": messages, "temperature": 0.3}, self._deadline())
        return text.strip()

    async def classify(self, text: str, labels: Sequence[Label]) -> Classification:
        """See `AssistantModel.classify`."""
        messages = self._prompts.messages("classify", labels=labels, words=text)
        return await self._structured(
            "classify",
            messages,
            classification_schema(labels),
            lambda answer: read_classification(answer, labels),
            self._deadline(),
        )

    async def propose_plan(
        self,
        words: str,
        tools: Sequence[Tool],
        thread: Sequence[Utterance],
        surroundings: Surroundings | None = None,
    ) -> PlanProposal | None:
        """See `AssistantModel.propose_plan`. Every argument carries its origin."""
        if not tools:
            return None
        deadline = self._deadline()
        outside = {
            "thread": thread,
            "words": words,
            "now": surroundings.now if surroundings else None,
            "people": worth_showing(surroundings, words, thread) if surroundings else [],
            "asker": surroundings.asker if surroundings else "",
        }
        if self._plans.by == "schema":
            proposal = await self._plan_by_schema(tools, outside, deadline)
        else:
            try:
                proposal = await self._plan_by_tools(tools, outside, deadline)
            except RequestRefused as refused:
                if not _takes_no_tools(refused):
                    raise
                self._plans.by = "schema"
                proposal = await self._plan_by_schema(tools, outside, deadline)
        return labelled(proposal, words, thread) if proposal else None

    async def close(self) -> None:
        """Release connections."""
        await self._server.close()

    async def _plan_by_schema(
        self, tools: Sequence[Tool], outside: dict[str, Any], deadline: float
    ) -> PlanProposal | None:
        messages = self._prompts.messages("propose_plan", tools=tools, **outside)
        return await self._structured(
            "propose_plan", messages, plan_schema(tools), lambda answer: read_plan(answer, tools), deadline
        )

    async def _plan_by_tools(
        self, tools: Sequence[Tool], outside: dict[str, Any], deadline: float
    ) -> PlanProposal | None:
        named = tool_calls.tool_names(tools)
        messages = self._prompts.messages("call_tools", **outside)
        body: dict[str, Any] = {
            "temperature": 0,
            "tools": tool_calls.declarations(named, always_strict=self._dialect is Dialect.VLLM),
            "tool_choice": "auto",
            "parallel_tool_calls": True,
        }
        text, exchange = await self._whole("propose_plan", {**body, "messages": messages}, deadline)
        try:
            return tool_calls.read_calls(exchange.calls, text, named)
        except IllFormedAnswer as problem:
            mended = tool_calls.repair(exchange.calls, text, self._prompts.call_problem(str(problem)))
        text, exchange = await self._whole("propose_plan", {**body, "messages": [*messages, *mended]}, deadline)
        return _mended(lambda: tool_calls.read_calls(exchange.calls, text, named))

    async def _structured(
        self, kind: str, messages: list[Message], schema: Schema, read: Callable[[str], T], deadline: float
    ) -> T:
        """Ask for JSON of a schema and read it; an ill-formed answer gets one second try within the same limits."""
        strict = self._dialect is Dialect.VLLM or leaves_nothing_open(schema)
        agreed = {"name": kind, "schema": schema, "strict": strict}
        body = {"temperature": 0, "response_format": {"type": "json_schema", "json_schema": agreed}}
        answer, _ = await self._whole(kind, {**body, "messages": messages}, deadline)
        try:
            return read(answer)
        except IllFormedAnswer as problem:
            messages = [*messages, *self._prompts.repair(answer, str(problem))]
        answer, _ = await self._whole(kind, {**body, "messages": messages}, deadline)
        return _mended(lambda: read(answer))

    async def _whole(self, kind: str, body: dict[str, Any], deadline: float) -> tuple[str, Exchange]:
        async with self._asked(kind, body, deadline) as exchange:
            return "".join([piece async for piece in exchange]), exchange

    @asynccontextmanager
    async def _asked(self, kind: str, body: dict[str, Any], deadline: float) -> AsyncIterator[Exchange]:
        """One request; whatever happens to it is observed and counted once."""
        body = {"model": self.name, "max_tokens": MOST_TOKENS[kind], **body}
        exchange = self._server.stream(body, self._limits, deadline, self._purpose)
        started = time.perf_counter()
        outcome = "cancelled"
        try:
            yield exchange
            outcome = "answered"
        except ModelUnavailable:
            outcome = "unavailable"
            raise
        finally:
            try:
                await exchange.aclose()
            finally:
                self._observe(kind, time.perf_counter() - started, outcome)
                if self._spent is not None:
                    self._spent(self._purpose, exchange.usage)

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._limits.total.total_seconds()


@dataclass(slots=True)
class _Plans:
    """How plans are asked for; shared by all that are bound to a purpose, for the life of the process."""

    by: PlansBy


def _takes_no_tools(refused: RequestRefused) -> bool:
    """vLLM without a tool parser, or a model that has none: it will say the same to every other request."""
    said = refused.said.lower()
    return refused.status in (400, 422, 501) and "tool" in said and "context length" not in said


def _mended(read: Callable[[], T]) -> T:
    try:
        return read()
    except IllFormedAnswer:
        # The problem may quote the answer, and so the thread: it goes to the model, never into an error.
        raise AnswerUnusable("the model answered twice in another form than agreed") from None
