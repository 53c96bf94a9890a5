"""What a training is given and what it tells: examples, the recipe, and where it is."""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


class TrainingFailed(Exception):
    """Training cannot start or go on; the message is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Labelled texts, and texts that belong to no label."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    strangers: tuple[str, ...] = ()
    """Out of scope. Never trained on: they help to choose the best epoch."""

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read `train` and, where there is one, `oos_train` of a file shaped like CLINC150's: lists of [text, label].

        Raises `TrainingFailed`, and `OSError` where the file cannot be read.
        """
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            train = [(str(text), str(label)) for text, label in content["train"]]
            strangers = tuple(str(text) for text, _label in content.get("oos_train", ()))
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingFailed(
                f'{file} is no file of examples: it needs {{"train": [["text", "label"], …]}} ({type(error).__name__})'
            ) from error
        examples = cls(tuple(text for text, _ in train), tuple(label for _, label in train), strangers)
        if len(examples.names) < 2:
            raise TrainingFailed(f"{file} needs examples of at least two labels")
        return examples

    @property
    def names(self) -> list[str]:
        """The labels there are, sorted."""
        return sorted(set(self.labels))

    @property
    def digest(self) -> str:
        """SHA-256 of all of it, in order."""
        return digest_of([self.texts, self.labels, self.strangers])


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """How an encoder is tuned. The defaults were chosen on the tenth of CLINC150's training set that is held out."""

    epochs: int = 6
    batch_size: int = 96
    examples_a_label: int = 4
    """Examples of one label that stand together in a batch."""
    learning_rate: float = 1e-4
    """At its highest: it rises over `warm_up` of the steps and falls to 0 in a straight line."""
    anchor_learning_rate: float = 1e-2
    temperature: float = 0.07
    weight_decay: float = 0.01
    warm_up: float = 0.1
    held_out: float = 0.1
    """Share of the examples of each label that is not trained on and chooses the best epoch."""
    seed: int = 0
    checkpoint_every: int = 50
    """Steps between checkpoints; what a kill costs at most."""

    def __post_init__(self) -> None:
        """Raises `TrainingFailed` for what cannot be trained."""
        if min(self.epochs, self.examples_a_label, self.checkpoint_every) < 1 or self.batch_size < 2:
            raise TrainingFailed("epochs, examples a label and steps between checkpoints are at least 1, batches 2")
        if not 0 < self.held_out < 1:
            raise TrainingFailed(f"the share held out is between 0 and 1, not {self.held_out}")


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """Where a training is."""

    step: int
    """Steps done, of `steps`."""
    steps: int
    note: str
    """What was just done, for people."""


Observe = Callable[[TrainingStep], None]


def split(labels: Sequence[str], recipe: TrainingRecipe) -> tuple[list[int], list[int]]:
    """Positions to train on, and positions held out: `recipe.held_out` of each label that has two or more."""
    chance = random.Random(recipe.seed)  # noqa: S311 - a split, not a secret
    of_label: defaultdict[str, list[int]] = defaultdict(list)
    for position, label in enumerate(labels):
        of_label[label].append(position)
    held_out: set[int] = set()
    for label in sorted(of_label):
        positions = of_label[label]
        share = max(1, round(recipe.held_out * len(positions))) if len(positions) > 1 else 0
        held_out.update(chance.sample(positions, share))
    return [position for position in range(len(labels)) if position not in held_out], sorted(held_out)


def digest_of(values: Any) -> str:
    """SHA-256 of plain values, hexadecimal."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
