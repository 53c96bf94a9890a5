"""Finds dates and times of day in a person's words, each with the piece of text it was read from.

Nothing is guessed: what can mean two days ("3/4", "Friday" said on a Friday), what does not exist (31 April, an hour
that the clocks skip) and what the clocks show twice is found with a problem instead of a day. Two readings are settled
by rule: "next Friday" is the Friday of the next calendar week (weeks begin on Monday, ISO 8601), and a day without a
year is the next one to come.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, tzinfo

from inference.calendar_days import day_of, exists, in_range, last_day_of, months_on, spelled
from inference.clock_times import FoundTime, find_times, settled
from inference.date_words import (
    DOUBTFUL_MONTHS,
    MONTHS,
    NUMBERS,
    RELATIVE_DAYS,
    SHORT_WEEKDAYS,
    UNITS,
    WEEKDAYS,
    either,
)

LONGEST_TEXT = 4000
"""Characters of a text that are searched; a request is shorter."""

JUST_PASSED = timedelta(days=31)
"""How long after a day its date without a year may still mean this year's."""


@dataclass(frozen=True, slots=True)
class FoundDate:
    """One date in a text."""

    start: int
    end: int
    """Where it stands: `text[start:end]`."""
    text: str
    """The words it was read from, as typed."""
    day: date | None = None
    """None where it cannot be told; `problem` then says why."""
    at: datetime | None = None
    """The moment, aware, where a time of day stands with it and that time exists once."""
    problem: str = ""
    """Why there is no day, or no moment where a time of day was said; a sentence for people."""


@dataclass(frozen=True, slots=True)
class _Day:
    """What a pattern read."""

    day: date | None
    problem: str = ""
    at: datetime | None = None


_MONTH = rf"(?P<month>{either(MONTHS)})\.?(?!\w)"
_WEEKDAY = either([*WEEKDAYS, *SHORT_WEEKDAYS])
_DAY = r"(?P<day>[0-9]{1,2})"
_YEAR = r"(?:,?\s+(?:de\s+|del\s+)?(?P<year>(?:19|20|21)[0-9]{2})(?![0-9]|[.,][0-9]))?"
_NUMBER = rf"(?P<count>[0-9]{{1,4}}|{either(NUMBERS)})"
_UNIT = rf"(?P<unit>{either(UNITS)})(?!\w)"
_BEFORE_WEEKDAY = rf"(?:(?P<weekday>{_WEEKDAY})\.?,?\s+(?:(?:the|den|dem|der|le|el)\s+)?)?"
_BEGIN = r"(?<![\w/.:$€£#@-])"
_END = r"(?![\w/])(?!\.\w)(?!['’]s\b)(?!-\w)"

_LEADING = re.compile(
    r"(?:^|[\s(,;:])(?P<cue>on|by|until|till|due|due:|for|from|starting|this|next|at|am|bis|zum|ab|le|au|el|para\s+el|date:)"
    r"\s+(?:the\s+|den\s+|el\s+|le\s+)?$",
    re.IGNORECASE,
)
"""Words before a date that tell it from a number or a verb."""

_LOOSENING = re.compile(
    r"(?<!\w)(?:before|after|since|not|except|around|about|circa|ca\.|~|roughly|week\s+of|every|each|all|most|past|"
    r"vor|nach|seit|jeden|jede|avant|après|depuis|chaque|antes\s+del?|después\s+del?|desde|cada)"
    r"\s*(?:the\s+|dem\s+|le\s+|el\s+)?$",
    re.IGNORECASE,
)
"""Words before a date with which it is no one day any more: "after Friday", "every Monday"."""

_NAMED_DAY = re.compile(r"\b(?:good|black|cyber|ash|happy|super)\s+$", re.IGNORECASE)
_OTHER_WAY = re.compile(r"\s*(?:after\s+next|before\s+last|in\s+der\s+übernächsten)\b", re.IGNORECASE)


