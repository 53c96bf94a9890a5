"""The router's order, and what it says of each decision."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from actions.catalogue import Catalogue
from actions.connectors.sandbox_ticketing import SandboxTicketing
from handlers.decisions import Step
from handlers.open_questions import OpenQuestion
from handlers.router import SURE, Goal, Route, Router
from handlers.skill import Skill
from handlers.skills.registry import build_skills
from handlers.turn import Place
from inference.embeddings import OnnxEmbedder
from inference.handover import AWAY, Engine
from inference.model import (
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
from inference.prediction import Prediction
from inference.purpose import Endpoint, Purpose
from inference.tier import Tier
from inference.triage import Triage

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)


class Classifier:
    """A model that only classifies, as it is told to."""

    def __init__(self, name: str, label: str | None = None, *, away: bool = False) -> None:
        self.name = name
        self.label = label
        self.away = away
        self.asked = 0

    def on_behalf_of(self, purpose: Purpose) -> Classifier:
        return self

    async def classify(self, text: str, labels: Sequence[Label]) -> Classification:
        self.asked += 1
        if self.away:
            raise ModelUnavailable("gone")
        return Classification(self.label, 0.8)

    async def reply(self, words: str, facts: Facts) -> AsyncIterator[str]:
        raise AssertionError("the router asks for no reply")
        yield ""

    async def summarise(self, thread: Sequence[Utterance]) -> Summary:
        raise AssertionError("the router asks for no summary")

    async def draft(self, instruction: str, thread: Sequence[Utterance]) -> str:
        raise AssertionError("the router asks for no draft")

    async def propose_plan(
        self,
        words: str,
        tools: Sequence[Tool],
        thread: Sequence[Utterance],
        surroundings: Surroundings | None = None,
    ) -> PlanProposal | None:
        raise AssertionError("the router asks for no plan")

    async def close(self) -> None:
        """Nothing to release."""


class Scripted:
    """Intents that say what they are told to; None: nothing can embed."""

    def __init__(self, label: str | None = None, confidence: float = 0.99, *, away: bool = False) -> None:
        self.label = label
        self.confidence = confidence
        self.away = away
        self.asked = 0

    async def decide(self, text: str) -> Prediction:
        self.asked += 1
        if self.away:
            raise ModelUnavailable("the embedding server is away")
        return Prediction(self.label, self.confidence, self.label or "help", 0.5, "m1", "minilm", "cd" * 32)


@pytest.fixture(scope="module")
def skills() -> tuple[Skill, ...]:
    """The product's skills; the ticketing file is never opened."""
    catalogue = Catalogue([SandboxTicketing(Path("never-opened.db"), "http://127.0.0.1:1")])
    return build_skills(catalogue, Triage(Path("never-made"), OnnxEmbedder(Path("never-made"))))


def engine(model: Classifier | None = None, offline: Classifier | None = None) -> Engine:
    tier = Tier(model, Endpoint("here/tiny", inside=True, receives="nothing")) if model is not None else None
    return Engine(offline or Classifier("offline engine"), tier)


def asked(skill: str, words: str) -> OpenQuestion:
    return OpenQuestion(Place("slack", "T1", "C1"), "rosa", skill, words, NOW, NOW + timedelta(minutes=15))


async def route(
    skills: Sequence[Skill],
    words: str,
    *,
    intents: Scripted | None = None,
    model: Classifier | None = None,
    question: OpenQuestion | None = None,
) -> Route:
    return await Router(skills, intents or Scripted()).route(words, engine=engine(model), asked=question)


async def test_an_exact_command_wins_over_everything_and_asks_nobody(skills: Sequence[Skill]) -> None:
    intents, model = Scripted("help"), Classifier("tiny", "help")
    question = asked("create a ticket", "create a ticket")
    found = await route(skills, "My tickets!", intents=intents, model=model, question=question)
    assert found.skill is not None
    assert (found.skill.name, found.step, found.confidence) == ("my open tickets", Step.COMMAND, 1.0)
    assert found.question is None, "the question stays open"
    assert (intents.asked, model.asked) == (0, 0)


async def test_an_answer_to_an_open_question_goes_to_the_skill_that_asked(skills: Sequence[Skill]) -> None:
    intents = Scripted("help")
    question = asked("create a ticket", "create a ticket")
    found = await route(skills, "the projector hums", intents=intents, question=question)
    assert found.skill is not None
    assert (found.skill.name, found.step, found.question) == ("create a ticket", Step.FOLLOW_UP, question)
    assert (found.request, found.words) == ("create a ticket: the projector hums", "the projector hums")
    assert intents.asked == 0


