"""Where each value of a proposed call comes from: found by looking for it in the request and in the thread.

A model is never asked. What cannot be found word for word is the model's, also where it follows from what was said
("tomorrow"), because only a person can tell whether it follows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from inference.model import Origin, OriginKind, PlanProposal, Utterance

_TYPED = Origin(OriginKind.TYPED)
_MODEL = Origin(OriginKind.MODEL)
_GROUPINGS = (",", " ", "'")
"""What people put between thousands."""
_JOINS = r"[-./@+=%&~]"
"""What makes one word of two: `12` does not stand in `12.5`, nor `ana@example.org` in `ana@example.org.evil.net`."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_LARGEST = 10**15
"""Above this a float no longer holds cents, and no people's amount is meant."""


def labelled(proposal: PlanProposal, words: str, thread: Sequence[Utterance]) -> PlanProposal:
    """The same proposal with an origin for every argument of every call.

    `words` are the requester's own in this request. A value that stands in them is `typed`; one that stands in
    messages of `thread` carries their ids; a list or an object is as good as its weakest part. Case and white space are
    overlooked; parts of words do not count, and what only looks alike is something else.
    """
    request = _comparable(words)
    messages = [(utterance.id, _comparable(utterance.text)) for utterance in thread]
    calls = (
        replace(call, origins={name: _origin(value, request, messages) for name, value in call.arguments.items()})
        for call in proposal.calls
    )
    return replace(proposal, calls=tuple(calls))


def _origin(value: Any, request: str, messages: Sequence[tuple[str, str]]) -> Origin:
    if isinstance(value, Mapping):
        # A schema's own names are nobody's words; any other key says as much as a value does.
        told = [key for key in value if not _NAME.fullmatch(str(key))]
        return _weakest(_origin(each, request, messages) for each in (*told, *value.values()))
    if isinstance(value, list | tuple):
        return _weakest(_origin(each, request, messages) for each in value)
    standing = _standing(value)
    if standing is None:
        return _MODEL
    if standing.search(request):
        return _TYPED
    found = tuple(id for id, text in messages if standing.search(text))
    return Origin(OriginKind.THREAD, found) if found else _MODEL


def _weakest(parts: Iterable[Origin]) -> Origin:
    """An empty list was typed by nobody."""
    origins = list(parts)
    kinds = {origin.kind for origin in origins}
    if not origins or OriginKind.MODEL in kinds:
        return _MODEL
    if OriginKind.THREAD in kinds:
        return Origin(OriginKind.THREAD, tuple(dict.fromkeys(id for each in origins for id in each.messages)))
    return _TYPED


def _standing(value: Any) -> re.Pattern[str] | None:
    """What to look for in comparable text; None for a value that nobody can have typed."""
    if isinstance(value, bool):
        return _words(str(value).lower())
    if isinstance(value, int | float):
        return _number(value)
    text = _comparable(value) if isinstance(value, str) else ""
    return _words(text) if text else None


def _words(text: str) -> re.Pattern[str]:
    before = rf"(?<!\w)(?<!\w{_JOINS})" if _is_word(text[0]) else ""
    after = rf"(?!\w)(?!{_JOINS}\w)" if _is_word(text[-1]) else ""
    return re.compile(before + re.escape(text) + after)


def _number(value: float) -> re.Pattern[str] | None:
    """A number as people type it: 1250, 1,250, 1 250, 1'250, 1,250.00; 12.5, 12,5, 12.50."""
    if abs(value) > _LARGEST or not math.isfinite(value):
        return None
    is_whole = value == int(value)
    plain = {str(int(value)), f"{int(value):,}"} if is_whole else {repr(value), f"{value:,}"}
    if is_whole or round(value, 2) == value:
        plain |= {f"{value:.2f}", f"{value:,.2f}"}
    forms = {form.replace(",", grouping) for form in plain for grouping in _GROUPINGS}
    forms |= {form.replace(".", ",") for form in forms if "," not in form}
    either = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    return re.compile(rf"(?<![\w-])(?<!\w[./@,'])(?<!\d )(?:{either})(?!\w)(?![-./@,']\d)(?! \d{{3}}\b)")


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _comparable(text: str) -> str:
    """Text without its case. Only letters that have a way back are folded: "straße.de" is another host than
    "strasse.de", and the Kelvin sign is no k."""
    return " ".join("".join(map(_without_case, text)).split())


def _without_case(character: str) -> str:
    lower = character.lower()
    return lower if lower.upper() == character else character
