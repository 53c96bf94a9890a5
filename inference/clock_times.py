"""Finds times of day in a person's words, and settles a wall-clock time where clocks skip or repeat it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from inference.date_words import ALL_YEAR, AMBIGUOUS_ZONES, ZONES, either


@dataclass(frozen=True, slots=True)
class FoundTime:
    """One time of day in a text, with the zone that stands after it."""

    start: int
    end: int
    at: time | None
    """None where it cannot be told; `problem` then says why."""
    zone_name: str = ""
    """As typed: `CET`, `UTC+2`, `Europe/Berlin`; "" where none is."""
    problem: str = ""

    def zone(self, day: date) -> tzinfo | None:
        """The zone named, where it is one zone and its name holds on that day; else None."""
        name = self.zone_name.strip()
        if not name or self.at is None:
            return None
        offset = _OFFSET.fullmatch(name)
        if offset is not None:
            return _of_offset(offset)
        if name.upper() == "Z":
            return UTC
        try:
            zone = ZoneInfo(ZONES.get(name.upper(), name))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return None
        if name.upper() in ZONES and name.upper() not in ALL_YEAR:
            holds = datetime.combine(day, self.at, tzinfo=zone).tzname() == name.upper()
            return zone if holds else None
        return zone


def find_times(text: str) -> list[FoundTime]:
    """The times of day in a text, in order: `9:30`, `14:00 CET`, `9am`, `noon`, `14h30`, `9 Uhr 30`.

    A bare `at 9` is none: it may be morning or evening. A span (`9:30-10:30`) is found with a problem.
    """
    return [_read(match, text) for match in _TIME.finditer(text)]


def settled(wall: datetime, zone: tzinfo) -> tuple[datetime | None, str]:
    """A wall-clock time in a zone; None and why, where the clocks there skip it or show it twice (PEP 495)."""
    first, second = wall.replace(tzinfo=zone, fold=0), wall.replace(tzinfo=zone, fold=1)
    if first.utcoffset() != second.utcoffset():
        exists = first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall
        shown = f"{wall:%H:%M} on {wall.day} {wall:%B}"
        return None, (
            f"the clocks show {shown} twice" if exists else f"there is no {shown}: the clocks are put forward over it"
        )
    offset = first.utcoffset()
    if offset is None or offset % timedelta(minutes=1):
        return None, "the zone's offset cannot be written down"
    return first, ""


_OFFSET = re.compile(r"(?:UTC|GMT)?\s?(?P<sign>[+-])(?P<hours>[0-9]{1,2})(?::?(?P<minutes>[0-9]{2}))?", re.IGNORECASE)
_ZONE = (
    r"(?:\s*(?P<zone>(?:UTC|GMT)\s?[+-][0-9]{1,2}(?::?[0-9]{2})?(?![0-9])|[+-][0-9]{2}:?[0-9]{2}(?![0-9])|Z(?!\w)"
    rf"|(?-i:(?:{either([*ZONES, *AMBIGUOUS_ZONES])})(?!\w))"
    r"|(?-i:(?:Africa|America|Asia|Atlantic|Australia|Europe|Indian|Pacific)/[A-Z][A-Za-z_]+(?:/[A-Z][A-Za-z_]+)?)))?"
)
_TIME = re.compile(
    r"(?:(?<![\w:.,/€$£+-])|(?<=[0-9]T))(?:"
    # 9:30, 9:30:00, 9:30 pm, 2:15 p.m.
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.[0-9]{1,9})?)?(?:\s?(?P<half>[ap])\.?m\b\.?)?"
    r"|(?P<hour12>[0-9]{1,2})\s?(?P<half12>[ap])\.?m\b\.?"
    r"|(?P<hour_h>[0-9]{1,2})\s?(?:h|Uhr)\s?(?P<minute_h>[0-9]{2})?(?![\w])"
    r"|(?P<noon>noon|midday|midi|mediodía)\b"
    r")(?=Z\b|(?![\w:]))" + _ZONE + r"(?P<span>\s?(?:-|–|—|to\b|bis\b)\s?[0-9]{1,2}(?::[0-9]{2}|\s?[ap]m))?",
    re.IGNORECASE,
)


def _read(match: re.Match[str], text: str) -> FoundTime:
    start, end = match.span()
    zone_name = match["zone"] or ""
    # "9:30-10:30" is a span; a negative offset is written so only in RFC 3339, after its T.
    offset_or_span = zone_name.startswith("-") and text[max(0, start - 1) : start] != "T"
    if offset_or_span or match["span"] or re.search(r"[0-9]\s?[-–—]\s?$", text[max(0, start - 4) : start]):
        return FoundTime(start, end, None, zone_name, "it is a span of time")
    half = (match["half"] or match["half12"] or "").lower()
    if match["noon"]:
        hour, minute, second = 12, 0, 0
    else:
        hour = int(match["hour"] or match["hour12"] or match["hour_h"])
        minute, second = int(match["minute"] or match["minute_h"] or 0), int(match["second"] or 0)
    if half:
        if not 1 <= hour <= 12:
            return FoundTime(start, end, None, zone_name, f"there is no such time as “{match.group().strip()}”")
        hour = hour % 12 + (12 if half == "p" else 0)
    if hour > 23 or minute > 59 or second > 59:
        return FoundTime(start, end, None, zone_name, f"there is no such time as “{match.group().strip()}”")
    if zone_name.upper() in AMBIGUOUS_ZONES:
        return FoundTime(start, end, None, zone_name, f"“{zone_name}” is the name of more than one time zone")
    return FoundTime(start, end, time(hour, minute, second), zone_name)


def _of_offset(offset: re.Match[str]) -> tzinfo | None:
    shift = timedelta(hours=int(offset["hours"]), minutes=int(offset["minutes"] or 0))
    if shift > timedelta(hours=14):
        return None
    return timezone(shift if offset["sign"] == "+" else -shift)
