"""Cards drawn as Adaptive Cards 1.5, the newest version that Teams shows everywhere.

Invariant: every `str` of a card appears in full and only as data. Text stands in text runs, which know no Markdown;
links and mentions come from `Link` and `Mention` alone; a button carries its nonce and nothing else.
Schema: https://adaptivecards.io/explorer/ (version 1.5). Size limit: Teams' page on bot messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson

from bot.teams.escaping import visible
from bot.teams.links import linkable
from handlers.card import (
    Bullets,
    Button,
    ButtonStyle,
    Card,
    Facts,
    Heading,
    Link,
    Mention,
    Part,
    Quote,
    Text,
    TextStyle,
    Tone,
    Verbatim,
)
from handlers.surface import SurfaceUnavailable

CONTENT_TYPE = "application/vnd.microsoft.card.adaptive"
NONCE = "nonce"
"""The one control key in a button's data; no input may have this name."""
MAX_BYTES = 80_000

_TONES = {
    Tone.NEUTRAL: "emphasis",
    Tone.WAITING: "accent",
    Tone.GOOD: "good",
    Tone.WARNING: "warning",
    Tone.DANGER: "attention",
}
_BUTTON_STYLES = {
    ButtonStyle.DEFAULT: "default",
    ButtonStyle.PRIMARY: "positive",
    ButtonStyle.DANGER: "destructive",
}

Json = dict[str, Any]
Account = Callable[[str], str]
"""The Teams account id of a person we know by their directory id."""


class ReplyTooLarge(SurfaceUnavailable):
    """What was to be shown exceeds what one Teams message holds; it is refused whole, never cut short."""


def adaptive_card(card: Card, *, account: Account = str) -> Json:
    """The card as JSON; raises ReplyTooLarge."""
    mentions: list[Json] = []
    body: list[Json] = [
        {
            "type": "Container",
            "style": _TONES[card.tone],
            "bleed": True,
            "items": _lines(card.title, size="Medium", weight="Bolder"),
        }
    ]
    for part in card.parts:
        body.extend(_part(part, account, mentions))
    rendered: Json = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.5",
        "body": body,
        "fallbackText": "This card needs a newer version of Teams.",
        "speak": _spoken(card.summary or card.title),
        "msteams": {"width": "Full", **({"entities": mentions} if mentions else {})},
    }
    if card.buttons:
        rendered["actions"] = [_button(button) for button in card.buttons]
    size = len(orjson.dumps(rendered))
    if size > MAX_BYTES:
        raise ReplyTooLarge(f"the card has {size} bytes and Teams takes {MAX_BYTES}")
    return rendered


def _part(part: Part, account: Account, mentions: list[Json]) -> Iterable[Json]:
    match part:
        case Text(text, style):
            return _lines(text, **_text_style(style))
        case Heading(text):
            return _first_spaced(_lines(text, weight="Bolder"))
        case Facts(items):
            return [_fact(label, value) for label, value in items]
        case Bullets(items):
            return [block for item in items for block in _lines(item, lead="• ")]
        case Quote(text, source):
            quoted = _lines(text, italic=True)
            if source:
                quoted += _lines(f"— {source}", isSubtle=True, size="Small")
            return [{"type": "Container", "style": "emphasis", "items": quoted}]
        case Verbatim(text):
            return [{"type": "Container", "style": "emphasis", "items": _lines(text, fontType="Monospace")}]
        case Link(label, url):
            return [_link(label, url)]
        case Mention(user, name):
            return [_mention(user, name, account, mentions)]


