"""Finds whom a request names, among the people of the organisation.

A name that two people share is nobody: it is found with a problem, and a person has to say who is meant. A mention that
the platform made (`<@U012>`) is left as it is; only the surface knows whose it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from inference.model import KnownPerson


@dataclass(frozen=True, slots=True)
class FoundPerson:
    """One person named in a text."""

    start: int
    end: int
    """Where the name stands: `text[start:end]`."""
    text: str
    """As typed."""
    id: str = ""
    """The person's id, or the platform's mention as typed; "" where it cannot be told, `problem` then says why."""
    problem: str = ""


def person_at(text: str, start: int, people: Sequence[KnownPerson]) -> FoundPerson | None:
    """Who is named at a place of a text: by a mention, an `@id`, an id, a full name or a first name that only one
    person has. None where no name stands there."""
    mention = _MENTION.match(text, start)
    if mention is not None:
        return FoundPerson(start, mention.end(), mention.group(), mention.group())
    handle = _HANDLE.match(text, start)
    if handle is not None:
        return _by_handle(handle, people)
    if _WORD.match(text, start) is None:
        return None
    words = list(islice(_WORD.finditer(text, start), MOST_WORDS))
    return _by_name(text, _together(text, words), people)


def people_listed(text: str, start: int, people: Sequence[KnownPerson]) -> list[FoundPerson]:
    """The people of a list that begins at a place: `Amir, Rosa Blum and <@U012>`. Empty where none stands there."""
    found: list[FoundPerson] = []
    position = start
    while (each := person_at(text, position, people)) is not None:
        found.append(each)
        joined = _AND.match(text, each.end)
        if joined is None:
            return found
        # After a comma something else may begin: "with Amir, on Friday".
        following = person_at(text, joined.end(), people)
        if following is None or (following.problem and not following.text[:1].isupper()):
            return found
        position = joined.end()
    return found


MOST_WORDS = 6
"""Words of the longest name that is looked for."""

_MENTION = re.compile(r"<@[\w|.-]+>|<at>[^<>\n]{1,80}</at>")
_HANDLE = re.compile(r"@(?P<id>[A-Za-z0-9][\w.-]*\w|[A-Za-z0-9])(?!['’]\w)")
_WORD = re.compile(r"[^\W\d_](?:[\w.]*[\w])?(?:[-'’][^\W\d_]+)*")
_AND = re.compile(r"\s*,\s*(?:and\s+)?|\s+(?:and|und|et|y)\s+|\s*&\s*")
_POSSESSIVE = re.compile(r"['’]s$")
_OR = re.compile(r"\s+(?:or|oder|ou|o)\s+|\s*/\s*")


def _together(text: str, words: Sequence[re.Match[str]]) -> list[re.Match[str]]:
    """The first of the words with those that follow it on the same line with one space between them."""
    kept = list(words[:1])
    for before, word in pairwise(words):
        if text[before.end() : word.start()] != " ":
            break
        kept.append(word)
    return kept


def _by_handle(handle: re.Match[str], people: Sequence[KnownPerson]) -> FoundPerson:
    wanted = _folded(handle["id"])
    found = [person for person in people if _folded(person.id) == wanted]
    if not found:
        found = [person for person in people if _folded(person.name.split(" ")[0]) == wanted]
    return _one_of(found, handle.start(), handle.end(), handle.group())


def _by_name(text: str, words: Sequence[re.Match[str]], people: Sequence[KnownPerson]) -> FoundPerson | None:
    start = words[0].start()
    if _POSSESSIVE.search(words[0].group()):
        return None
    spoken = [_folded(word.group()) for word in words]
    for length in range(len(words), 0, -1):
        name = " ".join(spoken[:length])
        end = words[length - 1].end()
        found = [person for person in people if name == " ".join(_folded(person.name).split())]
        if not found and length == 1:
            found = [person for person in people if name in (_folded(person.id), _folded(person.name).split(" ")[0])]
        if not found:
            continue
        # "Amir Khan" is not the one Amir we know, "Amir's team" is not Amir, and "Amir or Rosa" is neither.
        surname = words[length].group() if length < len(words) else ""
        if surname[:1].isupper() and not _STARTS_ANEW.fullmatch(surname):
            whole = text[start : words[length].end()]
            return FoundPerson(start, words[length].end(), whole, problem=f"I know nobody called “{whole}”")
        if re.match(r"['’]s\b", text[end:]):
            return None
        if _OR.match(text, end):
            return FoundPerson(start, end, text[start:end], problem="more than one person is offered")
        return _one_of(found, start, end, text[start:end])
    if not words[0].group()[0].isupper():
        return None
    shown = text[start : max(word.end() for word in _capitalised(words))]
    return FoundPerson(start, start + len(shown), shown, problem=f"I know nobody called “{shown}”")


_STARTS_ANEW = re.compile(
    r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|Please|Thanks|Today|Tomorrow|Due|By|On|And|The|This|It|TCK",
    re.IGNORECASE,
)


def _capitalised(words: Sequence[re.Match[str]]) -> list[re.Match[str]]:
    kept = []
    for word in words:
        if not word.group()[0].isupper() or _STARTS_ANEW.fullmatch(word.group()):
            break
        kept.append(word)
    return kept or list(words[:1])


def _one_of(found: Sequence[KnownPerson], start: int, end: int, text: str) -> FoundPerson:
    if len(found) == 1:
        return FoundPerson(start, end, text, found[0].id)
    if not found:
        return FoundPerson(start, end, text, problem=f"I know nobody called “{text}”")
    names = ", ".join(f"{person.name} ({person.id})" for person in found[:4])
    return FoundPerson(start, end, text, problem=f"“{text}” may be {names}")


def _folded(name: str) -> str:
    """A name without case and accents: people type "jose" for José."""
    apart = unicodedata.normalize("NFKD", name.casefold())
    return "".join(letter for letter in apart if not unicodedata.combining(letter))
