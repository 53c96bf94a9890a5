"""The ticket classifier: proposes what the words show, keeps silent on what they do not."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from inference.embeddings import OnnxEmbedder
from inference.model_card import ModelRefused
from inference.ticket_classifier import (
    Ticket,
    TicketClassifier,
    TicketsUnreadable,
    read_tickets,
    threshold_for,
)
from inference.ticket_fitting import fit_tickets

ABOUT = {
    "network": (
        "network",
        ("the VPN", "the office wifi", "the internet line", "the firewall", "remote access", "the DNS lookup"),
        ("drops every few minutes", "cannot be reached", "is very slow since the update", "times out"),
    ),
    "hardware": (
        "on-site",
        ("my laptop", "the printer on floor 3", "the docking station", "my monitor", "the projector", "my keyboard"),
        ("does not switch on", "makes a strange noise", "has a cracked case", "keeps flickering"),
    ),
    "access": (
        "accounts",
        (
            "my account",
            "the password of Kim",
            "the shared mailbox",
            "my login to the portal",
            "the admin role",
            "my badge",
        ),
        ("is locked", "has expired", "is refused", "needs a second person", "must be reset"),
    ),
    "billing": (
        "finance",
        (
            "the invoice of March",
            "our subscription",
            "the credit note",
            "the payment",
            "the purchase order",
            "the quote",
        ),
        ("shows the wrong amount", "was charged twice", "is missing the VAT number", "has not arrived"),
    ),
}
OPENINGS = ("", "Hi team, ", "Since this morning ", "Please help: ", "For the second time ", "Again ")
ENDINGS = ("", " Thanks!", " Three colleagues see the same.", " I restarted already.", " Can somebody have a look?")


def tickets(count: int, *, seed: int = 0, noise: float = 0.05) -> list[Ticket]:
    """Tickets as people write them; some are misfiled, and the priority is in the words only where it is urgent."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        category = draw.choice(sorted(ABOUT))
        queue, things, troubles = ABOUT[category]
        thing, trouble = draw.choice(things), draw.choice(troubles)
        priority = draw.choice(("low", "normal", "high"))
        description = f"{draw.choice(OPENINGS)}{thing} {trouble}.{draw.choice(ENDINGS)}"
        if draw.random() < noise:
            category = draw.choice(sorted(ABOUT))
            queue = ABOUT[category][0]
        found.append(Ticket(f"{thing} {trouble}", description, category, priority, queue))
    return found


async def fitted(embedder: OnnxEmbedder, rows: Sequence[Ticket]) -> TicketClassifier:
    vectors = await embedder.embed([row.text for row in rows])
    return fit_tickets(rows, vectors, embedding_model=embedder.version, source="the tests")


@pytest.fixture(scope="module")
def rows() -> list[Ticket]:
    return tickets(300)


async def test_category_and_queue_are_proposed_and_a_priority_that_is_not_in_the_words_is_not(
    embedder: OnnxEmbedder, rows: list[Ticket], tmp_path: Path
) -> None:
    (await fitted(embedder, rows)).save(tmp_path / "model")
    classifier = TicketClassifier.load(tmp_path / "model", embedder)
    unseen = tickets(80, seed=1, noise=0)
    found = [await classifier.predict(ticket) for ticket in unseen]
    answered = [(each, ticket) for each, ticket in zip(found, unseen, strict=True) if each.category.label]
    assert len(answered) > 0.7 * len(unseen)
    assert sum(each.category.label == ticket.category for each, ticket in answered) / len(answered) > 0.85
    assert sum(each.queue.label == ticket.queue for each, ticket in zip(found, unseen, strict=True)) > 0.6 * len(unseen)
    assert sum(each.priority.label is not None for each in found) <= 0.1 * len(found)
    for each in found:
        for head in (each.category, each.priority, each.queue):
            shares = [share for _, share in head.alternatives]
            assert shares[0] == head.confidence
            assert sum(shares) <= 1.0001
            assert head.label in (None, head.alternatives[0][0])
        assert each.model_version == classifier.card.version
    assert classifier.card.metrics["category: accuracy of those answered"] > 0.8
    assert "priority: always abstains" in classifier.card.settings


@pytest.mark.parametrize("count", [40, 120])
async def test_a_head_that_was_never_wrong_does_not_fall_silent_at_a_hair_less_confidence(
    embedder: OnnxEmbedder, count: int
) -> None:
    classifier = await fitted(embedder, tickets(count, noise=0))
    assert classifier.card.metrics["category: accuracy of all"] == 1
    unseen = tickets(100, seed=1, noise=0)
    vectors = await embedder.embed([ticket.text for ticket in unseen])
    found = [classifier.predict_vector(*pair).category for pair in zip(unseen, vectors, strict=True)]
    assert all(each.label is not None for each in found if each.confidence >= 0.9)
    assert sum(each.label == ticket.category for each, ticket in zip(found, unseen, strict=True)) >= 95


