"""Dates in words: what is said is found, what can mean two days is refused, and no clock is trusted blindly."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.calendar_days import spelled
from inference.clock_times import settled
from inference.date_words import WEEKDAYS
from inference.dates import find_dates

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 23, 10, 0, tzinfo=BERLIN)
"""A Monday."""
ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Asia/Kolkata",
        "Australia/Lord_Howe",
        "America/St_Johns",
        "Pacific/Apia",
    ]
).map(ZoneInfo)
MOMENTS = st.builds(
    lambda at, zone: at.replace(tzinfo=UTC).astimezone(zone),
    st.datetimes(datetime(2024, 1, 1), datetime(2035, 12, 31)),
    ZONES,
)


@pytest.mark.parametrize(
    ("words", "day"),
    [
        ("tomorrow", "2026-11-24"),
        ("the day after tomorrow", "2026-11-25"),
        ("today", "2026-11-23"),
        ("on Friday", "2026-11-27"),
        ("this Friday", "2026-11-27"),
        ("coming Monday", "2026-11-30"),
        ("next Friday", "2026-12-04"),
        ("next week Friday", "2026-12-04"),
        ("Friday next week", "2026-12-04"),
        ("Friday week", "2026-12-04"),
        ("last Friday", "2026-11-20"),
        ("in two weeks", "2026-12-07"),
        ("in a month", "2026-12-23"),
        ("3 days from now", "2026-11-26"),
        ("2 days ago", "2026-11-21"),
        ("on 3 March", "2027-03-03"),
        ("March 3rd", "2027-03-03"),
        ("Wednesday, 3 March 2027", "2027-03-03"),
        ("3 March 2026", "2026-03-03"),
        ("by end of month", "2026-11-30"),
        ("end of next month", "2026-12-31"),
        ("end of March", "2027-03-31"),
        ("by the 15th", "2026-12-15"),
        ("EOD", "2026-11-23"),
        ("2026-03-09", "2026-03-09"),
        ("due 13/4", "2027-04-13"),
        ("due 4/13/2027", "2027-04-13"),
        ("due 3/3/2027", "2027-03-03"),
        ("13.04.2027", "2027-04-13"),
        ("03.04.2027", "2027-04-03"),
        ("am 3. März", "2027-03-03"),
        ("nächsten Freitag", "2026-12-04"),
        ("übermorgen", "2026-11-25"),
        ("in einer Woche", "2026-11-30"),
        ("vendredi prochain", "2026-12-04"),
        ("le 3 mars", "2027-03-03"),
        ("el 3 de marzo", "2027-03-03"),
        ("dentro de 3 días", "2026-11-26"),
    ],
)
def test_a_day_in_words_is_the_day_it_means(words: str, day: str) -> None:
    (found,) = find_dates(words, NOW)
    assert (found.day, found.problem) == (date.fromisoformat(day), "")
    assert words[found.start : found.end] == found.text


@pytest.mark.parametrize(
    ("words", "at"),
    [
        ("Friday 9:30", "2026-11-27T09:30:00+01:00"),
        ("9am tomorrow", "2026-11-24T09:00:00+01:00"),
        ("tomorrow at 2:15 pm", "2026-11-24T14:15:00+01:00"),
        ("noon tomorrow", "2026-11-24T12:00:00+01:00"),
        ("at 14:00 CET", "2026-11-23T14:00:00+01:00"),
        ("14 July 14:00 CEST", "2027-07-14T14:00:00+02:00"),
        ("Friday 23:30 PST", "2026-11-27T23:30:00-08:00"),
        ("tomorrow 14:00 UTC+2", "2026-11-24T14:00:00+02:00"),
        ("Tuesday 14:00 Europe/London", "2026-11-24T14:00:00+00:00"),
        ("2027-03-09T14:00:00Z", "2027-03-09T14:00:00+00:00"),
        ("2027-03-09T14:00:00-05:30", "2027-03-09T14:00:00-05:30"),
        ("2027-03-09 14:00", "2027-03-09T14:00:00+01:00"),
        ("in 2 hours", "2026-11-23T12:00:00+01:00"),
        ("übermorgen um 14 Uhr", "2026-11-25T14:00:00+01:00"),
        ("demain à 14h30", "2026-11-24T14:30:00+01:00"),
        ("2026-10-25 02:30 UTC", "2026-10-25T02:30:00+00:00"),
    ],
)
def test_a_time_of_day_in_words_is_the_moment_it_means(words: str, at: str) -> None:
    (found,) = find_dates(words, NOW)
    assert found.problem == ""
    assert found.at is not None
    assert found.at.isoformat() == at


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("due 3/4", "may be 3 April or 4 March"),
        ("due 3/4/2027", "may be"),
        ("on Monday", "today or in a week"),
        ("by the 23rd", "today or in a month"),
        ("31 April", "no such day"),
        ("Feb 30", "no such day"),
        ("29 February 2027", "no such day"),
        ("Friday, 3 March 2027", "not the weekday"),
        ("20 November", "just passed"),
        ("before Friday", "not name one day"),
        ("every Friday", "not name one day"),
        ("not Friday", "not name one day"),
        ("in 9999 years", "no such day"),
        ("2026-13-01", "no such day"),
    ],
)
def test_a_day_that_cannot_be_told_is_refused_with_the_reason(words: str, why: str) -> None:
    (found,) = find_dates(words, NOW)
    assert found.day is None
    assert why in found.problem


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("2027-03-28 02:30", "put forward"),
        ("2026-10-25 02:30", "twice"),
        ("tomorrow 14:00 IST", "more than one time zone"),
        ("14 July 14:00 CET", "does not name one clock"),
        ("at 9:00", "has passed today"),
        ("tomorrow 9:30-10:30", "span"),
        ("tomorrow 24:00", "no such time"),
    ],
)
def test_a_moment_that_cannot_be_told_is_refused_with_the_reason(words: str, why: str) -> None:
    (found,) = find_dates(words, NOW)
    assert found.at is None
    assert why in found.problem


@pytest.mark.parametrize(
    "words",
    [
        "3/4 of the disks",
        "floor 3, room 12",
        "3 may come",
        "the sun may march on in 40 bucks",
        "Jan 2 desks",
        "Good Friday",
        "tomorrow's meeting",
        "monday.com is down",
        "version 1.2.3 and v3.4.2026",
        "on the 3rd floor",
        "8 hours lost",
        "TCK-12",
        "ratio 16:9",
        "3-5 March",
        "we sat by the second door",
        "guten Morgen",
        "next week",
        "at 9",
        "10.0.0.1 and 192.168.1.2",
    ],
)
def test_what_only_looks_like_a_date_is_none(words: str) -> None:
    assert [each for each in find_dates(words, NOW) if each.day is not None] == []


def test_hours_pass_evenly_over_the_night_the_clocks_change() -> None:
    evening = datetime(2027, 3, 27, 23, 0, tzinfo=BERLIN)
    (found,) = find_dates("in 6 hours", evening)
    assert found.at is not None
    assert found.at - evening.astimezone(UTC) == timedelta(hours=6)
    assert found.at.isoformat() == "2027-03-28T06:00:00+02:00"


def test_the_same_words_mean_another_day_in_another_zone() -> None:
    late = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
    days = [find_dates("tomorrow", late.astimezone(ZoneInfo(zone)))[0].day for zone in ("UTC", "Asia/Tokyo")]
    assert days == [date(2026, 11, 24), date(2026, 11, 25)]


@settings(max_examples=300, deadline=None)
@given(MOMENTS, st.integers(0, 400), st.sampled_from(["iso", "day month year", "month day year", "spelled", "dotted"]))
def test_a_date_written_out_comes_back_in_every_zone(now: datetime, ahead: int, form: str) -> None:
    day = now.date() + timedelta(days=ahead)
    words = {
        "iso": day.isoformat(),
        "day month year": f"{day.day} {day:%B} {day.year}",
        "month day year": f"{day:%b} {day.day}, {day.year}",
        "spelled": spelled(day),
        "dotted": f"{day:%d.%m.%Y}",
    }[form]
    (found,) = find_dates(f"please do it by {words}, thanks", now)
    assert (found.day, found.text) == (day, words)


@settings(max_examples=300, deadline=None)
@given(MOMENTS, st.integers(1, 400), st.times().map(lambda at: at.replace(second=0, microsecond=0)))
def test_a_moment_written_out_comes_back_or_does_not_exist_once(now: datetime, ahead: int, clock: object) -> None:
    day = now.date() + timedelta(days=ahead)
    wall = datetime.combine(day, clock)  # type: ignore[arg-type]
    (found,) = find_dates(f"on {day.isoformat()} {wall:%H:%M}", now)
    assert now.tzinfo is not None
    unique = {
        candidate.astimezone(UTC)
        for candidate in (wall.replace(tzinfo=now.tzinfo, fold=fold) for fold in (0, 1))
        if candidate.astimezone(UTC).astimezone(now.tzinfo).replace(tzinfo=None) == wall
    }
    if len(unique) == 1:
        assert found.at is not None
        assert found.at.astimezone(UTC) == unique.pop()
    else:
        assert found.at is None
        assert found.problem


@settings(max_examples=200, deadline=None)
@given(MOMENTS, st.sampled_from(sorted(WEEKDAYS)), st.sampled_from(["next", "this", ""]))
def test_a_weekday_is_always_the_weekday_it_names(now: datetime, name: str, which: str) -> None:
    (found,) = find_dates(f"due {which} {name}", now)
    if found.day is None:
        assert now.weekday() == WEEKDAYS[name]
        assert not which
        return
    assert found.day.weekday() == WEEKDAYS[name]
    week = found.day.isocalendar()[:2]
    if which == "next":
        assert week == (now.date() + timedelta(days=7)).isocalendar()[:2]
    else:
        assert timedelta(0) <= found.day - now.date() <= timedelta(days=6)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), MOMENTS)
def test_two_numbers_that_may_both_be_a_month_are_never_a_day(first: int, second: int, now: datetime) -> None:
    for found in find_dates(f"due {first}/{second}", now):
        assert (found.day is None) == (first != second) or "passed" in found.problem


TYPED = (
    "tomorrow next Friday 3 31 March may 2027 / . - : , at 9:30 pm CET IST in two weeks end of month by on before or "
    "13/4 2026-03-29 02:30 T Z +02:00 the 15th today's nächsten Woche demain 99999 ago from now"
)
PIECES = st.sampled_from(TYPED.split())


@settings(max_examples=400, deadline=None)
@given(MOMENTS, st.one_of(st.lists(PIECES, max_size=12).map(" ".join), st.text(max_size=120)))
def test_whatever_is_typed_what_is_found_stands_in_the_text_once(now: datetime, words: str) -> None:
    end = 0
    for found in find_dates(words, now):
        assert found.start >= end
        assert words[found.start : found.end] == found.text
        assert (found.day is not None) or found.problem
        if found.at is not None:
            assert found.at.utcoffset() is not None
        end = found.end


def test_a_wall_time_is_settled_only_where_it_happens_once() -> None:
    assert settled(datetime(2027, 3, 28, 2, 30), BERLIN)[0] is None
    assert settled(datetime(2027, 10, 31, 2, 30), BERLIN)[0] is None
    assert settled(datetime(2027, 10, 31, 3, 30), BERLIN)[0] == datetime(2027, 10, 31, 3, 30, tzinfo=BERLIN)
