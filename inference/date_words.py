"""The words of dates: weekdays, months, small numbers and units in English, German, French and Spanish, and the names
of time zones that mean one zone only.

A word is listed where it can be told from an ordinary word of another language; the doubtful ones ("mar", "sun",
"may") are kept apart, for the reader to ask for more than the word alone.
"""

from __future__ import annotations

from collections.abc import Iterable

WEEKDAYS = {
    name: number
    for names in (
        "monday tuesday wednesday thursday friday saturday sunday",
        "montag dienstag mittwoch donnerstag freitag samstag sonntag",
        "lundi mardi mercredi jeudi vendredi samedi dimanche",
        "lunes martes miércoles jueves viernes sábado domingo",
    )
    for number, name in enumerate(names.split())
} | {"sonnabend": 5}
"""Monday is 0."""

SHORT_WEEKDAYS = {
    name: number
    for number, names in enumerate(("mon", "tue tues", "wed", "thu thur thurs", "fri", "sat", "sun"))
    for name in names.split()
}
"""Half of them are words of their own; read only with a capital and next to what a date has."""

MONTHS = {
    name: number
    for names in (
        "january february march april may june july august september october november december",
        "januar februar märz april mai juni juli august september oktober november dezember",
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "jan feb mar apr may jun jul aug sep oct nov dec",
    )
    for number, name in enumerate(names.split(), 1)
} | {"sept": 9, "jänner": 1, "setiembre": 9}

DOUBTFUL_MONTHS = frozenset({"may", "march", "mars", "mar", "mai", "dec", "jan", "sep"})
"""Also verbs, planets and names: "3 may come", "Jan 2 desks down"."""

TODAY = {"today": 0, "heute": 0, "aujourd'hui": 0, "aujourd’hui": 0, "hoy": 0, "tonight": 0}
RELATIVE_DAYS = {
    **TODAY,
    "tomorrow": 1,
    "tmrw": 1,
    "morgen": 1,
    "demain": 1,
    "mañana": 1,
    "the day after tomorrow": 2,
    "day after tomorrow": 2,
    "übermorgen": 2,
    "après-demain": 2,
    "pasado mañana": 2,
    "yesterday": -1,
    "gestern": -1,
    "ayer": -1,
    "the day before yesterday": -2,
    "day before yesterday": -2,
    "vorgestern": -2,
    "avant-hier": -2,
    "anteayer": -2,
}
"""Days from today."""

NUMBERS = {
    word: number
    for number, words in enumerate(
        (
            "a an one einem einer ein un une una uno",
            "two zwei deux dos",
            "three drei trois tres",
            "four vier quatre cuatro",
            "five fünf cinq cinco",
            "six sechs seis",
            "seven sieben sept siete",
            "eight acht huit ocho",
            "nine neun neuf nueve",
            "ten zehn dix diez",
            "eleven",
            "twelve",
        ),
        1,
    )
    for word in words.split()
}

_UNIT_WORDS = {
    "minute": "minute minutes min mins minuten minuto minutos",
    "hour": "hour hours hr hrs stunde stunden heure heures hora horas",
    "day": "day days tag tagen tage jour jours día días",
    "week": "week weeks woche wochen semaine semaines semana semanas",
    "fortnight": "fortnight fortnights",
    "month": "month months monat monaten monate mois mes meses",
    "year": "year years jahr jahren jahre an ans année années año años",
}
UNITS = {word: unit for unit, words in _UNIT_WORDS.items() for word in words.split()}

ZONES = {
    "UTC": "UTC",
    "GMT": "UTC",
    "CET": "Europe/Berlin",
    "CEST": "Europe/Berlin",
    "EET": "Europe/Helsinki",
    "EEST": "Europe/Helsinki",
    "WET": "Europe/Lisbon",
    "WEST": "Europe/Lisbon",
    "EST": "America/New_York",
    "EDT": "America/New_York",
    "CDT": "America/Chicago",
    "MST": "America/Denver",
    "MDT": "America/Denver",
    "PST": "America/Los_Angeles",
    "PDT": "America/Los_Angeles",
    "ET": "America/New_York",
    "PT": "America/Los_Angeles",
    "JST": "Asia/Tokyo",
}
"""By abbreviation. Those of a season hold only in it: "14:00 CET" in July is refused, as half of those who write it
mean the clock on the wall."""

ALL_YEAR = frozenset({"UTC", "GMT", "ET", "PT"})
"""Abbreviations that hold in summer and winter."""

AMBIGUOUS_ZONES = frozenset({"IST", "CST", "BST", "AST", "SST", "GST", "PKT", "AMT", "ECT", "WST", "CT", "MT"})
"""Each is the name of more than one zone, or of one that this table cannot tell."""


def either(words: Iterable[str]) -> str:
    """A pattern for any of the words, the longest first."""
    return "|".join(sorted((word.replace(" ", r"\s+") for word in words), key=len, reverse=True))