def find_dates(text: str, now: datetime) -> list[FoundDate]:
    """The dates in a text as somebody means them who speaks at `now` (aware, in their time zone); in order, none inside
    another. A time of day alone is today's where it is still to come."""
    text = text[:LONGEST_TEXT]
    days = _apart(list(_days(text, now)))
    times = find_times(text)
    found = []
    used: set[int] = set()
    for each in days:
        beside = next((other for other in times if other.start not in used and _beside(text, each, other)), None)
        if beside is not None:
            used.add(beside.start)
        found.append(each if beside is None else _joined(text, each, beside, now))
    taken = [(each.start, each.end) for each in found]
    for lone in times:
        if lone.start not in used and not any(lone.start < end and start < lone.end for start, end in taken):
            found.append(_today_at(text, lone, now))
    return sorted(found, key=lambda each: each.start)


def _days(text: str, now: datetime) -> Iterator[FoundDate]:
    for pattern, read in _PATTERNS:
        for match in pattern.finditer(text):
            if _NAMED_DAY.search(text[max(0, match.start() - 12) : match.start()]):
                continue
            try:
                read_as = read(match, now)
            except (ValueError, OverflowError):
                read_as = _Day(None, f"there is no such day as “{match.group().strip()}”")
            if read_as is None:
                continue
            start, end = match.span()
            before = text[max(0, start - 24) : start]
            if read_as.day is not None and (_LOOSENING.search(before) or _OTHER_WAY.match(text, end)):
                read_as = _Day(None, f"“{match.group().strip()}” does not name one day there")
            elif read_as.day is not None and re.search(r"[0-9]\s?[-–—]\s?$", before):
                read_as = _Day(None, "it is a span of days")
            yield FoundDate(start, end, match.group(), read_as.day, read_as.at, read_as.problem)


def _apart(found: list[FoundDate]) -> list[FoundDate]:
    """Of those that overlap, the longest: "Friday, 3 March" and not "Friday"."""
    kept: list[FoundDate] = []
    for each in sorted(found, key=lambda each: (each.start - each.end, each.start)):
        if all(each.end <= other.start or other.end <= each.start for other in kept):
            kept.append(each)
    return sorted(kept, key=lambda each: each.start)


def _beside(text: str, day: FoundDate, clock: FoundTime) -> bool:
    """Whether nothing but a joining word stands between a day and a time of day."""
    if day.at is not None:
        return False
    first, second = (day, clock) if day.start < clock.start else (clock, day)
    return first.end <= second.start and _JOINING.fullmatch(text[first.end : second.start]) is not None


_JOINING = re.compile(
    r"(?:\s*,)?\s*(?:(?:at|on|by|um|à|a\s+las|am|le|el|T)\s*)?|\s*T\s*"
    r"|\s+(?:morning|afternoon|evening|night)(?:\s*,)?\s+(?:at\s+)?",
    re.IGNORECASE,
)


def _joined(text: str, day: FoundDate, clock: FoundTime, now: datetime) -> FoundDate:
    start, end = min(day.start, clock.start), max(day.end, clock.end)
    joined = replace(day, start=start, end=end, text=text[start:end])
    if day.day is None:
        return joined
    if clock.problem:
        return replace(joined, problem=clock.problem)
    at, problem = _moment(day.day, clock, now.tzinfo or UTC)
    return replace(joined, at=at, problem=problem)


def _today_at(text: str, clock: FoundTime, now: datetime) -> FoundDate:
    piece = text[clock.start : clock.end]
    if clock.problem:
        return FoundDate(clock.start, clock.end, piece, problem=clock.problem)
    zone = clock.zone(now.date()) or now.tzinfo or UTC
    at, problem = _moment(now.astimezone(zone).date(), clock, now.tzinfo or UTC)
    if at is not None and at <= now:
        return FoundDate(clock.start, clock.end, piece, problem=f"“{piece}” has passed today, and no day is named")
    return FoundDate(clock.start, clock.end, piece, None if at is None else at.date(), at, problem)


