"""Tells what kind of statement a sentence of a thread is: a decision, a question, a task that somebody has, a day that
is named. Word patterns, English first, with the plain German, French and Spanish forms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from inference.date_words import DOUBTFUL_MONTHS, MONTHS, either
from inference.dates import find_dates

CLEARLY_DECIDED = re.compile(
    r"^decision\b|\b(we|we've|we have|they|team|i) (just |all |finally |now )?(decided|agreed)\b"
    r"|\b(it'?s|is|was) (now )?(decided|agreed|settled)\b|\blet'?s (go|stick) with\b"
    r"|^(?:\W*(?:ok|okay|great|good|fine|right|alright|so|then)\W+)*agreed\b"
    r"|^(?:\W*(?:ok|okay|great|good|fine|right|alright)\W+)*(?:then|so) we "
    r"(?!should|could|can|need|might|may|have|had|are|were|did|do\b|would|must)\w+\b(?!.*\?)"
    r"|\b(we('re| are)|i'?m) going with\b"
    r"|\bwe('ll| will| are going to| shall) (go|stick) with\b|\bsettled on\b|\bis approved\b|^approved\b"
    r"|\bfinal (decision|call|answer)\b"
    r"|\b(wir haben|ist|wurde|haben uns)\b.{0,40}\b(beschlossen|entschieden|vereinbart|geeinigt)\b|^abgemacht\b"
    r"|\b(on a|nous avons|il est|c'est) (donc )?(décidé|convenu)\b"
    r"|\b(hemos|se ha|queda) (decidido|acordado)\b",
    re.IGNORECASE,
)
PERHAPS_DECIDED = re.compile(r"\b(we'll|we will|we are going to|we won't|let's|so be it)\b", re.IGNORECASE)
UNDECIDED = re.compile(
    r"\b(not|never|haven't|hasn't|nothing|before|until|if|whether|once|unless|should|could|would|might|maybe|perhaps"
    r"|nicht|noch|pas|aún|todavía)\b"
    r".{0,40}\b(decid|agree|settle|approved|go with|going with|beschlossen|entschieden|décidé)",
    re.IGNORECASE,
)

ASKS = re.compile(
    r"\?\W*$|^(does|do|did|can|could|who|what|when|where|why|how|is|are|should|shall|will|would) .*\?"
    r"|\b(does anyone know|anybody know|open question|still (unclear|open)"
    r"|not sure (if|whether|who|what|how|when|which)|need to (find out|figure out|clarify)"
    r"|(remains|is) to be (seen|decided))\b",
    re.IGNORECASE,
)
SHORT_ANSWER = re.compile(
    r"^\W*(yes|yep|yeah|no|nope|sure|ok|okay|done|correct|right|exactly|will do|on it|both|neither|me|not me|ja|nein"
    r"|oui|non|sí)\b(?!\s+idea)|^\W*i('ll| will| can)\b",
    re.IGNORECASE,
)
NO_ANSWER = re.compile(
    r"\b(no idea|don't know|do not know|not sure|good question|good point|let me (check|ask|look)"
    r"|(will|'ll) (check|ask)|find out|have to ask|tbd|unclear|we'll see|keine ahnung|weiß nicht"
    r"|aucune idée|ni idea)\b",
    re.IGNORECASE,
)
"""What people say to a question without answering it."""

ASKS_HOW_MUCH = re.compile(
    r"\b(how (much|many|long|often|far|old|big)|when|what (time|day|date)|which (day|version))\b", re.I
)
HAS_QUANTITY = re.compile(
    r"[0-9]|\b(one|two|three|four|five|six|seven|eight|nine|ten|dozen|hundred|half|hours?|minutes?|percent)\b",
    re.IGNORECASE,
)
REFERS_BACK = re.compile(
    r"^\W*(about|roughly|around|probably|because|only|usually|(that|it) (is|was|would|has)"
    r"|we (tested|tried|did|had|already|can't|cannot))\b",
    re.IGNORECASE,
)
"""How an answer begins that says neither yes nor no."""

_TAKES_ON = re.compile(
    r"\b(?:i'll|i will|i can|i'm going to|i am going to|i shall|let me|ich werde|je vais|voy a)\s+"
    r"(?:also\s+|then\s+|just\s+|quickly\s+|gladly\s+|happily\s+)?(?P<verb>\w+)",
    re.IGNORECASE,
)
_IS_ON_IT = re.compile(r"\b(?:i'm|i am) on it\b|\bleave (?:it|that) to me\b|\bi've got this\b|^on it\b", re.IGNORECASE)
_NO_WORK_LISTED = (
    "be see think guess imagine understand confirm hear remember feel believe live agree have know need want hope wait "
    "admit miss try love tell never not only relate second assume stay sleep leave"
)
_NO_WORK = frozenset(_NO_WORK_LISTED.split())
"""Verbs after "I will" or "I can" that promise no work."""
_PLEASE = re.compile(
    r"^(?:\W*(?:and|so|then|ok|okay|great)\W+)?please\s+(?!note|see|find|excuse|forgive|keep\s+in)[a-z]+\s+\w+",
    re.IGNORECASE,
)
_OWNED = (
    r"(?:,?\s+(?:can|could|would|will)\s+you\s+(?:please\s+)?\w+|[,:]?\s+please\s+\w+"
    r"|\s+(?:will|is\s+going\s+to|has\s+to|needs\s+to|takes?\s+(?:care|over|on)|to)\s+(?!be\b)\w+)"
)
_DOES = r"\s+[^\W\d_A-Z]\w*[st]\s+\w+"
"""A verb in the third person: "builds the", "kümmert sich"."""

_MONTHS = frozenset(MONTHS) - DOUBTFUL_MONTHS | {"may", "march", "mai", "mars"}
_VAGUE_DAY = re.compile(
    r"\b(?:(?:by|at|until|till|before)\s+(?:the\s+)?end\s+of|by|until|before|ab|bis|vor)"
    r"\s+(?:the\s+|this\s+|next\s+|de[rs]\s+)?(?:week|quarter|month|year|woche|monats|jahres)\b"
    r"|\bnext\s+(?:week|month|quarter|year)\b|\bq[1-4]\b(?!\w)|\bnächste\s+woche\b|\bla\s+semaine\s+prochaine\b"
    r"|\b(?:ende|anfang|mitte|fin|early|late|mid|end\s+of|in|by|until|since|from|im|bis|en)[\s-]+"
    rf"(?P<month>{either(_MONTHS)})\b",
    re.IGNORECASE,
)
_HOUR = re.compile(
    r"\b(?:midnight|noon|midday|morning|evening|yesterday|last\s+(?:night|week|month|year)|[0-9]{1,2}:[0-9]{2})\b",
    re.IGNORECASE,
)
_NO_DAY = frozenset({"today", "tonight", "heute", "aujourd'hui", "hoy"})


def names_a_day(text: str, at: datetime) -> bool:
    """Whether a sentence said at a moment names a day or a time that may matter later; "today" alone does not."""
    for found in find_dates(text, at):
        counts = found.day is not None or "no such" not in found.problem
        if counts and (found.at is not None or found.text.lower() not in _NO_DAY):
            return True
    # "In May" is a month, "by may" is a slip.
    return any(match["month"] is None or match["month"][0].isupper() for match in _VAGUE_DAY.finditer(text))


def says_when(text: str, at: datetime) -> bool:
    """Whether a sentence may answer "when": a day, or a time past or to come."""
    return names_a_day(text, at) or _HOUR.search(text) is not None


def gives_a_task(text: str, names: Iterable[str], at: datetime) -> bool:
    """Whether somebody takes something on ("I'll send it") or is asked to ("Jonas, please sign the contract"); `names`
    are the first names of those in the thread."""
    if _IS_ON_IT.search(text) or _PLEASE.search(text):
        return True
    taken = _TAKES_ON.search(text)
    if taken is not None and taken["verb"].lower() not in _NO_WORK and not text.rstrip().endswith("?"):
        return True
    known = "|".join(sorted((re.escape(name) for name in names if name), key=len, reverse=True))
    whom = rf"(?:<@\w+>|@?(?:{known})(?!\w)|@\w+)" if known else r"(?:<@\w+>|@\w+)"
    if re.search(rf"(?:^|[.,;:]\s+|\band\s+){whom}{_OWNED}", text):
        return True
    return re.match(rf"{whom}{_DOES}", text) is not None and names_a_day(text, at)
