"""Counting days and months on the calendar, within the years an office speaks of."""

from __future__ import annotations

import calendar
from datetime import date

YEARS = range(1980, 2200)
"""Years outside are slips of the keyboard."""


def spelled(day: date) -> str:
    """`Friday 4 December 2026`, for people to check a reckoned day by."""
    return f"{calendar.day_name[day.weekday()]} {day.day} {calendar.month_name[day.month]} {day.year}"


def day_of(year: int, month: int, day: int) -> date:
    """Raises ValueError where there is no such day."""
    return in_range(date(year, month, day))


def in_range(day: date) -> date:
    """The day itself. Raises ValueError outside `YEARS`."""
    if day.year not in YEARS:
        raise ValueError(day.year)
    return day


def exists(year: int, month: int, day: int) -> bool:
    """Whether the calendar has the day."""
    return 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]


def last_day_of(year: int, month: int) -> date:
    """The last day of a month. Raises ValueError outside `YEARS`."""
    return day_of(year, month, calendar.monthrange(year, month)[1])


def months_on(day: date, months: int) -> date:
    """The same day some months on, or the last of that month where it is shorter. Raises ValueError outside `YEARS`."""
    years, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    if years not in YEARS:
        raise ValueError(years)
    return date(years, month + 1, min(day.day, calendar.monthrange(years, month + 1)[1]))
