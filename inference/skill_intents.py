"""The intents of the skills: fitted once for exactly these labels, in another process, and kept for the next start.

    python -m inference.skill_intents FOLDER < labels with their vectors, as `_packed` writes them

scikit-learn never enters the process that answers people: it hands texts and vectors to a subprocess and loads what
that leaves. What is kept stands under a digest of labels, texts out of scope, embedding model and recipe, so a changed
skill is fitted anew and an unchanged one is not.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Sequence
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from inference.embeddings import Embedder
from inference.intent import background_texts
from inference.intent_classifier import Examples, IntentClassifier, embedded
from inference.model import Label, ModelUnavailable
from inference.model_card import ModelRefused
from inference.prediction import Prediction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RECIPE = 2
"""Raise it when the fit changes; what was kept by an older recipe is then fitted anew."""

TOO_ALIKE = 0.75
"""A text out of scope that is this like an example asks for its skill, whatever we thought; it is left out."""

LONGEST_FIT = timedelta(minutes=3)
"""A fit takes some ten seconds; one that takes this long is stuck and is ended."""

KEPT = 4
"""Fitted sets that stay in the folder, newest first: a rolled back release finds its own again."""

_ROOT = Path(__file__).resolve().parent.parent


def out_of_scope_texts() -> list[str]:
    """Everyday texts and requests of an office that no skill serves, each once."""
    own = (files("inference") / "out_of_scope.txt").read_text().splitlines()
    return list(dict.fromkeys([*background_texts(), *own]))


class PreparedIntents:
    """Implements `inference.prediction.Intents` for labels known at start.

    intents = PreparedIntents(embedder, labels, data / "models")
    await intents.warm()                                # ahead, in the background
    found = await intents.decide("please shut TCK-12")  # waits for the same fit where it is not done
    """

    def __init__(self, embedder: Embedder, labels: Sequence[Label], folder: Path) -> None:
        """`folder` holds fitted sets, one folder each. Raises `ValueError` where a label has no two texts to go by."""
        self._embedder = embedder
        self._labels = tuple(labels)
        self._folder = folder
        self._classifier: IntentClassifier | None = None
        self._preparing: asyncio.Task[IntentClassifier] | None = None
        for label in self._labels:
            if len(_texts(label)) < 2:
                raise ValueError(f"the skill {label.name!r} needs a description and an example, or two examples")

    async def warm(self) -> None:
        """Load or fit ahead of the first text. Raises `ModelUnavailable`; the next `warm` or `decide` tries again."""
        await self._ready()

    async def decide(self, text: str) -> Prediction:
        """See `Intents.decide`."""
        classifier = self._classifier or await self._ready()
        return await classifier.decide(text)

    async def _ready(self) -> IntentClassifier:
        if self._classifier is not None:
            return self._classifier
        if self._preparing is None:
            self._preparing = asyncio.create_task(self._prepare())
            self._preparing.add_done_callback(self._prepared)
        # A caller who gives up must not take the fit away from the others.
        return await asyncio.shield(self._preparing)

    def _prepared(self, task: asyncio.Task[IntentClassifier]) -> None:
        self._preparing = None
        if not task.cancelled() and task.exception() is None:
            self._classifier = task.result()

    async def close(self) -> None:
        """End a fit that is under way."""
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.gather(self._preparing, return_exceptions=True)

    async def _prepare(self) -> IntentClassifier:
        place = self._folder / f"skills-{self._digest()[:16]}"
        if await asyncio.to_thread(place.exists):
            try:
                return await IntentClassifier.loaded(place, self._embedder)
            except ModelRefused:
                # Damaged, or from an older release: what is fitted anew replaces it.
                pass
        examples = await self._examples()
        await _fit(place, await asyncio.to_thread(_packed, examples, self._embedder.version))
        try:
            classifier = await IntentClassifier.loaded(place, self._embedder)
        except ModelRefused as error:
            raise ModelUnavailable(f"the skills' intents cannot be loaded: {error}") from error
        await asyncio.to_thread(_forget_older, self._folder, place)
        return classifier

    async def _examples(self) -> Examples:
        """The labels' texts, and those out of scope that are like none of them."""
        own: list[tuple[str, str | None]] = [(text, label.name) for label in self._labels for text in _texts(label)]
        inside = await embedded(own, self._embedder)
        outside = await embedded([(text, None) for text in out_of_scope_texts()], self._embedder)
        return await asyncio.to_thread(_joined, inside, outside)

    def _digest(self) -> str:
        labels = [[label.name, *_texts(label)] for label in self._labels]
        material = [RECIPE, self._embedder.version, labels, out_of_scope_texts()]
        return hashlib.sha256(json.dumps(material, ensure_ascii=False).encode()).hexdigest()


def _texts(label: Label) -> list[str]:
    return list(dict.fromkeys(text for text in (label.description, *label.examples) if text.strip()))


def _joined(inside: Examples, outside: Examples) -> Examples:
    import numpy

    likest = (outside.vectors @ inside.vectors.T).max(axis=1)
    kept = outside.chosen([int(row) for row in numpy.flatnonzero(likest < TOO_ALIKE)])
    return Examples(
        inside.texts + kept.texts, inside.labels + kept.labels, numpy.concatenate([inside.vectors, kept.vectors])
    )


def _packed(examples: Examples, embedding_model: str) -> bytes:
    """Texts, labels and vectors as one npz, for the subprocess."""
    import numpy

    described = json.dumps({"texts": examples.texts, "labels": examples.labels, "embedding_model": embedding_model})
    packed = io.BytesIO()
    numpy.savez(packed, vectors=examples.vectors, described=numpy.frombuffer(described.encode(), dtype=numpy.uint8))
    return packed.getvalue()


def _unpacked(packed: bytes) -> tuple[Examples, str]:
    import numpy

    with numpy.load(io.BytesIO(packed), allow_pickle=False) as stored:
        described = json.loads(stored["described"].tobytes())
        vectors: NDArray[np.float32] = stored["vectors"]
    return Examples(tuple(described["texts"]), tuple(described["labels"]), vectors), described["embedding_model"]


async def _fit(place: Path, packed: bytes) -> None:
    """Run the fit in a subprocess. Raises `ModelUnavailable` with what it said last."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "inference.skill_intents",
        str(place),
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LONGEST_FIT.total_seconds()):
            _, said = await process.communicate(packed)
    except TimeoutError:
        raise ModelUnavailable(f"fitting the skills' intents took longer than {LONGEST_FIT}") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = (said.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        raise ModelUnavailable(f"the skills' intents could not be fitted: {last}")


def _forget_older(folder: Path, place: Path) -> None:
    """Keep the newest few sets, `place` among them."""
    others = [path for path in folder.glob("skills-*") if path.is_dir() and path != place]
    for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


def main(arguments: list[str]) -> int:
    """`python -m inference.skill_intents FOLDER`: fit what stands on standard input and save it there."""
    from inference.intent_fitting import fit_intents

    if len(arguments) != 1:
        print("usage: python -m inference.skill_intents FOLDER", file=sys.stderr)
        return 2
    examples, embedding_model = _unpacked(sys.stdin.buffer.read())
    classifier = fit_intents(examples, embedding_model=embedding_model, source="the skills' own examples")
    classifier.save(Path(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
