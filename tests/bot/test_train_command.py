"""`countersign train`: from a file of examples to a folder, with one line for every mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from inference.embeddings import INSTALLED, OnnxEmbedder, encoder_folder
from inference.intent_classifier import IntentClassifier
from inference.ticket_classifier import Ticket, TicketClassifier
from tests.inference.training_examples import write_examples

ROOT = Path(__file__).parents[2]
STOCK = ROOT / ".countersign" / "models" / "minilm"


def train(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bot.cli", "train", *arguments, "--data", str(data)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


async def test_intents_are_fitted_saved_and_decide_for_the_products_encoder(tmp_path: Path) -> None:
    examples = write_examples(tmp_path / "examples.json")
    done = train(tmp_path, "intents", "--train", str(examples), "--out", str(tmp_path / "intents"))
    assert done.returncode == 0, done.stderr
    assert "# A classifier of intents" in done.stdout
    embedder = OnnxEmbedder(STOCK)
    classifier = IntentClassifier.load(tmp_path / "intents", embedder)
    assert (await classifier.decide("please shut my printer ticket")).nearest == "close"
    await embedder.close()


async def test_tickets_are_fitted_and_saved_for_the_products_encoder(tmp_path: Path) -> None:
    file = tmp_path / "tickets.csv"
    rows = [(f"the printer in room {number} is jammed", "hardware") for number in range(60)]
    rows += [(f"vpn drops for user {number} every hour", "network") for number in range(60)]
    file.write_text("title,category\n" + "".join(f"{title},{category}\n" for title, category in rows))
    done = train(tmp_path, "tickets", "--train", str(file), "--out", str(tmp_path / "tickets"))
    assert done.returncode == 0, done.stderr
    embedder = OnnxEmbedder(STOCK)
    classifier = TicketClassifier.load(tmp_path / "tickets", embedder)
    found = await classifier.predict(Ticket("printer jammed again"))
    assert found.category.alternatives[0][0] == "hardware"
    assert found.queue.label is None
    await embedder.close()
    file.write_text("title,category\nonly one,hardware\n")
    refused = train(tmp_path, "tickets", "--train", str(file), "--out", str(tmp_path / "other"))
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr


def test_the_encoder_is_tuned_with_its_progress_told_and_installed(tmp_path: Path) -> None:
    examples = write_examples(tmp_path / "examples.json")
    out = tmp_path / "tuned"
    done = train(tmp_path, "encoder", "--train", str(examples), "--out", str(out), "--epochs", "1", "--install")
    assert done.returncode == 0, done.stderr
    assert "[1/1] Training" in done.stderr
    assert "on held-out examples: accuracy" in done.stderr
    assert "restart the product to use it" in done.stdout
    assert encoder_folder(tmp_path, STOCK) == tmp_path / INSTALLED
    again = train(tmp_path, "encoder", "--train", str(examples), "--out", str(out), "--epochs", "2")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "name another folder" in again.stderr


@pytest.mark.parametrize("kind", ["encoder", "intents"])
@pytest.mark.parametrize("content", [None, "no json", "{}", '{"train": [["a", "x"]]}'])
def test_a_file_that_is_no_examples_is_one_line(tmp_path: Path, kind: str, content: str | None) -> None:
    file = tmp_path / "examples.json"
    if content is not None:
        file.write_text(content)
    done = train(tmp_path, kind, "--train", str(file), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("countersign: ")
    assert str(file) in done.stderr
    assert "Traceback" not in done.stderr