def _moment(day: date, clock: FoundTime, own: tzinfo) -> tuple[datetime | None, str]:
    assert clock.at is not None
    zone = clock.zone(day)
    if clock.zone_name and zone is None:
        return None, f"“{clock.zone_name}” does not name one clock on that day"
    return settled(datetime.combine(day, clock.at), zone or own)


def _iso(match: re.Match[str], now: datetime) -> _Day:
    return _Day(day_of(int(match["year"]), int(match["m"]), int(match["d"])))


def _numeric(match: re.Match[str], now: datetime) -> _Day | None:
    """`13/4`, `4/13/2026`: read only where one of the two is no month; a pair alone may be a fraction."""
    first, second = int(match["first"]), int(match["second"])
    year = _full_year(match["year"]) if match["year"] else None
    if first > 31 or second > 31 or 0 in (first, second):
        return None
    if year is None and not _LEADING.search(match.string[max(0, match.start() - 24) : match.start()]):
        return None
    if match["separator"] == "." and year is None:
        return None
    if match["separator"] == "." or first > 12 or first == second:
        day, month = first, second
    elif second > 12:
        day, month = second, first
    else:
        read_as = [_coming(now.date(), month, day, year) for day, month in ((first, second), (second, first))]
        names = " or ".join(f"{each.day.day} {calendar.month_name[each.day.month]}" for each in read_as if each.day)
        return _Day(None, f"“{match.group()}” may be {names}")
    return _coming(now.date(), month, day, year)


def _named_month(match: re.Match[str], now: datetime) -> _Day | None:
    word = match["month"]
    groups = match.groupdict()
    # A doubtful month needs what only a date has: a capital, a word like "on", an ordinal, a year.
    before = match.string[max(0, match.start() - 24) : match.start()]
    telling = _LEADING.search(before) or groups["year"] or groups.get("weekday") or groups.get("ordinal")
    if word.lower() in DOUBTFUL_MONTHS and not telling:
        alone = not before.strip() or before.rstrip()[-1] in ",;:(-–"
        after = re.match(r"\s*(?:$|[.,;:!?)\n]|at\b|[0-9]{1,2}:)", match.string[match.end() :])
        if not (word[0].isupper() and (after or alone) and (after or groups.get("day_first"))):
            return None
    read_as = _coming(
        now.date(), MONTHS[word.lower()], int(match["day"]), int(groups["year"]) if groups["year"] else None
    )
    return _on_its_weekday(match, read_as)


def _on_its_weekday(match: re.Match[str], read_as: _Day) -> _Day:
    named = match.groupdict().get("weekday")
    if named and read_as.day is not None and read_as.day.weekday() != _weekday(named):
        return _Day(None, f"{spelled(read_as.day)} is not the weekday that “{match.group()}” says")
    return read_as


def _relative_day(match: re.Match[str], now: datetime) -> _Day | None:
    word = " ".join(match["word"].lower().split())
    before = match.string[max(0, match.start() - 12) : match.start()].lower()
    # "por la mañana", "guten Morgen": words that are only sometimes days.
    if word == "mañana" and re.search(r"\b(?:la|de la|esta)\s+$", before):
        return None
    if word == "morgen" and re.search(r"\b(?:am|guten|heute)\s+$", before):
        return None
    return _Day(now.date() + timedelta(days=RELATIVE_DAYS[word]))


