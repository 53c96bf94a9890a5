"""semantic-router on texts whose vectors are given; run by `benchmarks.router` with the peers' interpreter.

python router_peer.py WORK.npz > RESULT.json

The file holds, as JSON under `described`, the texts with their labels of `train`, `held_out` and `test` (null: out of
scope), and under the same names their vectors. `default` is the router as its first page shows it: it has no threshold
and refuses nothing. `fitted` is calibrated by its own `fit` on the held-out texts, with the threshold that makes the
most answers right on them, out-of-scope texts weighing as much as for Countersign.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import numpy as np
from semantic_router import IndexedRouter, Route
from semantic_router.encoders import DenseEncoder


class Given(DenseEncoder):
    """Looks vectors up: the same encoder for everyone, and its time is counted once, elsewhere."""

    vectors: dict[str, list[float]]

    def __call__(self, docs: list[Any]) -> list[list[float]]:
        return [self.vectors[doc] for doc in docs]

    async def acall(self, docs: list[Any]) -> list[list[float]]:
        return self(docs)


async def decide(router: IndexedRouter, texts: list[str]) -> tuple[list[str], list[float], list[float]]:
    """The best route whatever its score, its confidence, and the milliseconds it took."""
    names, confidence, times = [], [], []
    for text in texts:
        since = time.perf_counter()
        choice = await router.acall(text, threshold=-1e9)
        times.append((time.perf_counter() - since) * 1000)
        names.append(choice.name or "")
        confidence.append(float(choice.confidence or 0.0))
    return names, confidence, times


def best_threshold(names: list[str], confidence: list[float], labels: list[str | None], share: float) -> float:
    """The confidence from which on accepting makes the most answers right, `share` of the traffic out of scope."""
    outside = np.array([label is None for label in labels])
    right = np.array([name == label for name, label in zip(names, labels, strict=True)])
    weights = np.where(outside, share / max(outside.sum(), 1), (1 - share) / max((~outside).sum(), 1))
    scores = np.array(confidence)
    edges = np.unique(scores)
    return float(max(edges, key=lambda edge: float(weights @ np.where(scores >= edge, right, outside))))


async def measured(work: Any) -> dict[str, Any]:
    """Both ways of using it on one set of training texts."""
    described = json.loads(work["described"].tobytes())
    vectors = {
        text: vector.tolist()
        for part in ("train", "held_out", "test")
        for (text, _), vector in zip(described[part], work[part], strict=True)
    }
    by_label: dict[str, list[str]] = {}
    for text, label in described["train"]:
        if label is not None:
            by_label.setdefault(label, []).append(text)
    since = time.perf_counter()
    router = IndexedRouter(
        encoder=Given(name="given", vectors=vectors),
        routes=[Route(name=label, utterances=texts) for label, texts in by_label.items()],
    )
    built = time.perf_counter() - since
    texts = [text for text, _ in described["test"]]
    names, confidence, times = await decide(router, texts)
    found = {
        "default": {"names": names, "confidence": confidence, "times": times, "threshold": None, "fit_seconds": built}
    }
    since = time.perf_counter()
    held_out, labels = [text for text, _ in described["held_out"]], [label for _, label in described["held_out"]]
    await router.afit(held_out, labels)
    held_names, held_confidence, _ = await decide(router, held_out)
    threshold = best_threshold(held_names, held_confidence, labels, described["out_of_scope_share"])
    fitted = built + time.perf_counter() - since
    names, confidence, times = await decide(router, texts)
    found["fitted"] = {
        "names": names, "confidence": confidence, "times": times, "threshold": threshold, "fit_seconds": fitted
    }  # fmt: skip
    return found


if __name__ == "__main__":
    with np.load(sys.argv[1]) as stored:
        json.dump(asyncio.run(measured(dict(stored))), sys.stdout)
