"""Contrastive fine-tuning of the sentence encoder on labelled examples, as a job that may be killed at any time.

The same call on the same folder goes on where the last one stopped and ends with the weights of a run that was never
stopped. A folder is whole or absent. torch is loaded when it runs: a process that answers people runs it as another.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.prepare import RECIPE, WEIGHTS_SHA256, export_int8, sha256
from inference.training import Examples, Observe, TrainingFailed, TrainingRecipe, TrainingStep, digest_of

if TYPE_CHECKING:
    from inference.encoder_training import EncoderTraining

LEAST_COSINE = 0.95
"""What the int8 vectors of a tuned encoder must reach against its own float vectors."""


def fine_tune(examples: Examples, out: Path, recipe: TrainingRecipe, observe: Observe) -> dict[str, Any]:
    """Tune the encoder and make `out` a folder that `OnnxEmbedder` loads; returns its `meta.json`.

    Returns at once where `out` is already the result. Unfinished work stands in `out` + `.training` until the end.
    Raises `TrainingFailed` (also where `out` or the unfinished work is of something else) and `PreparationFailed`.
    """
    out = out.absolute()
    fingerprint = digest_of([asdict(recipe), examples.digest, WEIGHTS_SHA256, RECIPE])
    work = out.with_name(out.name + ".training")
    work.mkdir(parents=True, exist_ok=True)
    with _only_one(work / "lock"):
        meta = _meta(out)
        if meta is None:
            from inference.encoder_training import EncoderTraining

            training = EncoderTraining(examples, recipe, fingerprint, work / "checkpoint.pt")
            meta = _export(training, training.run(observe), examples, recipe, fingerprint, work, out, observe)
        elif meta.get("fingerprint") != fingerprint:
            raise TrainingFailed(
                f"{out} is there already, and of other examples or another recipe; name another folder"
            )
        shutil.rmtree(work)
    return meta


def _export(
    training: EncoderTraining,
    encoder: Any,
    examples: Examples,
    recipe: TrainingRecipe,
    fingerprint: str,
    work: Path,
    out: Path,
    observe: Observe,
) -> dict[str, Any]:
    steps = training.steps
    partial = work / "folder"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    cosine = export_int8(
        encoder, partial, lambda doing: observe(TrainingStep(steps, steps, doing)), least_cosine=LEAST_COSINE
    )
    meta = {
        "recipe": RECIPE,
        "weights_sha256": WEIGHTS_SHA256,
        "model_sha256": sha256(partial / "model.onnx"),
        "worst_cosine": round(cosine, 4),
        "fingerprint": fingerprint,
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "examples": len(examples.texts),
        "labels": len(examples.names),
        "examples_sha256": examples.digest,
        "training": asdict(recipe),
        "best_epoch": training.best_epoch,
        "held_out": {
            "before": training.scores[0],
            "after": training.scores[training.best_epoch],
            "measured": "nearest of 20 examples a label; out of scope against oos_train, where there is one",
        },
    }
    (partial / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")
    partial.rename(out)
    return meta


def _meta(out: Path) -> dict[str, Any] | None:
    if not out.exists():
        return None
    try:
        meta: dict[str, Any] = json.loads((out / "meta.json").read_text())
    except (OSError, ValueError) as error:
        raise TrainingFailed(f"{out} is there already and is no tuned encoder; name another folder") from error
    return meta


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    with lock.open("w") as handle:
        try:
            # Released by the kernel even when the process that holds it is killed.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingFailed(f"another process is training in {lock.parent}") from None
        yield
