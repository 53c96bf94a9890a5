"""Checkpoints of a training: a file is the whole state or the one before it, whenever the process is killed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def save(state: dict[str, Any], file: Path) -> None:
    """Write `state` (tensors and plain values) beside `file`, make it durable, and put it in `file`'s place."""
    import torch

    partial = file.with_name(file.name + ".partial")
    with partial.open("wb") as handle:
        torch.save(state, handle)
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(file: Path) -> dict[str, Any] | None:
    """What `save` wrote; None where nothing was. Nothing in the file is executed."""
    import torch

    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    return state
