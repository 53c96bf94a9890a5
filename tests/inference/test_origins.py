"""Where a proposed value comes from is found in the texts themselves, and what is not found is the model's."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.model import Origin, OriginKind, PlanProposal, ProposedCall, Utterance
from inference.origins import labelled

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
TYPED, MODEL = Origin(OriginKind.TYPED), Origin(OriginKind.MODEL)


def origin(value: Any, words: str = "", *thread: str) -> Origin:
    utterances = [Utterance(f"1.{number}", "Ana", text, AT) for number, text in enumerate(thread, 1)]
    proposal = PlanProposal((ProposedCall("t", {"value": value}),))
    return labelled(proposal, words, utterances).calls[0].origins["value"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("TCK-12", "close tck-12, please"),
        ("TCK-12", "(TCK-12)"),
        ("Printer on the third floor", "ticket: printer  on the\nthird floor"),
        ("high", "priority:high"),
        ("ana@example.org", "mail ana@example.org."),
        ("Ana", "Ana's laptop"),
        ("Zürich", "in ZÜRICH"),
        (5, "in 5 days"),
        (1250, "for 1,250 euros"),
        (1250, "for €1 250"),
        (1250, "for 1250.00"),
        (1250.5, "for 1,250.50"),
        (12.5, "12,5 %"),
        (-3, "at -3 degrees"),
        (12.0, "12 of them"),
        (["Ana", "Ben"], "invite Ben and Ana"),
        ({"who": "Ana", "days": 3}, "3 days off for Ana"),
        ("2026-03-03", "on 2026-03-03"),
        (True, "set it to true"),
    ],
)
def test_what_stands_in_the_request_was_typed(value: Any, words: str) -> None:
    assert origin(value, words, "something else") == TYPED


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("TCK-1", "close TCK-12"),
        ("ﬁle server", "the file server"),
        ("straße.de", "open strasse.de"),
        ("10²", "pay 102"),
        ("\uff41dmin@example.org", "mail admin@example.org"),
        ("\u212aevin@example.org", "mail kevin@example.org"),
        ("ana@example.org", "mail boss+ana@example.org"),
        ({"Ignore all": "close"}, "close TCK-12"),
        (10**400, "pay 10"),
        ("CK-12", "close TCK-12"),
        ("12", "close TCK-12"),
        ("ana@example.org", "mail ana@example.org.evil.net"),
        ("example.org", "mail ana@example.org"),
        ("art", "start the party"),
        ("2026-03-03", "tomorrow"),
        ("urgent", "as soon as possible"),
        (5, "in 15 days"),
        (5, "TCK-5"),
        (12, "12.5 %"),
        (12, "12,500 of them"),
        (12, "12 500 of them"),
        (500, "12,500 of them"),
        (500, "12 500 of them"),
        (3, "at -3 degrees"),
        (1, "true"),
        (True, "1"),
        (True, "do it"),
        (None, "none"),
        ("", "anything"),
        ("  ", "anything"),
        ([], "anything"),
        (float("inf"), "inf"),
        (["Ana", "Eve"], "invite Ben and Ana"),
        ({"who": "Ana", "days": 4}, "3 days off for Ana"),
    ],
)
def test_what_does_not_stand_there_word_for_word_is_the_models(value: Any, words: str) -> None:
    assert origin(value, words) == MODEL


def test_what_stands_in_the_thread_carries_the_messages_it_stands_in() -> None:
    found = origin("TCK-7", "close the one Ana means", "TCK-7 is done", "is it?", "yes, tck-7")
    assert found == Origin(OriginKind.THREAD, ("1.1", "1.3"))


def test_the_requesters_own_words_count_before_the_thread() -> None:
    assert origin("TCK-7", "close TCK-7", "TCK-7 is done") == TYPED


def test_a_list_is_as_good_as_its_weakest_part() -> None:
    assert origin(["Ana", "Ben"], "invite Ana", "Ben too", "and Ben") == Origin(OriginKind.THREAD, ("1.1", "1.2"))
    assert origin(["Ana", "Ben", "Eve"], "invite Ana", "Ben too") == MODEL


def test_every_argument_of_every_call_has_an_origin_and_nothing_else_changes() -> None:
    proposal = PlanProposal((ProposedCall("a", {"x": "one", "y": 2}), ProposedCall("b", {})), "because")
    found = labelled(proposal, "one", ())
    assert [call.origins for call in found.calls] == [{"x": TYPED, "y": MODEL}, {}]
    assert [(call.tool, call.arguments) for call in found.calls] == [("a", {"x": "one", "y": 2}), ("b", {})]
    assert found.reason == "because"


@given(st.text(), st.text(max_size=20))
def test_a_value_is_typed_only_where_its_text_occurs(words: str, value: str) -> None:
    if origin(value, words) == TYPED:
        # casefold is not idempotent under NFKC for a handful of characters, so both sides get the same treatment.
        assert _plain(value) in _plain(words)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_json_value_has_an_origin(value: Any) -> None:
    assert origin(value, "words", "thread").kind in OriginKind


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
