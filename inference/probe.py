"""Questions to a configured model server: does it do what Countersign leans on, and what has to be changed if not.

Everything is asked over the product's own wire, so that what is found is what the product will meet. No question waits
longer than its limit, and a server that answers nonsense is described, not trusted.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
import orjson

from inference.chat_completions import ChatCompletions, Dialect, Exchange, RequestRefused
from inference.limits import ModelLimits
from inference.model import ModelUnavailable
from inference.probe_requests import LONG_TEXT, OUTLINE, PLAIN_REQUESTS, TOOLS, fits_outline
from inference.usage import Usage
from inference.vllm import PlansBy, VllmModel

SMALLEST_CONTEXT = 8192
"""Tokens: the longest thread that is shown to a model (some 6,000), the standing text, and an answer."""

READING_SPEED = 10.0
"""Tokens a second that a fast reader takes in; an answer that comes slower is waited for."""

FIRST_TOKENS = 5
"""Requests of which the median first-token time is given."""

RUNNING = "vllm:num_requests_running"

SETTLING = 0.3
"""Seconds after which a server's figures are those of now."""

ABORT_PATIENCE = timedelta(seconds=5)
"""In which a server has to stop working for a client that has gone; vLLM takes some tenths of a second."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question."""

    question: str
    good: bool
    text: str
    """What was found, and where it is not good what to do."""


@dataclass(frozen=True, slots=True)
class _Run:
    """One answer as it came."""

    text: str
    pieces: int
    first: float
    """Seconds to the first piece."""
    last: float
    """Seconds to the last piece."""
    usage: Usage


class _Lost(Exception):
    """The server does not answer, so there is no use in asking it more."""