def _lines(text: str, *, lead: str = "", **run: Any) -> list[Json]:
    """One block for each line, because a text run has no line breaks."""
    blocks: list[Json] = []
    for number, line in enumerate(visible(text).split("\n")):
        shown = (lead if number == 0 else "") + _spaced(line)
        block: Json = {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": shown or "\u00a0", **run}]}
        if number:
            block["spacing"] = "None"
        blocks.append(block)
    return blocks


def _spaced(line: str) -> str:
    """Spaces that a renderer would collapse are kept by making them unbreakable."""
    kept = line.replace("\t", "    ").replace("  ", "\u00a0\u00a0").replace("\u00a0 ", "\u00a0\u00a0")
    return "\u00a0" + kept[1:] if kept.startswith(" ") else kept


def _first_spaced(blocks: list[Json]) -> list[Json]:
    blocks[0]["spacing"] = "Medium"
    return blocks


def _text_style(style: TextStyle) -> Json:
    match style:
        case TextStyle.NORMAL:
            return {}
        case TextStyle.STRONG:
            return {"weight": "Bolder"}
        case TextStyle.SUBTLE:
            return {"isSubtle": True, "size": "Small"}


def _fact(label: str, value: str) -> Json:
    """A row of two columns: the schema's own FactSet reads its values as Markdown."""
    return {
        "type": "ColumnSet",
        "spacing": "Small",
        "columns": [
            {"type": "Column", "width": 1, "items": _lines(label, weight="Bolder")},
            {"type": "Column", "width": 3, "items": _lines(value)},
        ],
    }


def _link(label: str, url: str) -> Json:
    if not linkable(url):
        return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": _one_line(f"{label}: {url}")}]}
    run = {
        "type": "TextRun",
        "text": _one_line(label or url),
        "underline": True,
        "color": "Accent",
        "selectAction": {"type": "Action.OpenUrl", "url": url},
    }
    return {"type": "RichTextBlock", "inlines": [run]}


def _mention(user: str, name: str, account: Account, mentions: list[Json]) -> Json:
    """The one text block: Teams resolves mentions in no other element. Its text holds a plain name and nothing else."""
    token = f"<at>{plain_name(name)}</at>"
    mentions.append({"type": "mention", "text": token, "mentioned": {"id": account(user), "name": plain_name(name)}})
    return {"type": "TextBlock", "text": token, "wrap": True}


def plain_name(name: str) -> str:
    """A display name reduced to letters, digits, spaces, dots, apostrophes and hyphens, none of which can be markup."""
    kept = "".join(character if character.isalnum() or character in " .'-" else " " for character in visible(name))
    return " ".join(kept.split()) or "someone"


def _button(button: Button) -> Json:
    execute: Json = {
        "type": "Action.Execute",
        "title": _one_line(button.label),
        "verb": button.verb,
        "data": {NONCE: button.nonce},
        "style": _BUTTON_STYLES[button.style],
        # A required input elsewhere on the card must not block this button.
        "associatedInputs": "none",
    }
    if button.ask is None and button.confirm is None:
        return execute
    body: list[Json] = []
    if button.confirm is not None:
        body += _lines(button.confirm.title, weight="Bolder") + _lines(button.confirm.text)
        execute["title"] = _one_line(button.confirm.yes)
    if button.ask is not None:
        if button.ask.name == NONCE:
            raise ValueError(f"an input may not be called {NONCE!r}: its value would replace the button's own")
        body += _lines(button.ask.label)
        field: Json = {"type": "Input.Text", "id": button.ask.name, "isMultiline": True}
        if button.ask.placeholder:
            field["placeholder"] = _one_line(button.ask.placeholder)
        if button.ask.required:
            field |= {"isRequired": True, "errorMessage": "Please fill this in."}
        body.append(field)
        execute["associatedInputs"] = "auto"
    return {
        "type": "Action.ShowCard",
        "title": _one_line(button.label),
        "style": _BUTTON_STYLES[button.style],
        "card": {"type": "AdaptiveCard", "body": body, "actions": [execute]},
    }


def _one_line(text: str) -> str:
    return " ".join(visible(text).split("\n"))


def _spoken(text: str) -> str:
    """`speak` is SSML, so the text is escaped as XML."""
    return _one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
