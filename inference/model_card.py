"""What stands beside every saved classifier: what it was fitted on, when, how well it does, and its weights' digest.

A folder holds `weights.npz` (arrays only, never a pickle: a pickle is code), `model.json` (names and settings),
`card.json` and, for people, `card.md`. What is loaded is what was saved: the digests must match.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CODE_VERSION = 1
"""Raise it when a change makes saved weights mean something else; older folders are then refused."""

WEIGHTS, SETTINGS, CARD, READABLE = "weights.npz", "model.json", "card.json", "card.md"


class ModelRefused(Exception):
    """A saved classifier cannot be used. The message names the folder, what is wrong with it and what to do."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One fitted classifier, described."""

    kind: str
    """`intents` or `tickets`."""
    made_at: str
    """ISO 8601, UTC."""
    source: str
    """Where the examples came from, in words."""
    data_digest: str
    """SHA-256 of the examples with their labels, in any order."""
    counts: Mapping[str, Mapping[str, int]]
    """Examples by part of the data and label."""
    embedding_model: str
    """`Embedder.version` of the vectors it was fitted on."""
    metrics: Mapping[str, float]
    """By name, measured as `measured_on` says; shares are 0 to 1."""
    measured_on: str
    """On what the metrics were measured, and how much of it the fit had seen."""
    settings: Mapping[str, Any]
    """What the fit chose: weights, penalties, thresholds, calibration methods."""
    code_version: int = CODE_VERSION
    digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by file; filled in by `save_model`."""

    @property
    def version(self) -> str:
        """Tells this fitted model from every other one: SHA-256 over the digests of its files."""
        return hashlib.sha256(json.dumps(dict(self.digests), sort_keys=True).encode()).hexdigest()

    def readable(self) -> str:
        """The card for people, as Markdown."""
        lines = [
            f"# A classifier of {self.kind}",
            "",
            f"Made {self.made_at} from {self.source}.",
            "",
            "| measured | |",
            "|---|---|",
            *(f"| {name} | {value:.4g} |" for name, value in self.metrics.items()),
            "",
            f"Measured on {self.measured_on}.",
            "",
            "| chosen by the fit | |",
            "|---|---|",
            *(f"| {name} | {_short(value)} |" for name, value in self.settings.items()),
            "",
        ]
        for part, counts in self.counts.items():
            lines += [f"## Examples: {part} ({sum(counts.values())})", "", "| label | examples |", "|---|---|"]
            lines += [f"| {_cell(label)} | {count} |" for label, count in counts.items()]
            lines.append("")
        lines += [
            f"Examples' digest `{self.data_digest}`; embedding model `{self.embedding_model}`; code version "
            f"{self.code_version}.",
            "",
            *(f"- `{name}`: `{digest}`" for name, digest in self.digests.items()),
        ]
        return "\n".join(lines) + "\n"


def now() -> str:
    """The time of making, for a card."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def digest_of(examples: Iterable[tuple[str, str | None]]) -> str:
    """SHA-256 of texts with their labels, whatever their order."""
    lines = sorted(json.dumps(example, ensure_ascii=False) for example in examples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def counts_of(labels: Iterable[str | None]) -> dict[str, int]:
    """Examples by label, sorted; out of scope as `(out of scope)`."""
    counted = Counter("(out of scope)" if label is None else label for label in labels)
    return dict(sorted(counted.items()))


def save_model(
    folder: Path, card: ModelCard, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[np.generic]]
) -> ModelCard:
    """Write a folder, whole or not at all, in place of what stood there; returns the card with the digests."""
    import numpy

    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with (partial / WEIGHTS).open("wb") as file:
            numpy.savez(file, **dict(arrays))  # type: ignore[arg-type]
        (partial / SETTINGS).write_text(json.dumps(settings, ensure_ascii=False))
        digests = {name: _sha256(partial / name) for name in (WEIGHTS, SETTINGS)}
        values = {**asdict(card), "digests": digests}
        card = ModelCard(**values)
        (partial / CARD).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
        (partial / READABLE).write_text(card.readable())
        old = folder.with_name(f"{folder.name}.{os.getpid()}.old")
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return card


def read_card(folder: Path) -> ModelCard:
    """The card of a folder. Raises `ModelRefused`."""
    try:
        return ModelCard(**json.loads((folder / CARD).read_text()))
    except FileNotFoundError:
        raise ModelRefused(f"there is no classifier in {folder}: it has no {CARD}") from None
    except (OSError, ValueError, TypeError) as error:
        raise ModelRefused(f"{folder / CARD} cannot be read as a model card: {error}") from error


def load_model(
    folder: Path, *, kind: str, embedding_model: str
) -> tuple[ModelCard, dict[str, Any], dict[str, NDArray[Any]]]:
    """Card, settings and arrays of a folder. Raises `ModelRefused` where it is not what was saved, is of another kind
    or version, or was fitted on another embedding model's vectors."""
    import numpy

    card = read_card(folder)
    if card.kind != kind:
        raise ModelRefused(f"{folder} holds a classifier of {card.kind}, not of {kind}")
    if card.code_version != CODE_VERSION:
        raise ModelRefused(
            f"{folder} was made by code version {card.code_version}, this is {CODE_VERSION}: fit it again"
        )
    if card.embedding_model != embedding_model:
        raise ModelRefused(
            f"{folder} was fitted on vectors of the embedding model {card.embedding_model[:12]}, but the one in use is "
            f"{embedding_model[:12]}: fit it again"
        )
    for name in (WEIGHTS, SETTINGS):
        try:
            digest = _sha256(folder / name)
        except OSError as error:
            raise ModelRefused(f"{folder / name} cannot be read: {error.strerror}") from error
        if digest != card.digests.get(name):
            raise ModelRefused(f"{folder / name} is not what was saved: its digest differs from the card's")
    settings: dict[str, Any] = json.loads((folder / SETTINGS).read_text())
    with numpy.load(folder / WEIGHTS, allow_pickle=False) as stored:
        return card, settings, {name: stored[name] for name in stored.files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _cell(str(value))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
