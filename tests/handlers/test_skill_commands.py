"""What counts as a typed command, and what is left of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.catalogue import Catalogue
from actions.connectors.sandbox_ticketing import SandboxTicketing
from handlers.skill import after_command, as_tool
from handlers.skills.registry import build_skills
from inference.embeddings import OnnxEmbedder
from inference.triage import Triage


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """The sandbox's actions; its file is never opened."""
    return Catalogue([SandboxTicketing(Path("never-opened.db"), "http://127.0.0.1:1")])


@pytest.mark.parametrize(
    ("words", "rest"),
    [
        ("close TCK-1", "TCK-1"),
        ("  Close   ticket  TCK-1 please", "TCK-1 please"),
        ("close", ""),
        ("CLOSE: TCK-1", "TCK-1"),
        ("closely related", None),
        ("please close TCK-1", None),
    ],
)
def test_a_command_is_recognised_at_the_beginning_only(words: str, rest: str | None) -> None:
    assert after_command(words, "close ticket", "close") == rest


@given(st.text())
def test_any_words_are_a_command_or_not_but_never_an_error(words: str) -> None:
    rest = after_command(words, "create a ticket", "draft")
    assert rest is None or words.strip().endswith(rest)


def test_no_two_skills_claim_one_command(catalogue: Catalogue) -> None:
    skills = build_skills(catalogue, Triage(Path("never-made"), OnnxEmbedder(Path("never-made"))))
    for skill in skills:
        claiming = [other.name for other in skills if other.command(skill.usage) is not None]
        assert claiming == [skill.name], f"{skill.usage!r} is claimed by {claiming}"


def test_a_model_never_sees_the_arguments_the_assistant_fills_in(catalogue: Catalogue) -> None:
    spec, _ = catalogue.find("ticketing.create")
    assert "requester" in spec.schema()["properties"]
    assert "requester" not in as_tool(spec).parameters["properties"]