class Probe:
    """Asks one server everything, in order.

    async with aclosing(probe.findings()) as findings:
        async for finding in findings:
            ...
    await probe.close()
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        dialect: Dialect = Dialect.VLLM,
        plans_by: PlansBy = "tools",
        limits: ModelLimits | None = None,
        abort_patience: timedelta = ABORT_PATIENCE,
        variables: str = "VLLM_",
    ) -> None:
        """`limits` are the product's own. `variables`: what the names of this server's variables begin with, for
        advice. No request is made yet."""
        self._root = base_url.rstrip("/").removesuffix("/v1")
        self._name = model
        self._dialect = dialect
        self._limits = limits or ModelLimits()
        self._abort_patience = abort_patience.total_seconds()
        self._variables = variables
        self._plans_by = plans_by
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._wire = ChatCompletions(base_url, api_key=api_key, dialect=dialect)
        self._model = VllmModel(base_url, model, api_key, self._limits, dialect=dialect, plans_by=plans_by)
        self._listed: Mapping[str, Any] = {}

    async def findings(self) -> AsyncGenerator[Finding, None]:
        """One finding a question; ends early where the server is away, hangs or does not serve the model."""
        questions: tuple[tuple[str, Callable[[], Awaitable[tuple[bool, str]]]], ...] = (
            ("reachable", self._reachable),
            ("model", self._served),
            ("context", self._context),
            ("streaming", self._streaming),
            ("structured", self._structured),
            ("tool calls", self._tool_calls),
            ("cancelling", self._cancelling),
            ("prefix cache", self._prefix_cache),
            ("priority", self._priority),
            ("first token", self._first_token),
            ("speed", self._speed),
        )
        for question, ask in questions:
            started = time.monotonic()
            try:
                good, text = await ask()
            except _Lost as lost:
                yield Finding(question, False, f"{lost}; nothing more was asked")
                return
            except ModelUnavailable as error:
                good, text = False, str(error)
                if time.monotonic() - started >= self._limits.first_token.total_seconds():
                    yield Finding(question, False, f"{text}; nothing more was asked")
                    return
            yield Finding(question, good, text)

    async def close(self) -> None:
        """Release connections."""
        await self._wire.close()
        await self._model.close()

    # The questions; each gives whether all is well, and what was found

    async def _reachable(self) -> tuple[bool, str]:
        started = time.monotonic()
        status, body = await self._get("/v1/models")
        if status in (401, 403):
            raise _Lost(f"it does not accept the key ({status}); set {self._variables}API_KEY")
        if status != 200:
            raise _Lost(f"/v1/models answers {status}; check {self._variables}BASE_URL")
        try:
            self._listed = {each["id"]: each for each in orjson.loads(body)["data"]}
        except (ValueError, KeyError, TypeError):
            raise _Lost(f"/v1/models is no list of models; check {self._variables}BASE_URL") from None
        return True, f"answers in {_milliseconds(time.monotonic() - started)}"

    async def _served(self) -> tuple[bool, str]:
        if self._name not in self._listed:
            names = ", ".join(sorted(str(name)[:100] for name in self._listed)[:20]) or "no model"
            raise _Lost(f"{self._name} is not served; set {self._variables}MODEL to what is: {names}")
        return True, f"{self._name} is served"

    async def _context(self) -> tuple[bool, str]:
        length = self._listed[self._name].get("max_model_len")
        if not isinstance(length, int):
            return (
                True,
                f"the server does not say how much its model reads; about {SMALLEST_CONTEXT:,} tokens are needed",
            )
        if length < SMALLEST_CONTEXT:
            return False, (
                f"{length:,} tokens; a long thread with its answer needs {SMALLEST_CONTEXT:,}: raise --max-model-len"
            )
        return True, f"{length:,} tokens"

    async def _streaming(self) -> tuple[bool, str]:
        run = await self._asked({**self._words("Count from one to twenty in words."), "max_tokens": 80})
        if run.pieces < 3:
            return False, f"{run.pieces} pieces in all: something on the way collects them; switch its buffering off"
        if run.usage.estimated:
            return False, f"{run.pieces} pieces, but no token count comes back; it needs stream_options.include_usage"
        return True, f"{run.pieces} pieces; tokens are counted"

    async def _structured(self) -> tuple[bool, str]:
        schema = {"type": "json_schema", "json_schema": {"name": "outline", "schema": OUTLINE, "strict": True}}
        body = {**self._words("Write about the sea."), "response_format": schema, "max_tokens": 200, "temperature": 0}
        try:
            run = await self._asked(body)
        except RequestRefused as refused:
            return False, f"{refused}; it takes no response_format json_schema: use a server with structured outputs"
        if not fits_outline(run.text):
            return False, (
                "the answer is not of the schema asked for, or did not end: with vLLM add --structured-outputs-config "
                '\'{"backend": "xgrammar", "disable_any_whitespace": true}\'; does a proxy drop response_format?'
            )
        return True, "answers fit their JSON schema"

    async def _tool_calls(self) -> tuple[bool, str]:
        if self._plans_by == "tools" and (refusal := await self._refuses_tools()):
            return False, refusal
        right, last = 0, ""
        for words, tool, arguments in PLAIN_REQUESTS:
            try:
                plan = await self._model.propose_plan(words, TOOLS, ())
            except ModelUnavailable as error:
                last = f" ({error})"
                continue
            if plan and [(call.tool, dict(call.arguments)) for call in plan.calls] == [(tool, arguments)]:
                right += 1
        found = f"{right} of {len(PLAIN_REQUESTS)} plain requests became the right call{last}"
        if right == len(PLAIN_REQUESTS):
            return True, found if self._plans_by == "tools" else f"{found}, asked for as JSON"
        if self._plans_by == "tools":
            found += f"; choose the --tool-call-parser of this model, or set {self._variables}PLANS_BY=schema"
        else:
            found += "; choose a model that follows instructions"
        return False, found

    async def _refuses_tools(self) -> str:
        """Whether a server takes tools at all; the product would go on with JSON, so that it would not show."""
        tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
        try:
            await self._asked({**self._words("Hello."), "tools": [tool], "tool_choice": "auto", "max_tokens": 16})
        except RequestRefused as refused:
            return (
                f"{refused}; start vLLM with --enable-auto-tool-choice and the --tool-call-parser of this model, "
                f"or set {self._variables}PLANS_BY=schema"
            )
        except ModelUnavailable:
            # Taken and answered badly: the plain requests tell more.
            return ""
        return ""

    async def _cancelling(self) -> tuple[bool, str]:
        # The last answer's end is in the figures a moment after it is here.
        await asyncio.sleep(SETTLING)
        before = await self._figure(RUNNING)
        if before is None:
            return self._dialect is Dialect.OPENAI, "cannot be seen from here: the server shows no vllm: /metrics"
        length = self._listed[self._name].get("max_model_len")
        longest = min(6000, length - 1000) if isinstance(length, int) and length > 3000 else 2000
        exchange = self._exchange({**self._endless(), "max_tokens": longest})
        async with aclosing(exchange):
            async for _ in exchange:
                break
            seen = await self._until_figure(RUNNING, lambda now: now > before)
        started = time.monotonic()
        if not seen:
            return True, "the answer ended before it could be cancelled, or the server is too busy to tell"
        if not await self._until_figure(RUNNING, lambda now: now <= before):
            return False, (
                f"still works on a request {self._abort_patience:g} s after its client has gone; does a proxy keep its "
                "own connection? (or others are using the server now: try again)"
            )
        return True, f"stops {_milliseconds(time.monotonic() - started)} after the client has gone"

    async def _prefix_cache(self) -> tuple[bool, str]:
        # New text every time, or an earlier check would answer for this one.
        words = f"{secrets.token_hex(8)} {LONG_TEXT}"
        body = {**self._words(words), "max_tokens": 16}
        first = await self._asked(body)
        before = await self._figure("vllm:prefix_cache_hits_total")
        second = await self._asked(body)
        cached = second.usage.cached_tokens
        if cached:
            return True, f"{cached} of {second.usage.prompt_tokens} tokens came from the cache the second time"
        after = await self._figure("vllm:prefix_cache_hits_total")
        if before is not None and after is not None and after > before:
            return False, "works, but is not reported with the answer: add --enable-prompt-tokens-details"
        if cached is None and before is None:
            faster = "faster" if second.first < 0.7 * first.first else "no faster"
            return self._dialect is Dialect.OPENAI, f"is not reported; the second time was {faster}"
        return False, "nothing came from the cache the second time: add --enable-prefix-caching"

    async def _priority(self) -> tuple[bool, str]:
        if self._dialect is Dialect.OPENAI:
            return True, "not asked for: only vLLM has it, so give background work a server of its own"
        try:
            salted = {"priority": 1, "cache_salt": secrets.token_hex(8)}
            await self._asked({**self._words("Hello."), **salted, "max_tokens": 16})
        except RequestRefused as refused:
            if "priority" in refused.said.lower():
                return False, "people may have to wait behind background work: add --scheduling-policy=priority"
            return False, f"{refused} to priority and cache_salt; set {self._variables}DIALECT=openai if it is not vLLM"
        return True, "people go before background work; tenants' caches are apart"

    async def _first_token(self) -> tuple[bool, str]:
        # The system part is the same each time, as in the product; the question is new.
        runs = [
            await self._asked({**self._words(f"Hello. {secrets.token_hex(4)}", LONG_TEXT), "max_tokens": 16})
            for _ in range(FIRST_TOKENS)
        ]
        median = statistics.median(run.first for run in runs)
        found = f"median {_milliseconds(median)} of {FIRST_TOKENS}"
        if median > self._limits.first_token.total_seconds() / 2:
            return False, f"{found}; the limit is {self._limits.first_token.total_seconds():g} s: use a faster server"
        return True, found

    async def _speed(self) -> tuple[bool, str]:
        run = await self._asked({**self._endless(), "max_tokens": 128})
        tokens = run.usage.completion_tokens
        if run.pieces < 8 or run.last <= run.first:
            return True, f"the answer was too short to tell ({tokens} tokens)"
        rate = (tokens - 1) / (run.last - run.first)
        found = f"{rate:.0f} tokens a second in one stream"
        return (True, found) if rate >= READING_SPEED else (False, f"{found}: slower than people read")

    # Asking

    def _words(self, words: str, system: str = "You are asked by a set-up check. Be brief.") -> dict[str, Any]:
        return {"messages": [{"role": "system", "content": system}, {"role": "user", "content": words}]}

    def _endless(self) -> dict[str, Any]:
        body = self._words("Tell me a long story.")
        return body | {"ignore_eos": True} if self._dialect is Dialect.VLLM else body

    def _exchange(self, body: Mapping[str, Any]) -> Exchange:
        deadline = asyncio.get_running_loop().time() + self._limits.total.total_seconds()
        return self._wire.stream({"model": self._name, "temperature": 0.3, **body}, self._limits, deadline)

    async def _asked(self, body: Mapping[str, Any]) -> _Run:
        exchange = self._exchange(body)
        started = time.monotonic()
        times: list[float] = []
        text = ""
        async with aclosing(exchange):
            async for piece in exchange:
                times.append(time.monotonic() - started)
                text += piece
        # A model that calls a tool at once says no word.
        times = times or [time.monotonic() - started]
        return _Run(text, len(times), times[0], times[-1], exchange.usage)

    async def _figure(self, name: str) -> float | None:
        """A figure of `/metrics`, summed over its labels; None where the server has none of that name."""
        try:
            status, body = await self._get("/metrics")
        except _Lost:
            return None
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.eE+-]+)$", body, re.MULTILINE)
        return sum(map(float, found)) if status == 200 and found else None

    async def _until_figure(self, name: str, is_so: Callable[[float], bool]) -> bool:
        """Ask until the figure is so; False where it does not come to that, or is no longer there."""
        started = time.monotonic()
        while (now := await self._figure(name)) is not None and time.monotonic() - started < self._abort_patience:
            if is_so(now):
                return True
            await asyncio.sleep(0.02)
        return False

    async def _get(self, path: str) -> tuple[int, str]:
        """Status and text. Raises `_Lost`."""
        patience = aiohttp.ClientTimeout(total=self._limits.first_token.total_seconds())
        try:
            async with (
                aiohttp.ClientSession(timeout=patience, headers=self._headers) as session,
                session.get(f"{self._root}{path}", allow_redirects=False) as answer,
            ):
                return answer.status, (await answer.content.read(8 << 20)).decode(errors="replace")
        except TimeoutError:
            raise _Lost(f"no answer to {path} within {patience.total:g} s; is the server still loading?") from None
        except (aiohttp.ClientError, ValueError) as error:
            raise _Lost(f"cannot be reached ({type(error).__name__}); check {self._variables}BASE_URL") from None


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"
