"""Finds sums of money in a person's words: integer minor units and an ISO 4217 code, with the text they were read from.

A currency is never guessed. A sign that several countries share ("$", "kr", "¥") means the requester's own currency
where their time zone is one that uses such a sign; "$" elsewhere is the US dollar; the others are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

LONGEST_TEXT = 4000
"""Characters of a text that are searched."""

MOST_MINOR = 10**15
"""Larger sums are refused: no office pays them, and past 2^53 JSON readers lose digits (RFC 8259, section 6)."""


def _codes(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_NO_MINOR = _codes("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF")
_THREE_DIGITS = _codes("BHD IQD JOD KWD LYD OMR TND")
_TWO_DIGITS = _codes(
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY "
    "COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS "
    "INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR "
    "MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD "
    "SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD YER ZAR ZMW"
)
CODES = _NO_MINOR | _THREE_DIGITS | _TWO_DIGITS
"""ISO 4217 codes of currencies in use."""

_ALSO_WORDS = _codes("ALL BOB COP CUP GEL LAK MAD MOP PEN SOS TOP TRY")
"""Codes that are words too: "TOP 10", "ALL 3". Read only beside a number with decimals."""

_SIGNS = {
    "€": "EUR",
    "£": "GBP",
    "₹": "INR",
    "₩": "KRW",
    "₺": "TRY",
    "₪": "ILS",
    "₫": "VND",
    "₴": "UAH",
    "US$": "USD",
    "A$": "AUD",
    "AU$": "AUD",
    "C$": "CAD",
    "CA$": "CAD",
    "NZ$": "NZD",
    "HK$": "HKD",
    "S$": "SGD",
    "R$": "BRL",
    "Fr.": "CHF",
    "SFr.": "CHF",
    "zł": "PLN",
    "Kč": "CZK",
}
_WORDS = {
    **dict.fromkeys(("euro", "euros"), "EUR"),
    **dict.fromkeys(("pounds sterling", "pound sterling", "british pounds"), "GBP"),
    **dict.fromkeys(("us dollars", "us dollar"), "USD"),
    **dict.fromkeys(("swiss francs", "franken"), "CHF"),
    **dict.fromkeys(("swedish kronor", "swedish crowns"), "SEK"),
    **dict.fromkeys(("norwegian kroner", "norwegian crowns"), "NOK"),
    **dict.fromkeys(("danish kroner", "danish crowns"), "DKK"),
    "yen": "JPY",
    "rupees": "INR",
    "zloty": "PLN",
    **{code.lower(): code for code in ("USD", "EUR", "GBP", "CHF", "SEK", "NOK", "DKK", "AUD", "CAD", "JPY", "PLN")},
}
_SHARED = {
    "kr": {
        "SEK": ("Europe/Stockholm",),
        "NOK": ("Europe/Oslo", "Arctic/Longyearbyen"),
        "DKK": ("Europe/Copenhagen",),
        "ISK": ("Atlantic/Reykjavik",),
    },
    "¥": {"JPY": ("Asia/Tokyo",), "CNY": ("Asia/Shanghai", "Asia/Urumqi")},
    "$": {
        "CAD": ("America/Toronto", "America/Vancouver", "America/Edmonton", "America/Winnipeg", "America/Halifax",
                "America/St_Johns", "America/Regina", "Canada/"),
        "AUD": ("Australia/",),
        "NZD": ("Pacific/Auckland",),
        "SGD": ("Asia/Singapore",),
        "HKD": ("Asia/Hong_Kong",),
    },
}  # fmt: skip
_DOLLARS_OF_THEIR_OWN = ("America/Mexico", "America/Argentina", "America/Bogota", "America/Santiago", "Asia/Taipei",
                         "America/Jamaica", "America/Barbados", "Pacific/Fiji")  # fmt: skip
_SHARED_WORDS = {
    "kr.": "kr",
    "kronor": "kr",
    "kroner": "kr",
    "crowns": "kr",
    "dollar": "$",
    "dollars": "$",
}


@dataclass(frozen=True, slots=True)
class FoundAmount:
    """One sum of money in a text."""

    start: int
    end: int
    """Where it stands: `text[start:end]`."""
    text: str
    minor_units: int | None = None
    """In the currency's smallest unit, EUR 12.50 being 1250; None where it cannot be told, `problem` then says why."""
    currency: str = ""
    """ISO 4217 code; "" where it cannot be told."""
    problem: str = ""


def find_amounts(text: str, zone: str = "") -> list[FoundAmount]:
    """The sums in a text, in order; `zone` is the requester's IANA time zone, for the signs that countries share."""
    text = text[:LONGEST_TEXT]
    return [_read(match, text, zone) for match in _AMOUNT.finditer(text) if not _is_a_word(match)]


