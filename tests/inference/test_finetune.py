"""Tuning the encoder: it learns, a kill costs nothing but time, and the result stands in for the shipped encoder."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference.contrastive import batches_of
from inference.embeddings import OnnxEmbedder
from inference.finetune import fine_tune
from inference.training import Examples, TrainingFailed, TrainingRecipe, TrainingStep, split
from tests.inference.training_examples import WORDS, write_examples

RECIPE = TrainingRecipe(
    epochs=2, batch_size=8, examples_a_label=4, held_out=0.2, learning_rate=1e-3, checkpoint_every=1
)
ROOT = Path(__file__).parents[2]

TRAIN = """
import sys
from pathlib import Path
from inference.finetune import fine_tune
from inference.training import Examples, TrainingRecipe
from tests.inference.test_finetune import RECIPE
fine_tune(Examples.read(Path(sys.argv[1])), Path(sys.argv[2]), RECIPE, lambda step: None)
"""


def killed_after(step: int, examples: Path, out: Path) -> None:
    """Train in a process of its own, and kill it once its checkpoint of a step is there."""
    import torch

    command = [sys.executable, "-c", TRAIN, str(examples), str(out)]
    checkpoint = out.with_name(out.name + ".training") / "checkpoint.pt"
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            try:
                if torch.load(checkpoint, weights_only=True)["step"] >= step:
                    process.send_signal(signal.SIGKILL)
                    break
            except FileNotFoundError:
                os.sched_yield()
        assert process.wait() == -signal.SIGKILL


def test_a_killed_training_goes_on_and_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path) -> None:
    examples = write_examples(tmp_path / "examples.json")
    unbroken = fine_tune(Examples.read(examples), tmp_path / "unbroken", RECIPE, lambda step: None)
    out = tmp_path / "broken"
    killed_after(2, examples, out)
    assert not out.exists()
    notes: list[TrainingStep] = []
    meta = fine_tune(Examples.read(examples), out, RECIPE, notes.append)
    assert notes[0].note.startswith("going on after step")
    assert notes[0].step >= 2
    assert meta["model_sha256"] == unbroken["model_sha256"]
    assert meta["held_out"] == unbroken["held_out"]
    assert (out / "model.onnx").read_bytes() == (tmp_path / "unbroken" / "model.onnx").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "examples.json", "unbroken"]
    check_it_learnt(out)
    check_it_is_left_alone(examples, out)


def check_it_learnt(out: Path) -> None:
    """Texts of different labels about one thing have moved apart, and the product's embedder loads the folder."""
    texts = [f"{words[0]} my ticket" for words in WORDS.values()]
    shipped, tuned = (asyncio.run(vectors(folder, texts)) for folder in (ROOT / ".countersign/models/minilm", out))
    assert tuned.shape == (3, 384)
    pairs = np.triu_indices(3, 1)
    assert (tuned @ tuned.T)[pairs].mean() < (shipped @ shipped.T)[pairs].mean() - 0.05


async def vectors(folder: Path, texts: list[str]) -> np.ndarray:
    embedder = OnnxEmbedder(folder)
    found = await embedder.embed(texts)
    await embedder.close()
    return found


def check_it_is_left_alone(examples: Path, out: Path) -> None:
    """The same call has nothing left to do, and another recipe takes nobody's folder."""
    steps: list[TrainingStep] = []
    fine_tune(Examples.read(examples), out, RECIPE, steps.append)
    assert steps == []
    with pytest.raises(TrainingFailed, match="name another folder"):
        fine_tune(Examples.read(examples), out, replace(RECIPE, epochs=3), steps.append)


def test_a_folder_with_unfinished_work_of_other_examples_is_refused(tmp_path: Path) -> None:
    from inference import checkpoint

    work = tmp_path / "out.training"
    work.mkdir()
    checkpoint.save({"fingerprint": "another"}, work / "checkpoint.pt")
    with pytest.raises(TrainingFailed, match="unfinished training of other examples"):
        fine_tune(Examples.read(write_examples(tmp_path / "e.json")), tmp_path / "out", RECIPE, lambda step: None)


def test_an_epoch_has_every_example_once_in_an_order_of_its_own() -> None:
    labels = [number % 5 for number in range(53)]
    first, again, next_epoch = (
        batches_of(labels, batch_size=8, examples_a_label=4, seed=seed) for seed in ("0 0", "0 0", "0 1")
    )
    assert first == again != next_epoch
    assert sorted(position for batch in first for position in batch) == list(range(53))
    assert [len(batch) for batch in first] == [8] * 6 + [5]
    assert all(len({labels[position] for position in batch}) <= 5 for batch in first)


def test_a_tenth_of_each_label_is_held_out_and_never_its_only_example() -> None:
    labels = [*["often"] * 50, *["seldom"] * 2, "once"]
    trained, held_out = split(labels, TrainingRecipe())
    assert sorted(trained + held_out) == list(range(53))
    assert [labels[position] for position in held_out] == [*["often"] * 5, "seldom"]


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"train": ["text"]}', "no json", '{"train": [["a", "x"], ["b", "x"]]}']
)
def test_a_file_that_is_no_examples_is_refused_in_a_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "examples.json"
    file.write_text(content)
    with pytest.raises(TrainingFailed, match=r"examples\.json"):
        Examples.read(file)


def test_the_loss_falls_as_texts_come_nearer_to_their_own() -> None:
    import torch

    from inference.contrastive import contrastive_loss

    labels = torch.tensor([0, 0, 1, 1])
    anchors = torch.eye(2)
    apart = contrastive_loss(anchors[labels], labels, anchors, temperature=0.1)
    mixed = contrastive_loss(anchors[1 - labels], labels, anchors, temperature=0.1)
    one_place = contrastive_loss(anchors[torch.zeros(4, dtype=torch.long)], labels, anchors, temperature=0.1)
    assert apart < one_place < mixed
    # Likeness 1 to the other text of its label and to their anchor, 0 to two texts and an anchor.
    assert float(apart) == pytest.approx(math.log((2 * math.e**10 + 3) / math.e**10), abs=1e-5)


def test_meta_tells_what_the_encoder_was_made_of(tmp_path: Path) -> None:
    examples = Examples.read(write_examples(tmp_path / "e.json"))
    fine_tune(examples, tmp_path / "out", replace(RECIPE, epochs=1), lambda step: None)
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert meta["examples_sha256"] == examples.digest
    assert meta["training"]["epochs"] == 1
    assert meta["worst_cosine"] >= 0.95
    assert set(meta["held_out"]["after"]) == {"accuracy", "auroc"}
