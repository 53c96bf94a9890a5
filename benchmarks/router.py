"""How well Countersign's router tells intents apart, and from what is none of them, beside semantic-router.

python -m benchmarks.router --train FILE --test FILE [--shots 5,10,20] [--seed N] [--picture FILE.svg]

FILE is shaped like CLINC150's (`inference.router_bench`). Both get the very same vectors, of the product's int8
encoder; the time to make one is measured once and added to both. semantic-router lives in an environment that this
script makes, from benchmarks/peers-router.txt; where it cannot be made, its rows are missing and it says so. What it
found, and what that does not show: docs/router.md
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import described
from benchmarks.peers import peers_environment
from benchmarks.processes import ROOT
from benchmarks.reliability_picture import picture
from inference.calibration import area_under_curve, calibration_error, reliability
from inference.embeddings import OnnxEmbedder
from inference.intent_classifier import Examples, embedded
from inference.intent_fitting import OUT_OF_SCOPE_SHARE
from inference.prediction import Prediction
from inference.router_bench import Figures, embedded_one_by_one, measure, read_intents, split, table, with_shots

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PEERS = ROOT / "benchmarks" / "peers-router.txt"
PEER = ROOT / "benchmarks" / "router_peer.py"
ENVIRONMENT = ROOT / ".countersign" / "environments" / "router"
MODEL = ROOT / ".countersign" / "models" / "minilm"


@dataclass(frozen=True, slots=True)
class Texts:
    """Everything with its vectors, and the milliseconds that each measured text's vector took."""

    train: Examples
    held_out: Examples
    test: Examples
    embedding_times: NDArray[np.float64]


async def embed_all(train: Path, test: Path) -> Texts:
    """Read the files and embed every text once."""
    parts = split(read_intents(train), read_intents(test))
    if not parts.held_out:
        raise SystemExit("the file to train on needs val and oos_val: semantic-router is calibrated on them")
    embedder = OnnxEmbedder(MODEL)
    try:
        await embedder.embed(["the first text loads the model"])
        texts = [text for text, _ in parts.test]
        vectors, times = await embedded_one_by_one(texts, embedder, lambda doing: None)
        measured = Examples(tuple(texts), tuple(label for _, label in parts.test), vectors)
        return Texts(await embedded(parts.train, embedder), await embedded(parts.held_out, embedder), measured, times)
    finally:
        await embedder.close()


def of_peer(interpreter: Path, name: str, train: Examples, texts: Texts) -> list[Figures]:
    """semantic-router's lines for one set of training texts."""
    import numpy

    sets = {"train": train, "held_out": texts.held_out, "test": texts.test}
    words: dict[str, Any] = {part: list(zip(each.texts, each.labels, strict=True)) for part, each in sets.items()}
    words["out_of_scope_share"] = OUT_OF_SCOPE_SHARE
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work.npz"
        packed = numpy.frombuffer(json.dumps(words).encode(), dtype=numpy.uint8)
        numpy.savez(
            work,
            described=packed,
            train=train.vectors,
            held_out=texts.held_out.vectors,
            test=texts.test.vectors,
        )
        done = subprocess.run([str(interpreter), str(PEER), str(work)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"semantic-router ended with {done.stderr.strip()[-500:]}")
    found = json.loads(done.stdout)
    return [judged(f"semantic-router 1.1.1, {way}: {name}", found[way], texts) for way in ("default", "fitted")]


def judged(name: str, found: dict[str, Any], texts: Texts) -> Figures:
    """A peer's answers as a line of the table."""
    import numpy

    inside = numpy.array([label is not None for label in texts.test.labels])
    right = numpy.array([said == label for said, label in zip(found["names"], texts.test.labels, strict=True)])
    scores = numpy.array(found["confidence"])
    threshold = found["threshold"]
    accepted = numpy.ones(len(scores), dtype=bool) if threshold is None else scores >= threshold
    confidence = numpy.clip(numpy.where(accepted, scores, 1 - scores), 0, 1)
    times = numpy.array(found["times"]) + texts.embedding_times
    return Figures(
        name,
        float(right[inside].mean()),
        float((right & accepted)[inside].mean()),
        float((~accepted)[~inside].mean()),
        area_under_curve(scores[inside], scores[~inside]),
        calibration_error(confidence, numpy.where(accepted, right, ~inside)),
        float(numpy.percentile(times, 50)),
        float(numpy.percentile(times, 99)),
        float(found["fit_seconds"]),
    )


def draw(predictions: Sequence[Prediction], test: Examples, file: Path) -> None:
    """The reliability diagram of these decisions, labels and refusals apart."""
    import numpy

    drawn = {}
    for title, wanted in (("a label", True), ("out of scope", False)):
        rows = [row for row, each in enumerate(predictions) if (each.label is not None) == wanted]
        confidence = numpy.array([predictions[row].confidence for row in rows])
        right = numpy.array([predictions[row].label == test.labels[row] for row in rows])
        drawn[f"{title}: {len(rows)} answers"] = reliability(confidence, right, bins=10)
    file.write_text(picture(drawn))


def main() -> None:
    """Measure everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--shots", default="5,10,20")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, help="where to draw the reliability diagram")
    parsed = parser.parse_args()
    print(described())
    texts = asyncio.run(embed_all(parsed.train, parsed.test))
    interpreter = peers_environment(ENVIRONMENT, PEERS)
    rows: list[Figures] = []
    for shots in (*(int(each) for each in parsed.shots.split(",")), None):
        name = "all examples" if shots is None else f"{shots} examples"
        train = texts.train if shots is None else with_shots(texts.train, shots, parsed.seed)
        print(f"{name} …", file=sys.stderr)
        ours, predictions = measure(
            f"Countersign: {name}", train, texts.held_out, texts.test, texts.embedding_times, lambda step: None
        )
        rows.append(ours)
        if interpreter is not None:
            rows += of_peer(interpreter, name, train, texts)
        if shots is None and parsed.picture is not None:
            draw(predictions, texts.test, parsed.picture)
    print(f"embedding alone: p50 {_percentile(texts, 50):.2f} ms, p99 {_percentile(texts, 99):.2f} ms")
    print(table(rows))
    for ours, peer in ((rows[at], rows[at + 2]) for at in range(0, len(rows) - 2, 3)):
        wrong = (1 - peer.accuracy) / (1 - ours.accuracy)
        missed = (1 - peer.auroc) / (1 - ours.auroc)
        print(f"{ours.name}: fitted semantic-router has {wrong:.1f} × the wrong labels, {missed:.1f} × the 1 - AUROC")


def _percentile(texts: Texts, share: int) -> float:
    import numpy

    return float(numpy.percentile(texts.embedding_times, share))


if __name__ == "__main__":
    main()
