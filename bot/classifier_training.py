"""Fits the classifiers on a file of examples with the encoder that the product uses, for `countersign train`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from bot.commands.registry import CommandFailed
from bot.progress import Progress
from bot.settings import Settings
from inference.intent_classifier import Examples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOGETHER = 64
"""Texts embedded between two words of progress."""


def train_intents(file: Path, out: Path, settings: Settings, shown: TextIO) -> str:
    """Fit an `IntentClassifier` on a file shaped like CLINC150's and save it in `out`; returns its card for people.

    Of the file `train` and `oos_train` are learnt from; `val` and `oos_val`, where they are there, give threshold and
    calibration. Raises `CommandFailed`, and `ModelUnavailable` where nothing can embed.
    """
    from inference.intent_fitting import fit_intents

    train, held_out = _read(file)
    with _shown(shown, file) as progress:
        texts = [text for text, _label in (*train, *held_out)]
        version, vectors = asyncio.run(_embedded(texts, settings, progress))
        progress.step("Fitting")
        classifier = fit_intents(
            _examples(train, vectors[: len(train)]),
            embedding_model=version,
            source=file.name,
            held_out=_examples(held_out, vectors[len(train) :]) if held_out else None,
            progress=progress.note,
        )
    return classifier.save(out).readable()


def train_tickets(file: Path, out: Path, settings: Settings, shown: TextIO) -> str:
    """Fit a `TicketClassifier` on a CSV or JSON lines file and save it in `out`; returns its card for people.

    Raises `CommandFailed`, and `ModelUnavailable` where nothing can embed.
    """
    from inference.ticket_classifier import TicketsUnreadable, read_tickets
    from inference.ticket_fitting import fit_tickets

    try:
        tickets = read_tickets(file)
    except TicketsUnreadable as error:
        raise CommandFailed(str(error)) from error
    with _shown(shown, file) as progress:
        version, vectors = asyncio.run(_embedded([ticket.text for ticket in tickets], settings, progress))
        progress.step("Fitting")
        classifier = fit_tickets(tickets, vectors, embedding_model=version, source=file.name, progress=progress.note)
    return classifier.save(out).readable()


@contextmanager
def _shown(shown: TextIO, file: Path) -> Iterator[Progress]:
    """Two steps of progress; what a fit says of its examples becomes one line."""
    progress = Progress(shown)
    progress.begin(total_steps=2)
    try:
        yield progress
    except ValueError as error:
        raise CommandFailed(f"{file}: {error}") from error
    finally:
        progress.end()


async def _embedded(texts: list[str], settings: Settings, progress: Progress) -> tuple[str, NDArray[np.float32]]:
    """The encoder's version and the texts' vectors: float32 [n, dimensions]."""
    import numpy

    from bot.app import MODEL_FOLDER
    from bot.models import build_embedder

    embedder = build_embedder(settings.model, settings.data, MODEL_FOLDER)
    progress.step("Embedding", parts=len(texts))
    try:
        await embedder.warm()
        found = [await embedder.embed([])]
        for start in range(0, len(texts), TOGETHER):
            part = texts[start : start + TOGETHER]
            found.append(await embedder.embed(part))
            for _text in part:
                progress.advance("texts")
        return embedder.version, numpy.concatenate(found)
    finally:
        await embedder.close()


def _examples(labelled: Sequence[tuple[str, str | None]], vectors: NDArray[np.float32]) -> Examples:
    return Examples(tuple(text for text, _ in labelled), tuple(label for _, label in labelled), vectors)


def _read(file: Path) -> tuple[list[tuple[str, str | None]], list[tuple[str, str | None]]]:
    """Examples to learn from, and those held out; out of scope has the label None."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))

        def part(inside: str, outside: str) -> list[tuple[str, str | None]]:
            return [
                *((str(text), str(label)) for text, label in content.get(inside, ())),
                *((str(text), None) for text, _label in content.get(outside, ())),
            ]

        train, held_out = part("train", "oos_train"), part("val", "oos_val")
    except (ValueError, TypeError, AttributeError) as error:
        raise CommandFailed(
            f'{file} is no file of examples: it needs {{"train": [["text", "label"], …]}} ({type(error).__name__})'
        ) from error
    if not train:
        raise CommandFailed(f'{file} has no examples: it needs {{"train": [["text", "label"], …]}}')
    return train, held_out
