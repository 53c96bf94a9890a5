"""What a model reads: the part that all requests of a kind share never depends on one of them, and what people wrote
stays inside its fence.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.limits import ModelLimits
from inference.model import Facts, KnownPerson, Label, Surroundings, Tool, Utterance
from inference.prompt import Prompts, moment
from inference.vllm import PlansBy, VllmModel
from tests.doubles.model_server import ModelServer

SKILLS = ("Close a ticket. For example: close TCK-12", "Summarise a thread. For example: summarise this thread")
LABELS = (Label("close", "Close a ticket", ("close TCK-1",)), Label("help", "What can you do"))
THREAD = (Utterance("1", "Ana", "Hello.", datetime(2026, 3, 2, tzinfo=UTC)),)
TOOLS = (
    Tool(
        "tickets.close",
        "Close a ticket",
        {"type": "object", "properties": {"ticket": {"type": "string"}}, "required": ["ticket"]},
    ),
)

PINNED = {
    "reply": "f558f70bd495f25cdd4ae00b381d682965ca2b8ee38995bf8c53c16ea196afb6",
    "summarise": "b6e9237041251a4e5ec2f72d74573ba2347c49109ae74d431341f48828d7f113",
    "draft": "cca68048a328cd473db54f680d677481560ecc3d4e7a05a378a6c6603d686cd5",
    "classify": "f73bee59d59c91c7d319ccc866772c88e38e51b0a695ee6e401cb5fe9f311058",
    "propose_plan by tools": "399a178fb39e1a580a054a2d9a0991e7f1ef2642e481ff9eac501a97612071b3",
    "propose_plan by schema": "08de72639725e1af222a0f4ab2fc396c7c990e4a9ec3bfaaa1d3d98e7f189039",
}
"""SHA-256 of what every request of a kind begins with, for the skills, labels and tools above: the system message and,
where there are, the tools. A change costs every server its prefix cache once, so it is made here on purpose."""

texts = st.text(max_size=200)
times = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=2)), timezone(timedelta(hours=-8))]))
threads = st.lists(st.builds(Utterance, texts, texts, texts, times), max_size=4).map(tuple)
moments = st.none() | times
directories = st.lists(st.builds(KnownPerson, texts, texts), max_size=4).map(tuple)

Ask = Callable[[VllmModel, str, tuple[Utterance, ...], datetime | None, tuple[KnownPerson, ...]], Awaitable[object]]


async def _reply(
    model: VllmModel,
    words: str,
    thread: tuple[Utterance, ...],
    now: datetime | None,
    people: tuple[KnownPerson, ...],
) -> None:
    async for _ in model.reply(words, Facts(skills=SKILLS, thread=thread, now=now)):
        pass


ASKED: dict[str, tuple[PlansBy, Ask]] = {
    "reply": ("tools", _reply),
    "summarise": ("tools", lambda model, words, thread, now, people: model.summarise(thread)),
    "draft": ("tools", lambda model, words, thread, now, people: model.draft(words, thread)),
    "classify": ("tools", lambda model, words, thread, now, people: model.classify(words, LABELS)),
    "propose_plan by tools": (
        "tools",
        lambda model, words, thread, now, people: model.propose_plan(
            words, TOOLS, thread, Surroundings(now, people) if now else None
        ),
    ),
    "propose_plan by schema": (
        "schema",
        lambda model, words, thread, now, people: model.propose_plan(
            words, TOOLS, thread, Surroundings(now, people) if now else None
        ),
    ),
}


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    return Prompts()


async def body_of(kind: str) -> dict[str, Any]:
    """What reaches a server when a question of this kind is asked."""
    plans_by, ask = ASKED[kind]
    async with ModelServer() as server:
        server.answers["summarise"] = json.dumps(
            {"points": [{"text": "x", "sources": ["1"]}], "decisions": [], "open_questions": []}
        )
        model = VllmModel(server.url, "tiny", None, ModelLimits(), plans_by=plans_by)
        await ask(model, "words", THREAD, None, ())
        await model.close()
        return server.requests[0].body


def shared(body: dict[str, Any]) -> str:
    """What comes first in a server's prompt: the system message, and the tools that its chat template puts there."""
    assert body["messages"][0]["role"] == "system"
    return json.dumps([body["messages"][0], body.get("tools")])


@pytest.mark.parametrize("kind", ASKED)
async def test_what_all_requests_of_a_kind_share_changes_only_on_purpose(kind: str) -> None:
    assert hashlib.sha256(shared(await body_of(kind)).encode()).hexdigest() == PINNED[kind]


@pytest.mark.parametrize("kind", ["reply", "summarise", "draft", "classify", "propose_plan", "call_tools"])
@settings(max_examples=50, deadline=None)
@given(words=texts, thread=threads, now=moments, people=directories)
def test_what_all_requests_of_a_kind_share_never_depends_on_one_of_them(
    prompts: Prompts,
    kind: str,
    words: str,
    thread: tuple[Utterance, ...],
    now: datetime | None,
    people: tuple[KnownPerson, ...],
) -> None:
    stable = {"skills": SKILLS, "labels": LABELS, "tools": TOOLS}
    plain = prompts.messages(kind, **stable, words="", thread=(), now=None, people=(), asker="")
    found = prompts.messages(kind, **stable, words=words, thread=thread, now=now, people=people, asker="")
    assert found[0] == plain[0]
    assert [message["role"] for message in found] == ["system", "user"]


@settings(max_examples=100, deadline=None)
@given(words=texts, thread=threads, now=moments, people=directories)
def test_what_people_wrote_never_leaves_its_fence(
    prompts: Prompts,
    words: str,
    thread: tuple[Utterance, ...],
    now: datetime | None,
    people: tuple[KnownPerson, ...],
) -> None:
    _, user = prompts.messages(
        "call_tools",
        words=f"</request>{words}",
        thread=thread,
        now=now,
        people=[*people, KnownPerson("x", "<people>")],
        asker="x",
    )
    tags = ["<messages>", "</messages>", "<people>", "</people>", "<request>", "</request>"]
    assert re.findall(r"</?[a-z]+>", user["content"]) == tags
    fenced = user["content"].partition("<request>\n")[2].removesuffix("\n</request>")
    assert json.loads(fenced) == f"</request>{words}"


def test_a_long_thread_is_cut_from_its_beginning_and_says_so() -> None:
    thread = [Utterance(str(number), "Ana", "x" * 100, datetime(2026, 3, 2, tzinfo=UTC)) for number in range(10)]
    _, user = Prompts(thread_characters=250).messages("summarise", thread=thread)
    assert "(7 older messages are left out)" in user["content"]
    assert [f'"id": "{number}"' in user["content"] for number in (6, 7, 9)] == [False, True, True]


def test_a_moment_is_told_with_its_weekday_in_the_persons_own_zone() -> None:
    at = datetime(2026, 3, 2, 23, 30, 12, 5, tzinfo=timezone(timedelta(hours=-8)))
    assert moment(at) == "Monday 2026-03-02 23:30-08:00"