def minor_digits(currency: str) -> int:
    """Digits after the decimal point of a currency (ISO 4217)."""
    return 0 if currency in _NO_MINOR else 3 if currency in _THREE_DIGITS else 2


def _any(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_CODE = rf"(?:{'|'.join(sorted(CODES))})"
_SIGN = rf"(?:{_any([*_SIGNS, '$', '¥'])})"
_NUMBER = r"[0-9]{1,15}(?:[., \u00a0\u202f'’][0-9]{1,15}){0,6}"
_SCALE = r"(?:\s?(?:k|thousand|million)(?![\w]))"
_AFTER = rf"(?:{_CODE}|{_SIGN}|(?i:{_any([*_WORDS, *_SHARED_WORDS, 'kr'])}))"
_AMOUNT = re.compile(
    rf"(?<![\w.,/€$£¥+–—-])(?<![0-9][ \u00a0\u202f'’])(?:"
    rf"(?P<before>{_CODE}|{_SIGN}|(?i:kr\.?|eur|usd|gbp|chf))\s?(?P<first>{_NUMBER})(?P<scale_first>{_SCALE})?"
    rf"|(?P<second>{_NUMBER})(?P<scale_second>{_SCALE})?\s?(?P<after>{_AFTER})"
    rf")(?P<span>\s?[-–—]\s?(?:{_SIGN}|{_CODE})?\s?[0-9]+)?(?![\w/])(?!\.[0-9])"
)
_LOOSE = re.compile(
    r"(?<!\w)(?:about|around|roughly|circa|ca\.?|approx\.?|approximately|up\s+to|at\s+least|at\s+most|more\s+than|"
    r"less\s+than|over|under|between|from|minus|~|[<>≈-])\s*$",
    re.IGNORECASE,
)
"""Words before a sum with which it is no one sum any more."""


def _is_a_word(match: re.Match[str]) -> bool:
    number = match["first"] or match["second"]
    return (match["before"] or match["after"]) in _ALSO_WORDS and re.search(r"[.,][0-9]{2}$", number) is None


def _read(match: re.Match[str], text: str, zone: str) -> FoundAmount:
    start, end = match.span()
    if match["span"] or re.search(r"[0-9]\s?[-–—]\s?$", text[max(0, start - 4) : start]):
        return FoundAmount(start, end, match.group(), problem="it is a span of sums")
    loose = _LOOSE.search(text[max(0, start - 24) : start])
    if loose is not None:
        return FoundAmount(start, end, match.group(), problem=f"“{loose.group().strip()}” leaves the sum open")
    currency = _currency(match["before"] or match["after"], zone)
    if not currency:
        sign = match["before"] or match["after"]
        return FoundAmount(start, end, match.group(), problem=f"“{sign}” may be more than one currency")
    scale = (match["scale_first"] or match["scale_second"] or "").strip()
    minor = _minor(match["first"] or match["second"], {"": 0, "k": 3, "thousand": 3, "million": 6}[scale], currency)
    if minor is None or minor > MOST_MINOR:
        return FoundAmount(
            start, end, match.group(), currency=currency, problem=f"“{match.group()}” may be read in two ways"
        )
    return FoundAmount(start, end, match.group(), minor, currency)


def _currency(sign: str, zone: str) -> str:
    if sign in CODES:
        return sign
    if sign in _SIGNS:
        return _SIGNS[sign]
    word = sign.lower()
    if word in _WORDS:
        return _WORDS[word]
    shared = _SHARED_WORDS.get(word, word)
    for currency, zones in _SHARED.get(shared, {}).items():
        if zone.startswith(zones):
            return currency
    return "USD" if shared == "$" and not zone.startswith(_DOLLARS_OF_THEIR_OWN) else ""


def _minor(number: str, power: int, currency: str) -> int | None:
    """A written number in minor units; None where its separators can be read in two ways or do not fit the currency.

    A comma or point before exactly three digits groups thousands, unless the currency has three decimals: then it may
    be either.
    """
    digits = minor_digits(currency)
    marks = re.findall(r"[^0-9]", number)
    parts = re.split(r"[^0-9]", number)
    decimal = ""
    if marks and marks[-1] in ".,":
        last = marks[-1]
        if len(set(marks)) > 1:
            if marks.count(last) > 1:
                return None
            decimal, parts, marks = parts[-1], parts[:-1], marks[:-1]
        elif len(marks) == 1 and len(parts[-1]) != 3:
            decimal, parts, marks = parts[-1], parts[:-1], []
        elif len(marks) == 1 and (digits == 3 or power or parts[0].startswith("0")):
            return None
    if marks and (len(set(marks)) > 1 or not 1 <= len(parts[0]) <= 3 or any(len(part) != 3 for part in parts[1:])):
        return None
    whole = "".join(parts)
    if len(whole) > 15 or len(decimal) > digits + power:
        return None
    return int(whole + decimal.ljust(digits + power, "0"))
