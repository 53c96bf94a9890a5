"""Supervised contrastive learning: which texts stand together in a batch, and the loss that draws them together.

Each text is contrasted with the other texts of its batch and with one learnt anchor for every label, in one softmax
(supervised contrastive learning, arXiv:2004.11362; the anchors are the parametric centres of arXiv:2107.12028). The
anchors make every label, however near, a negative of every step, so batches need not be mined for hard ones.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def batches_of(labels: Sequence[int], *, batch_size: int, examples_a_label: int, seed: str) -> list[list[int]]:
    """One epoch: every example once, by its position in `labels`, `examples_a_label` of a label standing together.

    The order is a function of the arguments alone, so that a run that goes on finds the same batches.
    """
    chance = random.Random(seed)  # noqa: S311 - an order, not a secret
    of_label: defaultdict[int, list[int]] = defaultdict(list)
    for position, label in enumerate(labels):
        of_label[label].append(position)
    groups: list[list[int]] = []
    for label in sorted(of_label):
        chance.shuffle(of_label[label])
        groups += _parts(of_label[label], examples_a_label)
    chance.shuffle(groups)
    return _parts(list(chain.from_iterable(groups)), batch_size)


def contrastive_loss(
    vectors: torch.Tensor, labels: torch.Tensor, anchors: torch.Tensor, *, temperature: float
) -> torch.Tensor:
    """Mean over the batch of -log of the share that texts and anchor of the own label have of all likeness.

    `vectors` [n, d] and `anchors` [labels, d] have length 1; `labels` [n] are rows of `anchors`.
    """
    import torch

    count = len(vectors)
    likeness = torch.cat((vectors @ vectors.T, vectors @ anchors.T), dim=1) / temperature
    itself = torch.zeros_like(likeness, dtype=torch.bool)
    itself[:, :count].fill_diagonal_(True)
    others = torch.cat((labels, torch.arange(len(anchors))))
    alike = (labels[:, None] == others[None, :]) & ~itself
    shares = torch.log_softmax(likeness.masked_fill(itself, float("-inf")), dim=1)
    return -(shares.masked_fill(~alike, 0.0).sum(dim=1) / alike.sum(dim=1)).mean()


def _parts(positions: list[int], size: int) -> list[list[int]]:
    return [positions[start : start + size] for start in range(0, len(positions), size)]
