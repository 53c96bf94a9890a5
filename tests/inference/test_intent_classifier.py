"""The intent classifier: right, sure of it to the right degree, silent on strangers, the same from a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import intent_texts
import numpy as np
import pytest

from inference.calibration import area_under_curve
from inference.embeddings import OnnxEmbedder
from inference.features import LONGEST_TEXT, Lexicon, piece_features, word_features
from inference.intent_classifier import Examples, IntentClassifier, Look, embedded
from inference.intent_fitting import Scored, fit_intents, fit_scale
from inference.model_card import CARD, READABLE, WEIGHTS, ModelRefused
from inference.skill_intents import out_of_scope_texts

CLINC = (
    Path(os.environ.get("COUNTERSIGN_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")) / "clinc150_dev.json"
)
ROOT = Path(__file__).parents[2]


async def skills(embedder: OnnxEmbedder) -> Examples:
    inside = [(text, label.name) for label in intent_texts.LABELS for text in label.examples]
    return await embedded([*inside, *((text, None) for text in out_of_scope_texts())], embedder)


@pytest.fixture
async def classifier(embedder: OnnxEmbedder, tmp_path: Path) -> IntentClassifier:
    fitted = fit_intents(await skills(embedder), embedding_model=embedder.version, source="the tests")
    fitted.save(tmp_path / "model")
    return IntentClassifier.load(tmp_path / "model", embedder)


async def test_a_label_or_none_with_what_drift_is_measured_on(
    classifier: IntentClassifier, embedder: OnnxEmbedder
) -> None:
    found = await classifier.decide("TCK-15 is done, you can close it")
    assert (found.label, found.nearest) == ("close", "close")
    assert found.confidence > 0.5
    assert found.scope >= classifier.threshold
    assert found.model_version == classifier.card.version
    assert found.embedding_model == embedder.version
    again = await classifier.decide("TCK-15 is done, you can close it")
    other = await classifier.decide("is it going to snow tomorrow in Oslo")
    assert again == found
    assert other.label is None
    assert other.nearest in classifier.labels
    assert other.confidence > 0.5
    assert other.scope < classifier.threshold
    assert other.embedding_digest != found.embedding_digest


@pytest.mark.parametrize("text", ["", "  ", "?!", "🎉", "\x00", "close " * 5000, "日本語のテキスト"])
async def test_any_text_gets_an_answer(classifier: IntentClassifier, text: str) -> None:
    found = await classifier.decide(text)
    assert 0 <= found.confidence <= 1
    assert found.nearest in classifier.labels


async def test_what_was_saved_decides_as_what_was_fitted(embedder: OnnxEmbedder, tmp_path: Path) -> None:
    examples = await skills(embedder)
    fitted = fit_intents(examples, embedding_model=embedder.version, source="the tests")
    fitted.save(tmp_path / "model")
    loaded = IntentClassifier.load(tmp_path / "model", embedder)
    for text, vector in list(zip(examples.texts, examples.vectors, strict=True))[::9]:
        assert loaded.predict(text, vector) == fitted.predict(text, vector)


async def test_the_same_examples_in_the_same_order_make_the_same_model(embedder: OnnxEmbedder, tmp_path: Path) -> None:
    examples = await skills(embedder)
    first, second = (
        fit_intents(examples, embedding_model=embedder.version, source="the tests").save(tmp_path / name)
        for name in ("first", "second")
    )
    assert first.digests == second.digests


async def test_a_folder_that_is_not_what_was_saved_is_refused(
    classifier: IntentClassifier, embedder: OnnxEmbedder, tmp_path: Path
) -> None:
    folder = classifier_folder = tmp_path / "model"
    weights = bytearray((folder / WEIGHTS).read_bytes())
    weights[len(weights) // 2] ^= 1
    (folder / WEIGHTS).write_bytes(weights)
    with pytest.raises(ModelRefused, match=r"weights\.npz is not what was saved"):
        IntentClassifier.load(folder, embedder)
    classifier.save(classifier_folder)
    settings = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(settings | {"threshold": -99.0}))
    with pytest.raises(ModelRefused, match=r"model\.json is not what was saved"):
        IntentClassifier.load(folder, embedder)
    with pytest.raises(ModelRefused, match="there is no classifier"):
        IntentClassifier.load(tmp_path / "nowhere", embedder)
    (folder / CARD).write_text("{")
    with pytest.raises(ModelRefused, match="cannot be read as a model card"):
        IntentClassifier.load(folder, embedder)


async def test_another_embedding_model_is_refused(
    classifier: IntentClassifier, embedder: OnnxEmbedder, tmp_path: Path
) -> None:
    class Other:
        version = "f" * 64

        async def embed(self, texts):  # type: ignore[no-untyped-def]
            raise AssertionError

    with pytest.raises(ModelRefused, match="the one in use is ffffffffffff: fit it again"):
        IntentClassifier.load(tmp_path / "model", Other())


async def test_the_card_says_what_it_was_made_from_and_how_good_it_is(
    classifier: IntentClassifier, embedder: OnnxEmbedder, tmp_path: Path
) -> None:
    card = json.loads((tmp_path / "model" / CARD).read_text())
    assert card["counts"]["training"]["close"] == 7
    assert card["counts"]["training"]["(out of scope)"] == len(out_of_scope_texts())
    assert card["embedding_model"] == embedder.version
    assert card["metrics"]["out-of-scope AUROC"] > 0.85
    assert card["settings"]["threshold"] == classifier.threshold
    people = (tmp_path / "model" / READABLE).read_text()
    assert "| close | 7 |" in people
    assert card["digests"][WEIGHTS] in people


async def test_shuffled_labels_are_no_better_than_chance_and_the_card_says_so(embedder: OnnxEmbedder) -> None:
    examples = await skills(embedder)
    inside = [row for row, label in enumerate(examples.labels) if label is not None]
    shuffled = np.random.default_rng(0).permutation(inside)
    labels = list(examples.labels)
    for row, other in zip(inside, shuffled, strict=True):
        labels[row] = examples.labels[other]
    fitted = fit_intents(replace(examples, labels=tuple(labels)), embedding_model="x", source="the tests")
    assert fitted.card.metrics["in-scope accuracy, no rejection"] < 0.4


async def test_without_texts_out_of_scope_labels_that_are_left_out_stand_for_them(embedder: OnnxEmbedder) -> None:
    inside = [(text, label.name) for label in intent_texts.LABELS for text in label.examples]
    fitted = fit_intents(await embedded(inside, embedder), embedding_model=embedder.version, source="the tests")
    vectors = await embedder.embed(intent_texts.OUT_OF_SCOPE)
    refused = [
        fitted.predict(text, vector).label is None
        for text, vector in zip(intent_texts.OUT_OF_SCOPE, vectors, strict=True)
    ]
    assert sum(refused) / len(refused) > 0.6


async def test_one_label_and_texts_out_of_scope_are_enough(embedder: OnnxEmbedder) -> None:
    only = [(text, "close") for label in intent_texts.LABELS if label.name == "close" for text in label.examples]
    examples = await embedded([*only, *((text, None) for text in out_of_scope_texts())], embedder)
    fitted = fit_intents(examples, embedding_model=embedder.version, source="the tests")
    wanted, stranger = await embedder.embed(["please close ticket TCK-88", "who painted the Mona Lisa"])
    assert fitted.predict("please close ticket TCK-88", wanted).label == "close"
    assert fitted.predict("who painted the Mona Lisa", stranger).label is None


@pytest.mark.parametrize(
    ("pairs", "complaint"),
    [
        ([("a b", "one"), ("c d", "two"), ("e f", "two")], "these have one: one"),
        ([("a b", "one"), ("c d", "one")], "are the least that can be told apart"),
        ([("a b", "one"), ("c d", "one"), ("e", "two"), ("f", "two")], "texts out of scope are needed"),
    ],
)
async def test_too_little_to_learn_from_is_said(
    embedder: OnnxEmbedder, pairs: list[tuple[str, str | None]], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        fit_intents(await embedded(pairs, embedder), embedding_model="x", source="the tests")


def test_deciding_needs_no_scikit_learn_or_scipy_and_importing_nothing_at_all(model_dir: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nimport inference.intent_classifier, inference.ticket_classifier, inference.skill_intents\n"
        "print([name for name in ('numpy', 'sklearn', 'scipy') if name in sys.modules])\n"
        "import numpy\nfrom inference.calibration import Calibrator, fit_calibrator\n"
        "fit_calibrator(numpy.zeros(50), numpy.arange(50) % 2 == 0)\n"
        "print([name for name in ('sklearn', 'scipy', 'pickle5') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


def test_numbers_are_alike_and_long_texts_are_cut() -> None:
    assert word_features("close TCK-12") == word_features("close TCK-7700")
    assert "close tck" in word_features("Close TCK-12!")
    assert " clo" in piece_features("close")
    assert len(word_features("word " * 10_000)) < LONGEST_TEXT


def test_a_lexicon_survives_being_written_down() -> None:
    lexicon = Lexicon.of(["close the ticket", "Öffne das Ticket", "close it"], least_words=1, least_pieces=1)
    again = Lexicon.from_arrays(lexicon.arrays())
    for text in ("close das ticket 5", "", "öffne"):
        first, second = lexicon.row(text), again.row(text)
        assert first.columns.tolist() == second.columns.tolist()
        assert first.values.tolist() == second.values.tolist()
    assert float((lexicon.row("close the ticket").values ** 2).sum()) == pytest.approx(2)


def drawn(inside: int, outside: int, seed: int) -> Scored:
    """Looks whose features all tell the two kinds apart, each equally well."""
    random = np.random.default_rng(seed)
    kinds = np.arange(inside + outside) < inside
    rows = random.normal(size=(inside + outside, 5)) + 1.5 * kinds[:, None]
    rows[:, 4] *= -1
    looks = tuple(Look(0, 3.0, tuple(float(value) for value in row)) for row in rows)
    return Scored(looks, kinds, kinds)


@pytest.mark.parametrize("seed", range(12))
def test_a_few_unlucky_texts_out_of_scope_do_not_decide_what_the_scope_looks_at(seed: int) -> None:
    few, fresh = fit_scale(drawn(1500, 4, seed)), drawn(1000, 1000, 99)
    scope = np.array([few.scope_of(look) for look in fresh.looks])
    # Nothing does better than the sum of the five; without the prior 12 draws gave 0.981 on average.
    best = np.array([look.features for look in fresh.looks]) @ np.array([1, 1, 1, 1, -1])
    curve, bound = (area_under_curve(each[fresh.inside], each[~fresh.inside]) for each in (scope, best))
    assert curve > bound - 0.003


async def test_one_text_out_of_scope_gives_a_threshold_but_no_figures(embedder: OnnxEmbedder) -> None:
    examples = await skills(embedder)
    held_out = await embedded([*intent_texts.IN_SCOPE, ("is it going to snow in Oslo", None)], embedder)
    fitted = fit_intents(examples, embedding_model="x", source="the tests", held_out=held_out)
    assert fitted.card.metrics == {}
    (vector,) = await embedder.embed(["please close ticket TCK-88"])
    assert fitted.predict("please close ticket TCK-88", vector).label == "close"


@pytest.mark.skipif(not CLINC.exists(), reason=f"CLINC150 is not at {CLINC}; set COUNTERSIGN_SHARED_DATA to its folder")
async def test_forty_intents_of_clinc150_are_told_apart_from_each_other_and_from_the_rest(
    embedder: OnnxEmbedder,
) -> None:
    data = json.loads(CLINC.read_text())
    labels = sorted({label for _, label in data["train"]})[::4]
    train = [(text, label) for text, label in data["train"] if label in labels]
    by_label: dict[str, int] = {}
    few = []
    for text, label in train:
        by_label[label] = by_label.get(label, 0) + 1
        if by_label[label] <= 25:
            few.append((text, label))
    inside = [(text, label) for text, label in data["val"] if label in labels]
    held_out = await embedded([*inside[::2], *((text, None) for text, _ in data["oos_val"])], embedder)
    fitted = fit_intents(await embedded(few, embedder), embedding_model="x", source="the tests", held_out=held_out)
    test = await embedded([*inside[1::2], *((text, None) for text, _ in data["oos_train"])], embedder)
    found = [fitted.predict(text, vector) for text, vector in zip(test.texts, test.vectors, strict=True)]
    known = [(each, label) for each, label in zip(found, test.labels, strict=True) if label is not None]
    strangers = [each for each, label in zip(found, test.labels, strict=True) if label is None]
    assert sum(each.nearest == label for each, label in known) / len(known) > 0.95
    assert sum(each.label == label for each, label in known) / len(known) > 0.88
    assert sum(each.label is None for each in strangers) / len(strangers) > 0.88
    right = [each.label == label for each, label in zip(found, test.labels, strict=True)]
    assert abs(sum(each.confidence for each in found) / len(found) - sum(right) / len(right)) < 0.06
    curve = area_under_curve(np.array([each.scope for each, _ in known]), np.array([each.scope for each in strangers]))
    assert fitted.card.metrics["out-of-scope AUROC"] == pytest.approx(curve, abs=0.015)