async def test_shuffled_labels_make_every_head_abstain(embedder: OnnxEmbedder, rows: list[Ticket]) -> None:
    shuffled = list(rows)
    random.Random(2).shuffle(shuffled)
    wrong = [
        Ticket(row.title, row.description, other.category, other.priority, other.queue)
        for row, other in zip(rows, shuffled, strict=True)
    ]
    classifier = await fitted(embedder, wrong)
    unseen = tickets(60, seed=1)
    vectors = await embedder.embed([ticket.text for ticket in unseen])
    for ticket, vector in zip(unseen, vectors, strict=True):
        found = classifier.predict_vector(ticket, vector)
        assert (found.category.label, found.priority.label, found.queue.label) == (None, None, None)


async def test_a_head_without_examples_abstains_and_none_at_all_is_refused(embedder: OnnxEmbedder) -> None:
    rows = [Ticket(row.title, row.description, category=row.category) for row in tickets(60)]
    classifier = await fitted(embedder, rows)
    vector = (await embedder.embed(["anything"]))[0]
    found = classifier.predict_vector(Ticket("anything"), vector)
    assert (found.queue.label, found.queue.confidence, found.queue.alternatives) == (None, 0.0, ())
    with pytest.raises(ValueError, match="no field of category, priority, queue"):
        await fitted(embedder, [Ticket("a title")] * 20)


async def test_a_classifier_of_tickets_is_not_taken_for_one_of_intents(embedder: OnnxEmbedder, tmp_path: Path) -> None:
    from inference.intent_classifier import IntentClassifier

    (await fitted(embedder, tickets(60))).save(tmp_path / "model")
    with pytest.raises(ModelRefused, match="holds a classifier of tickets, not of intents"):
        IntentClassifier.load(tmp_path / "model", embedder)


def test_tickets_are_read_from_csv_and_from_json_lines(tmp_path: Path) -> None:
    expected = (Ticket("VPN down", "again", "network", None, "net"), Ticket("Bill, wrong", "", "billing", "high", None))
    (tmp_path / "tickets.csv").write_text(
        "title,description,category,priority,queue,extra\n"
        'VPN down,again,network,,net,1\n"Bill, wrong",,billing,high,,2\n'
    )
    (tmp_path / "tickets.jsonl").write_text(
        "\n".join(
            json.dumps(row)
            for row in (
                {"title": "VPN down", "description": "again", "category": "network", "queue": "net"},
                {"title": "Bill, wrong", "category": "billing", "priority": "high"},
            )
        )
    )
    assert read_tickets(tmp_path / "tickets.csv") == expected
    assert read_tickets(tmp_path / "tickets.jsonl") == expected


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("t.jsonl", '{"title": "a"}\nnot json', "is neither CSV"),
        ("t.jsonl", "[1]", "line 1: not a JSON object"),
        ("t.csv", "category\nnetwork\n", "line 2: neither a title nor a description"),
        ("t.csv", "title\n", "holds no tickets"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(TicketsUnreadable, match=complaint) as told:
        read_tickets(tmp_path / name)
    assert "\n" not in str(told.value)


def test_the_threshold_is_the_lowest_that_is_precise_enough() -> None:
    confidence = [0.9] * 50 + [0.6] * 50 + [0.3] * 50
    right = [True] * 50 + [True] * 45 + [False] * 5 + [True] * 10 + [False] * 40
    assert threshold_for(confidence, right, 0.9) == 0.6
    assert threshold_for(confidence, right, 0.96) == 0.9
    assert threshold_for([0.9, 0.8], [True, True], 0.9) > 1
    assert threshold_for(confidence, [False] * 150, 0.5) > 1


def test_between_answers_seen_the_threshold_lies_half_way_and_below_them_as_low_as_the_precision() -> None:
    never_wrong = [0.999] * 60 + [0.993] * 60
    assert threshold_for(never_wrong, [True] * 120, 0.85) == 0.85
    seldom_right_below = [0.99] * 60 + [0.89] * 40
    assert threshold_for(seldom_right_below, [True] * 60 + [False] * 40, 0.85) == pytest.approx(0.94)
    seldom_right_far_below = [0.99] * 60 + [0.2] * 40
    assert threshold_for(seldom_right_far_below, [True] * 60 + [False] * 40, 0.85) == 0.85


@pytest.mark.parametrize(("count", "answers"), [(5, False), (9, False), (10, True), (50, True)])
def test_a_handful_of_right_answers_is_no_proof_of_precision(count: int, answers: bool) -> None:
    assert (threshold_for([0.99] * count, [True] * count, 0.85) <= 1) is answers