@pytest.mark.parametrize(
    ("skill", "before", "words", "request_"),
    [
        ("close a ticket", "close", "TCK-12", "close TCK-12"),
        ("close a ticket", "please close the ticket", "12.", "please close the ticket TCK-12"),
        ("close a ticket", "close TCK-1 and TCK-2", "tck-2", "close and tck-2"),
        ("close a ticket", "close", "it is #7, the lamp one", None),
        ("close a ticket", "close", "the second one", None),
        ("create a ticket", "open a ticket", "can you book a room?", None),
        ("create a ticket", "open a ticket", "what can you do", None),
        ("create a ticket", "file a ticket, high priority", "VPN down", "file a ticket, high priority: VPN down"),
        ("answer a question", "ask", "when do we ship", "ask when do we ship"),
        ("help", "help", "anything", None),
    ],
)  # fmt: skip
async def test_a_skill_says_itself_what_answers_its_question(
    skills: Sequence[Skill], skill: str, before: str, words: str, request_: str | None
) -> None:
    found = await route(skills, words, intents=Scripted("help"), question=asked(skill, before))
    if request_ is None:
        assert (found.step, found.question) == (Step.EMBEDDINGS, None), "it leaves the question and is routed as usual"
    else:
        assert (found.step, found.request) == (Step.FOLLOW_UP, request_)


@pytest.mark.parametrize("words", ["never mind", "Cancel", "Forget it."])
async def test_a_question_can_be_given_up_and_without_one_these_are_words_like_any(
    skills: Sequence[Skill], words: str
) -> None:
    question = asked("close a ticket", "close")
    found = await route(skills, words, question=question)
    assert (found.goal, found.step, found.prediction, found.question) == (Goal.CLOSE, Step.FOLLOW_UP, "close", question)
    assert (await route(skills, words)).goal is Goal.NOTHING


async def test_stop_is_a_command(skills: Sequence[Skill]) -> None:
    found = await route(skills, " STOP. ")
    assert (found.goal, found.step, found.prediction) == (Goal.STOP, Step.COMMAND, "stop")
    assert (await route(skills, "stop the coffee machine")).goal is Goal.NOTHING


async def test_embeddings_that_are_sure_decide_alone(skills: Sequence[Skill]) -> None:
    model = Classifier("tiny", None)
    found = await route(skills, "what is open for me", intents=Scripted("my open tickets", SURE), model=model)
    assert found.skill is not None
    assert (found.skill.name, found.step, found.engine) == ("my open tickets", Step.EMBEDDINGS, None)
    assert found.measured is not None
    assert model.asked == 0


@pytest.mark.parametrize("intents", [Scripted(None, 0.99), Scripted("draft a reply", SURE - 0.01)])
async def test_the_language_model_is_asked_where_embeddings_refuse_or_are_not_sure(
    skills: Sequence[Skill], intents: Scripted
) -> None:
    found = await route(skills, "sum it all up", intents=intents, model=Classifier("tiny", "summarise this thread"))
    assert found.skill is not None
    assert (found.skill.name, found.step, found.engine) == ("summarise this thread", Step.MODEL, "tiny")
    assert found.measured is not None, "what drift is measured on is kept"
    refused = await route(skills, "sum it all up", intents=intents, model=Classifier("tiny", None))
    assert (refused.goal, refused.step, refused.prediction) == (Goal.NOTHING, Step.MODEL, None)


async def test_out_of_scope_is_an_answer_where_there_is_no_language_model(skills: Sequence[Skill]) -> None:
    found = await route(skills, "book me a flight", intents=Scripted(None, 0.93))
    assert (found.goal, found.step, found.prediction, found.confidence) == (Goal.NOTHING, Step.EMBEDDINGS, None, 0.93)
    assert (found.engine, found.degraded) == (None, None)


@pytest.mark.parametrize(
    ("intents", "goal"), [(Scripted(None), Goal.NOTHING), (Scripted("draft a reply", 0.6), Goal.SKILL)]
)
async def test_a_language_model_that_is_away_leaves_the_embeddings_answer_and_is_told(
    skills: Sequence[Skill], intents: Scripted, goal: Goal
) -> None:
    offline = Classifier("offline engine", "help")
    found = await Router(skills, intents).route("write", engine=engine(Classifier("tiny", away=True), offline))
    assert (found.goal, found.step, found.degraded) == (goal, Step.EMBEDDINGS, AWAY)


async def test_without_embeddings_the_language_model_decides(skills: Sequence[Skill]) -> None:
    found = await route(
        skills, "what is mine", intents=Scripted(away=True), model=Classifier("tiny", "my open tickets")
    )
    assert (found.step, found.prediction, found.measured) == (Step.MODEL, "my open tickets", None)


async def test_with_nothing_that_reads_words_only_commands_are_promised(skills: Sequence[Skill]) -> None:
    alone = await route(skills, "what is mine", intents=Scripted(away=True))
    assert (alone.goal, alone.prediction, alone.confidence) == (Goal.COMMANDS_ONLY, None, 0.0)
    both = engine(Classifier("tiny", away=True), Classifier("offline engine", away=True))
    found = await Router(skills, Scripted(away=True)).route("what is mine", engine=both)
    assert found.goal is Goal.COMMANDS_ONLY
    assert (await Router(skills, Scripted(away=True)).route("my tickets", engine=both)).goal is Goal.SKILL


async def test_no_reason_holds_what_was_said(skills: Sequence[Skill]) -> None:
    said = "the merger with Acme"
    for found in (
        await route(skills, said),
        await route(skills, said, model=Classifier("tiny", None)),
        await route(skills, f"create a ticket: {said}"),
        await route(skills, said, question=asked("create a ticket", "create a ticket")),
        await route(skills, said, intents=Scripted(away=True)),
    ):
        assert "merger" not in json.dumps([found.reason, found.prediction, found.step])
