"""The words people read, from `handlers/words/*.j2`: one file a subject, one block a message."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


class Wording:
    """Renders messages.

    wording.say("dialog", "stranger", name="Rosa")
    """

    def __init__(self) -> None:
        self._templates = Environment(
            loader=PackageLoader("handlers", "words"),
            undefined=StrictUndefined,
            # Plain text: each surface escapes for itself.
            autoescape=False,  # noqa: S701
            trim_blocks=True,
            lstrip_blocks=True,
        )
        filters: dict[str, Callable[..., str]] = {"clock": clock, "span": span}
        self._templates.filters.update(filters)

    def say(self, subject: str, block: str, **values: Any) -> str:
        """One message; raises KeyError for an unknown block and jinja2.UndefinedError for a missing value."""
        template = self._templates.get_template(f"{subject}.j2")
        return "".join(template.blocks[block](template.new_context(values))).strip()


def clock(moment: datetime) -> str:
    """`24 Nov 2026, 14:05 UTC`."""
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


def span(length: timedelta) -> str:
    """`3.2 s`, `5 minutes`, `2 hours`, `3 days`."""
    seconds = length.total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = round(seconds / size)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    raise AssertionError("unreachable")