def _weekday_named(match: re.Match[str], now: datetime) -> _Day | None:
    name = match["weekday"]
    groups = match.groupdict()
    which = (groups["which"] or groups["which_after"] or "").lower()
    before = match.string[max(0, match.start() - 12) : match.start()]
    if name.lower() in SHORT_WEEKDAYS and not (name[0].isupper() or which or _LEADING.search(before)):
        return None
    if name in ("Sun", "Sat", "Mon", "sun", "sat", "mon", "wed") and not (
        which or _LEADING.search(before) or re.match(r"\s*(?:$|[,;.!?]|at\b|[0-9])", match.string[match.end() :])
    ):
        return None
    today = now.date()
    ahead = (_weekday(name) - today.weekday()) % 7
    this_week = today + timedelta(days=_weekday(name) - today.weekday())
    if groups["later"]:
        return _Day(today + timedelta(days=ahead + 7)) if ahead else _on_that_day(name)
    if which in _NEXT or groups["of_week"]:
        return _Day(this_week + timedelta(days=7))
    if which in _LAST:
        return _Day(today - timedelta(days=(today.weekday() - _weekday(name)) % 7 or 7))
    if which in _COMING:
        return _Day(today + timedelta(days=ahead or 7))
    if ahead == 0:
        return _Day(today) if which == "this" else _on_that_day(name)
    return _Day(today + timedelta(days=ahead))


def _weekday_of_next_week(match: re.Match[str], now: datetime) -> _Day:
    return _Day(now.date() + timedelta(days=7 + _weekday(match["weekday"]) - now.weekday()))


def _on_that_day(name: str) -> _Day:
    return _Day(None, f"“{name}” may be today or in a week")


_NEXT = {"next", "nächsten", "nächster", "nächste", "prochain", "próximo"}
_LAST = {"last", "letzten", "letzter", "dernier", "pasado"}
_COMING = {"coming", "this coming", "kommenden", "kommender"}


def _in_some_time(match: re.Match[str], now: datetime) -> _Day | None:
    word = match["count"].lower()
    count = int(word) if word.isdecimal() else NUMBERS[word]
    if match.groupdict().get("ago"):
        count = -count
    unit = UNITS[match["unit"].lower()]
    today = now.date()
    if unit in ("minute", "hour"):
        seconds = count * (60 if unit == "minute" else 3600)
        # Hours pass evenly in UTC; on a local clock they would not on the two days a year when it is set.
        at = (now.astimezone(UTC) + timedelta(seconds=seconds)).astimezone(now.tzinfo).replace(second=0, microsecond=0)
        return _Day(at.date(), at=at)
    if unit in ("day", "week", "fortnight"):
        return _Day(in_range(today + timedelta(days=count * {"day": 1, "week": 7, "fortnight": 14}[unit])))
    months = count * (12 if unit == "year" else 1)
    return _Day(in_range(months_on(today, months)))


def _end_of(match: re.Match[str], now: datetime) -> _Day:
    today = now.date()
    groups = match.groupdict()
    if groups.get("eod"):
        return _Day(today)
    if groups.get("month"):
        month = MONTHS[groups["month"].lower()]
        year = int(groups["year"]) if groups.get("year") else today.year + (month < today.month)
        return _Day(last_day_of(year, month))
    following = bool(groups.get("following"))
    if groups["what"].lower() in ("year", "jahres", "année", "año"):
        return _Day(date(today.year + following, 12, 31))
    month_meant = months_on(today.replace(day=1), 1 if following else 0)
    return _Day(last_day_of(month_meant.year, month_meant.month))


def _day_of_month(match: re.Match[str], now: datetime) -> _Day:
    """`on the 15th`: the next one to come, or of the month that is named."""
    day, today = int(match["day"]), now.date()
    if match["of"]:
        month = months_on(today.replace(day=1), 1 if match["of"].lower() == "next" else 0)
        return _Day(day_of(month.year, month.month, day))
    if not 1 <= day <= 31:
        raise ValueError(day)
    if day == today.day:
        return _Day(None, f"“{match.group()}” may be today or in a month")
    month = today.replace(day=1) if day > today.day else months_on(today.replace(day=1), 1)
    return _Day(day_of(month.year, month.month, day))


