"""`countersign bench router`: what it takes, what it measures on what, and what it says of a wrong file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import intent_texts
import numpy as np
import pytest
import skill_paraphrases

from bot.cli import main
from inference.embeddings import OnnxEmbedder
from inference.intent_classifier import Examples, embedded
from inference.router_bench import BenchFileWrong, measure, read_intents, split, table, with_shots
from inference.skill_intents import out_of_scope_texts

ROOT = Path(__file__).parents[2]


def sample() -> dict[str, Any]:
    """A file like CLINC150's, small."""
    return {
        "train": [[text, label.name] for label in intent_texts.LABELS for text in label.examples],
        "val": [[text, label] for label, texts in skill_paraphrases.PARAPHRASES.items() for text in texts],
        "test": [[text, label] for text, label in intent_texts.IN_SCOPE],
        "oos_train": [[text, "oos"] for text in out_of_scope_texts()[::3]],
        "oos_val": [[text, "oos"] for text in skill_paraphrases.OTHER_WORK],
        "oos_test": [[text, "oos"] for text in intent_texts.OUT_OF_SCOPE],
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "intents.json"
    path.write_text(json.dumps(sample()))
    return path


def test_no_text_is_in_two_parts_of_the_split(file: Path) -> None:
    parts = split(read_intents(file), read_intents(file))
    assert {label for _, label in parts.test} > {None, "close"}
    texts = [{text for text, _ in part} for part in (parts.train, parts.held_out, parts.test)]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]
    assert len(parts.test) == len(intent_texts.IN_SCOPE) + len(intent_texts.OUT_OF_SCOPE)


def test_a_file_that_is_both_is_halved_so_that_nothing_is_measured_on_what_gave_the_threshold(tmp_path: Path) -> None:
    content = sample()
    del content["test"], content["oos_test"]
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(content))
    parts = split(read_intents(path), read_intents(path))
    assert not {text for text, _ in parts.held_out} & {text for text, _ in parts.test}
    assert abs(len(parts.held_out) - len(parts.test)) <= 1
    assert {label for _, label in parts.test} == {label for _, label in parts.held_out}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[1]", "needs an object with lists"),
        ('{"something": []}', "needs an object with lists"),
        ("{", "is not JSON"),
        ('{"train": 1}', "train is not a list"),
        ('{"train": [["a", "b"], ["a"]]}', r"train\[1\] is not \[text, label\]"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(content)
    with pytest.raises(BenchFileWrong, match=complaint) as told:
        read_intents(path)
    assert "\n" not in str(told.value)


def test_what_is_missing_from_the_files_is_named() -> None:
    inside, outside = [("a", "x"), ("b", "x")], [("c", None)]
    with pytest.raises(BenchFileWrong, match="no examples under train"):
        split({"val": inside}, {"test": inside})
    with pytest.raises(BenchFileWrong, match="neither test nor val"):
        split({"train": inside}, {"train": inside})
    with pytest.raises(BenchFileWrong, match="out of scope"):
        split({"train": inside}, {"test": [("d", "x")]})
    assert split({"train": inside}, {"test": [("d", "x")], "oos_test": outside}).held_out == []


def test_shots_are_drawn_by_the_seed_and_too_few_examples_are_said() -> None:
    labels = ("x",) * 6 + ("y",) * 6 + (None,) * 2
    examples = Examples(tuple(f"text {n}" for n in range(14)), labels, np.zeros((14, 4), dtype=np.float32))
    chosen = with_shots(examples, 3, seed=1)
    assert [chosen.labels.count(label) for label in ("x", "y", None)] == [3, 3, 2]
    assert with_shots(examples, 3, seed=1).texts == chosen.texts
    assert with_shots(examples, 3, seed=2).texts != chosen.texts
    with pytest.raises(BenchFileWrong, match="x has 6 examples, not 7"):
        with_shots(examples, 7, seed=1)


async def test_the_figures_are_those_of_the_decisions(embedder: OnnxEmbedder, file: Path) -> None:
    parts = split(read_intents(file), read_intents(file))
    train, held_out, test = [await embedded(part, embedder) for part in (parts.train, parts.held_out, parts.test)]
    figures, predictions = measure("all", train, held_out, test, np.full(len(test.texts), 2.0), lambda step: None)
    inside = [(each, label) for each, label in zip(predictions, test.labels, strict=True) if label is not None]
    outside = [each for each, label in zip(predictions, test.labels, strict=True) if label is None]
    assert figures.accuracy == pytest.approx(sum(each.nearest == label for each, label in inside) / len(inside))
    assert figures.in_scope == pytest.approx(sum(each.label == label for each, label in inside) / len(inside))
    assert figures.out_of_scope == pytest.approx(sum(each.label is None for each in outside) / len(outside))
    assert figures.accuracy > 0.9
    assert figures.auroc > 0.9
    assert 2.0 < figures.p50 <= figures.p99
    assert f"| all | {100 * figures.accuracy:.1f} |" in table([figures])


def test_the_command_prints_its_table_and_one_line_for_a_wrong_file(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", "router", "--train", str(file), "--test", str(file), "--shots", "5", "--data", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "bot.cli", *arguments], capture_output=True, text=True, check=True, cwd=ROOT
    )
    lines = done.stdout.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 5 examples a label", "| all examples"]
    assert "Embedding what is measured" in done.stderr
    (tmp_path / "wrong.json").write_text("{}")
    assert main([*arguments[:2], "--train", str(tmp_path / "wrong.json"), *arguments[4:]]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("countersign: ")
    assert "\n" not in told
    assert main([*arguments[:2], "--train", str(tmp_path / "missing.json"), *arguments[4:]]) == 2
    assert "No such file" in capsys.readouterr().err
