"""Reading one environment variable: every value that cannot work is `SettingsError`, one line that says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlsplit


class SettingsError(Exception):
    """A variable has a value that cannot work."""


_PATHS = frozenset({"sqlite", "unix"})


def checked_url(variable: str, value: str, schemes: tuple[str, ...], example: str) -> str:
    """Return the value when it is a URL of one of the schemes; otherwise say what to write instead."""
    try:
        parts = urlsplit(value)
        # A database in a file and a socket have a path; whatever else there is has a host, PostgreSQL's socket folder
        # among the parameters.
        good = parts.scheme in schemes and bool(
            parts.path if parts.scheme in _PATHS else parts.hostname or "host=" in parts.query
        )
        good = good and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise SettingsError(
            f"{variable} is {without_secrets(value)!r}, which is no {' or '.join(schemes)} URL; set it like {example}"
        )
    return value


def without_secrets(url: str) -> str:
    """The URL as it may be shown: without its password and its query, which may hold one too."""
    before, at, after = url.partition("?")[0].rpartition("@")
    if not at:
        return after
    scheme, slashes, user = before.rpartition("://")
    return f"{scheme}{slashes}{user.partition(':')[0]}:***@{after}"


def seconds(environment: Mapping[str, str], variable: str, default: float) -> timedelta:
    """A duration above 0 and up to ten minutes."""
    value = environment.get(variable) or str(default)
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number <= 600:
        raise SettingsError(f"{variable} is {value!r}; set a number of seconds up to 600")
    return timedelta(seconds=number)


def whole_number(environment: Mapping[str, str], variable: str, default: int, *, least: int = 1) -> int:
    """A whole number from `least` up to a thousand million."""
    value = environment.get(variable) or str(default)
    number = int(value) if value.isascii() and value.isdecimal() and len(value) <= 10 else -1
    if not least <= number <= 10**9:
        raise SettingsError(f"{variable} is {value!r}; set a whole number, {least} or more")
    return number


def one_of(environment: Mapping[str, str], variable: str, choices: tuple[str, ...], default: str) -> str:
    """One of a few words."""
    value = environment.get(variable) or default
    if value not in choices:
        raise SettingsError(f"{variable} is {value!r}; set it to {' or '.join(choices)}")
    return value