def _coming(today: date, month: int, day: int, year: int | None) -> _Day:
    if year is not None:
        return _Day(day_of(year, month, day))
    this_year = day_of(today.year, month, day) if exists(today.year, month, day) else None
    if this_year is not None and this_year >= today:
        return _Day(this_year)
    if this_year is not None and today - this_year <= JUST_PASSED:
        return _Day(None, f"{this_year.day} {calendar.month_name[month]} has just passed, and no year is named")
    return _Day(day_of(today.year + 1, month, day))


def _full_year(digits: str) -> int:
    return int(digits) + (2000 if len(digits) == 2 else 0)


def _weekday(name: str) -> int:
    return WEEKDAYS.get(name.lower(), SHORT_WEEKDAYS.get(name.lower(), -1))


_Reader = Callable[[re.Match[str], datetime], _Day | None]


def _pattern(pattern: str, read: _Reader) -> tuple[re.Pattern[str], _Reader]:
    return re.compile(_BEGIN + pattern + _END, re.IGNORECASE), read


_PATTERNS: tuple[tuple[re.Pattern[str], _Reader], ...] = (
    (re.compile(_BEGIN + r"(?P<year>[0-9]{4})[-/](?P<m>[0-9]{2})[-/](?P<d>[0-9]{2})(?![\w/-])(?=$|\D)"), _iso),
    (re.compile(_BEGIN + r"(?P<year>[0-9]{4})-(?P<m>[0-9]{2})-(?P<d>[0-9]{2})(?=T[0-9]{2}:)"), _iso),
    _pattern(
        r"(?P<first>[0-9]{1,2})(?P<separator>[/.])(?P<second>[0-9]{1,2})(?:(?P=separator)(?P<year>[0-9]{4}|[0-9]{2}))?",
        _numeric,
    ),
    _pattern(
        _BEFORE_WEEKDAY
        + rf"(?P<day_first>{_DAY}(?P<ordinal>st|nd|rd|th|\.|er)?)(?:\s+of|\s+de)?\s*[\s-]{_MONTH}"
        + _YEAR,
        _named_month,
    ),
    _pattern(
        _BEFORE_WEEKDAY + rf"{_MONTH}\s+(?:the\s+)?{_DAY}(?P<ordinal>st|nd|rd|th)?(?![0-9:])" + _YEAR, _named_month
    ),
    _pattern(rf"(?P<word>{either(RELATIVE_DAYS)})", _relative_day),
    _pattern(
        r"(?:(?P<which>this\s+coming|next|this|last|coming|nächsten|nächster|nächste|kommenden|kommender|letzten|próximo)"
        rf"\s+)?(?P<weekday>{_WEEKDAY})(?:\s+(?P<which_after>prochain|dernier|próximo|pasado))?"
        r"(?:(?P<later>\s+week)|(?P<of_week>\s+(?:of\s+)?next\s+week))?",
        _weekday_named,
    ),
    _pattern(
        rf"next\s+week(?:\s+on)?\s+(?P<weekday>{_WEEKDAY})",
        _weekday_of_next_week,
    ),
    _pattern(rf"(?:in|dans|dentro\s+de)\s+{_NUMBER}\s+{_UNIT}(?:['’]s?\s+time)?", _in_some_time),
    _pattern(rf"{_NUMBER}\s+{_UNIT}\s+(?:from\s+(?:now|today)|(?P<ago>ago))", _in_some_time),
    _pattern(rf"(?:the\s+)?end\s+of\s+{_MONTH}" + _YEAR, _end_of),
    _pattern(
        r"(?:the\s+)?end\s+of\s+(?:(?:the|this)\s+|(?P<following>next\s+))?(?P<what>month|year)"
        r"|(?P<eod>(?:the\s+)?end\s+of\s+(?:the\s+)?(?:business\s+)?day|EOD|COB)",
        _end_of,
    ),
    _pattern(
        r"(?<=the )(?P<day>[0-9]{1,2})(?:st|nd|rd|th)"
        r"(?:\s+of\s+(?P<of>this|next)\s+month|(?=\s*(?:$|[,.;!?)\n]|at\b)))",
        _day_of_month,
    ),
)
