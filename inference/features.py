"""The words of a text as a sparse vector: words, pairs of words and pieces of words, weighted by how rare they are.

The same few lines of Python make the features where a classifier is fitted and where it answers, so the two cannot
differ; the process that answers people needs nothing but numpy for them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST_TEXT = 1000
"""Characters of a text that are read: what somebody wants stands at the front, and a pasted log must not cost more."""

SHORTEST_PIECE, LONGEST_PIECE = 2, 5
"""Characters of a piece of a word, its edges marked by spaces."""

_WORD = re.compile(r"\w+")
_DIGITS = re.compile(r"\d+")


def _words(text: str) -> list[str]:
    """Lower case, every number as 0: which ticket or how many euros says nothing of what somebody wants."""
    return _WORD.findall(_DIGITS.sub("0", text[:LONGEST_TEXT].lower()))


def word_features(text: str) -> list[str]:
    """Every word and every pair of neighbouring words, lower case, with repetitions."""
    words = _words(text)
    return words + [f"{first} {second}" for first, second in pairwise(words)]


def piece_features(text: str) -> list[str]:
    """Every piece of 2 to 5 characters of every word, with repetitions. Misspelt words still share most pieces."""
    return list(_pieces(text))


def _pieces(text: str) -> Iterator[str]:
    for word in _words(text):
        padded = f" {word} "
        for length in range(SHORTEST_PIECE, LONGEST_PIECE + 1):
            for start in range(len(padded) - length + 1):
                yield padded[start : start + length]


@dataclass(frozen=True, slots=True)
class SparseRow:
    """A text's known features: a row of a matrix that is nearly all zeros."""

    columns: NDArray[np.int32]
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Features that are known, each with its column and its weight."""

    columns: Mapping[str, int]
    """Column by feature, 0 to n - 1, in the order of `weights`."""
    weights: Sequence[float]
    """Inverse document frequency: `ln((1 + texts) / (1 + texts that have it)) + 1`."""

    @classmethod
    def of(cls, texts: Iterable[Sequence[str]], *, least: int) -> Vocabulary:
        """Of texts given by their features; those in fewer than `least` texts are left out."""
        size = 0
        counts: Counter[str] = Counter()
        for features in texts:
            size += 1
            counts.update(set(features))
        kept = sorted(feature for feature, count in counts.items() if count >= least)
        columns = {feature: column for column, feature in enumerate(kept)}
        return cls(columns, [math.log((1 + size) / (1 + counts[feature])) + 1 for feature in kept])

    def vector(self, features: Sequence[str]) -> tuple[list[int], list[float]]:
        """Columns and values of a text's known features, of length 1 together; both empty where none is known.

        A feature that occurs n times counts 1 + ln n times.
        """
        columns, weights = self.columns, self.weights
        found: dict[int, int] = {}
        for feature in features:
            column = columns.get(feature)
            if column is not None:
                found[column] = found.get(column, 0) + 1
        values = [(1 + math.log(count)) * weights[column] for column, count in found.items()]
        length = math.sqrt(sum(value * value for value in values))
        return list(found), [value / length for value in values]


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Words and pieces side by side: the columns of the words, then those of the pieces."""

    words: Vocabulary
    pieces: Vocabulary

    @classmethod
    def of(cls, texts: Sequence[str], *, least_words: int, least_pieces: int) -> Lexicon:
        """See `Vocabulary.of`."""
        return cls(
            Vocabulary.of((word_features(text) for text in texts), least=least_words),
            Vocabulary.of((piece_features(text) for text in texts), least=least_pieces),
        )

    @property
    def size(self) -> int:
        """Number of columns."""
        return len(self.words.weights) + len(self.pieces.weights)

    def row(self, text: str) -> SparseRow:
        """Words of length 1 and pieces of length 1, each nothing where none of them is known."""
        import numpy

        columns, values = self.words.vector(word_features(text))
        more_columns, more_values = self.pieces.vector(piece_features(text))
        start = len(self.words.weights)
        return SparseRow(
            numpy.array(columns + [start + column for column in more_columns], dtype=numpy.int32),
            numpy.array(values + more_values, dtype=numpy.float32),
        )

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """For a file of arrays; `from_arrays` reads them."""
        import numpy

        found: dict[str, NDArray[np.generic]] = {}
        for name, vocabulary in (("words", self.words), ("pieces", self.pieces)):
            joined = "\n".join(vocabulary.columns).encode()
            found[name] = numpy.frombuffer(joined, dtype=numpy.uint8)
            found[f"{name}_weights"] = numpy.array(vocabulary.weights, dtype=numpy.float64)
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Lexicon:
        """Of what `arrays` gave."""
        vocabularies = []
        for name in ("words", "pieces"):
            weights = [float(weight) for weight in arrays[f"{name}_weights"]]
            # No feature holds a line break: words have none, and a piece's edges are spaces.
            features = arrays[name].tobytes().decode().split("\n") if weights else []
            vocabularies.append(Vocabulary({feature: column for column, feature in enumerate(features)}, weights))
        return cls(*vocabularies)
