"""A few examples for trainings of seconds."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = {
    "close": ("close", "shut", "finish", "resolve"),
    "create": ("open", "create", "file", "report"),
    "list": ("show", "list", "find", "count"),
}
THINGS = ("the printer ticket", "my ticket", "that login problem")


def write_examples(file: Path) -> Path:
    """Twelve examples of each of three labels, and two texts of none; returns the file."""
    train = [[f"{word} {thing}", label] for label, words in WORDS.items() for word in words for thing in THINGS]
    strangers = [["what is the weather like", "oos"], ["who won the match", "oos"]]
    file.write_text(json.dumps({"train": train, "oos_train": strangers}))
    return file
