"""Examples kept to be compared with: how like a text is to the nearest of them, in meaning and in words together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inference.features import SparseRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

SCALE = 127
"""Embeddings are kept as int8: a vector's number times this."""

WORDS = 1 / 6
"""Share of the words in a likeness, and again of the pieces of words; the embedding has the other two thirds."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Examples by group (a label's, or those out of scope), a group's rows side by side."""

    embeddings: NDArray[np.int8]
    """[n, dimensions], times `SCALE`."""
    starts: NDArray[np.int64]
    """First row of each group, and n."""
    sparse_starts: NDArray[np.int64]
    """First entry of each row in the two below, and their length."""
    columns: NDArray[np.int32]
    values: NDArray[np.float16]

    @classmethod
    def of(cls, groups: Sequence[Sequence[tuple[SparseRow, Vector]]], dimensions: int) -> Neighbours:
        """Of groups of examples; a group may be empty."""
        import numpy

        rows = [example for group in groups for example in group]
        vectors = numpy.array([vector for _, vector in rows], dtype=numpy.float32).reshape(len(rows), dimensions)
        none = numpy.zeros(0)
        return cls(
            as_int8(vectors),
            numpy.cumsum([0, *(len(group) for group in groups)], dtype=numpy.int64),
            numpy.cumsum([0, *(len(row.columns) for row, _ in rows)], dtype=numpy.int64),
            numpy.concatenate([none, *(row.columns for row, _ in rows)]).astype(numpy.int32),
            numpy.concatenate([none, *(row.values for row, _ in rows)]).astype(numpy.float16),
        )

    def nearest(self, spread_out: Vector, embedding: Vector, groups: Sequence[int], count: int) -> float:
        """Mean likeness, -1 to 1, to the `count` nearest examples of some groups; 0 where these have none.

        `spread_out` is the text's sparse row as a full vector, float32 [columns].
        """
        import numpy

        found = [self._likeness(spread_out, embedding, group) for group in groups]
        likeness = numpy.concatenate(found) if found else numpy.zeros(0, dtype=numpy.float32)
        if not len(likeness):
            return 0.0
        count = min(count, len(likeness))
        return float(numpy.partition(likeness, len(likeness) - count)[-count:].mean())

    def _likeness(self, spread_out: Vector, embedding: Vector, group: int) -> Vector:
        import numpy

        first, end = int(self.starts[group]), int(self.starts[group + 1])
        if first == end:
            return numpy.zeros(0, dtype=numpy.float32)
        meaning = self.embeddings[first:end].astype(numpy.float32) @ embedding / SCALE
        begin, stop = int(self.sparse_starts[first]), int(self.sparse_starts[end])
        products = spread_out[self.columns[begin:stop]] * self.values[begin:stop]
        # Sums of the rows as differences of running sums: unlike reduceat, right for rows without entries.
        running = numpy.concatenate([numpy.zeros(1), numpy.cumsum(products, dtype=numpy.float64)])
        words = (
            running[self.sparse_starts[first + 1 : end + 1] - begin] - running[self.sparse_starts[first:end] - begin]
        )
        likeness: Vector = ((1 - 2 * WORDS) * meaning + WORDS * words).astype(numpy.float32)
        return likeness

    def arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        """For a file of arrays; `from_arrays` reads them."""
        return {f"{prefix}_{name}": getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], prefix: str) -> Neighbours:
        """Of what `arrays` gave under the same prefix."""
        return cls(**{name: arrays[f"{prefix}_{name}"] for name in cls.__slots__})


def as_int8(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Vectors of length 1, rounded to int8."""
    import numpy

    rounded: NDArray[np.int8] = numpy.clip(numpy.rint(vectors * SCALE), -SCALE, SCALE).astype(numpy.int8)
    return rounded
