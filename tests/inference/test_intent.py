"""Routing by examples: paraphrases find their label, strangers none, at a threshold that is fitted and not chosen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import intent_texts
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.embeddings import OnnxEmbedder
from inference.intent import IntentIndex, fit_threshold
from inference.model import Label


async def test_paraphrases_find_their_label_and_strangers_find_none(embedder: OnnxEmbedder) -> None:
    index = IntentIndex(embedder, intent_texts.LABELS)
    examples = {example for label in intent_texts.LABELS for example in label.examples}
    assert not examples & {text for text, _ in intent_texts.IN_SCOPE}
    assert len(intent_texts.IN_SCOPE) + len(intent_texts.OUT_OF_SCOPE) >= 60
    right = [(await index.decide(text)).label == label for text, label in intent_texts.IN_SCOPE]
    refused = [(await index.decide(text)).label is None for text in intent_texts.OUT_OF_SCOPE]
    assert sum(right) / len(right) >= 0.9
    assert sum(refused) / len(refused) >= 0.9


@pytest.mark.parametrize(
    "text", ["book me a flight to Paris", "what's the weather", "transfer 500 euros", "tell me a joke"]
)
async def test_what_no_label_serves_is_refused(embedder: OnnxEmbedder, text: str) -> None:
    found = await IntentIndex(embedder, intent_texts.LABELS).decide(text)
    assert found.label is None
    assert found.confidence > 0.5


async def test_the_fitted_threshold_is_near_the_best_one_for_unseen_texts(embedder: OnnxEmbedder) -> None:
    """The index fits itself on its own examples; the texts here, which it has never seen, must agree with it."""
    index = IntentIndex(embedder, intent_texts.LABELS)
    everything = [text for text, _ in intent_texts.IN_SCOPE] + list(intent_texts.OUT_OF_SCOPE)
    built = await index._index()
    vectors = await embedder.embed(everything)
    scores = [built.best(text, vector)[1] for text, vector in zip(everything, vectors, strict=True)]
    count = len(intent_texts.IN_SCOPE)
    best = fit_threshold(scores[:count], scores[count:])
    own = await index.fit()
    accepted = sum(score >= own.threshold for score in scores[:count]) / count
    refused = sum(score < own.threshold for score in scores[count:]) / (len(scores) - count)
    assert accepted + refused >= best.accepted + best.refused - 0.1


async def test_a_label_that_wants_everyday_texts_gets_them(embedder: OnnxEmbedder) -> None:
    labels = (
        Label("weather", "Tell the weather", ("what is the weather like tomorrow", "will it rain", "is it sunny")),
        Label("travel", "Book travel", ("book a flight to rome", "find me a hotel", "I need a train to Berlin")),
    )
    index = IntentIndex(embedder, labels)
    assert (await index.decide("what's the weather in Oslo")).label == "weather"
    assert (await index.decide("book me a flight to Paris")).label == "travel"


async def test_a_label_can_be_described_without_examples(embedder: OnnxEmbedder) -> None:
    labels = (Label("close", "Close a ticket"), Label("help", "Explain what the assistant can do"))
    assert (await IntentIndex(embedder, labels).decide("close the ticket")).label == "close"


async def test_with_no_labels_or_no_text_the_answer_is_none(embedder: OnnxEmbedder) -> None:
    assert (await IntentIndex(embedder, ()).decide("help")).label is None
    assert (await IntentIndex(embedder, intent_texts.LABELS).decide("  ")).label is None


async def test_a_label_with_nothing_to_go_by_is_refused(embedder: OnnxEmbedder) -> None:
    with pytest.raises(ValueError, match="every label"):
        await IntentIndex(embedder, (Label("empty", ""),)).decide("help")


async def test_it_is_built_once_however_many_ask_first(embedder: OnnxEmbedder) -> None:
    asked: list[int] = []

    class Counting:
        version = "x"

        async def embed(self, texts: Sequence[str]):  # type: ignore[no-untyped-def]
            asked.append(len(texts))
            return await embedder.embed(texts)

    index = IntentIndex(Counting(), intent_texts.LABELS)
    await asyncio.gather(*(index.decide("help") for _ in range(10)))
    assert sum(count > 1 for count in asked) == len(intent_texts.LABELS) + 1


async def test_a_given_threshold_is_used(embedder: OnnxEmbedder) -> None:
    assert (await IntentIndex(embedder, intent_texts.LABELS, threshold=9.0).decide("help")).label is None


def test_a_clean_split_is_found_and_its_middle_taken() -> None:
    fit = fit_threshold([0.8, 0.9], [0.1, 0.2])
    assert (fit.accepted, fit.refused) == (1.0, 1.0)
    assert 0.2 < fit.threshold < 0.8
    assert fit.slope > 0


@given(
    st.lists(st.floats(-1, 2), min_size=1, max_size=20),
    st.lists(st.floats(-1, 2), min_size=1, max_size=20),
)
def test_no_other_threshold_separates_better(inside: list[float], outside: list[float]) -> None:
    fit = fit_threshold(inside, outside)
    for other in (*inside, *outside, -5.0):
        shares = sum(s >= other for s in inside) / len(inside) + sum(s < other for s in outside) / len(outside)
        assert fit.accepted + fit.refused >= shares - 1e-9


def test_scores_of_one_kind_fit_nothing() -> None:
    with pytest.raises(ValueError, match="both kinds"):
        fit_threshold([0.5], [])
