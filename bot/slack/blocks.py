"""Replies and cards as Block Kit: everything a person wrote or a model produced is shown as data, and shown in full.

Rich text and plain text only: neither reads `*`, `_`, `<!channel>`, `@here` or a bare address as anything but
characters. What is too long is continued in the next element, block or message; nothing is cut off.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

from bot.slack.buttons import MODAL_TITLE_LENGTH, button_blocks
from bot.slack.elements import ELEMENT_LENGTH, Json, context, grouped, plain, rich, runs, sections, styled
from bot.slack.text import escape, visible
from handlers.card import Bullets, Card, Facts, Heading, Link, Mention, Part, Quote, Text, TextStyle, Tone, Verbatim
from handlers.reply import Reply

MOST_BLOCKS = 50
"""A message takes no more (docs.slack.dev, "Blocks")."""
MOST_CHARACTERS = 12_000
"""Of all blocks of a message as JSON; Slack was seen to refuse from about 13,200."""
MOST_MODAL_BLOCKS = 100
MOST_MODAL_CHARACTERS = 100_000
"""Of a modal's blocks as JSON; a view may have 250 KB."""
HEADER_LENGTH = 150
URL_LENGTH = 3_000

GENERATED = "Written by AI. Check it before you rely on it."

_TONE_SIGNS = {Tone.WAITING: "⏳ ", Tone.GOOD: "✅ ", Tone.WARNING: "⚠️ ", Tone.DANGER: "⛔ ", Tone.NEUTRAL: ""}
_USER_ID = re.compile(r"[UW][A-Z0-9]{2,}")


@dataclass(frozen=True, slots=True)
class SlackMessage:
    """The arguments of one `chat.postMessage`."""

    text: str
    """Plain words for notifications and screen readers, escaped."""
    blocks: tuple[Json, ...]
    has_buttons: bool = False


def render(reply: Reply) -> list[SlackMessage]:
    """A reply as one message, or as several where Slack's limits ask for it; buttons are in the last one."""
    blocks = list(_parts(reply.parts))
    if reply.card is not None:
        blocks += _card(reply.card)
    if reply.generated:
        blocks += context(GENERATED)
    notes, buttons = button_blocks(reply.card.buttons) if reply.card is not None else ([], [])
    fallback = _fallback(reply)
    pieces = _pieces(blocks + notes, buttons)
    messages = []
    for index, piece in enumerate(pieces):
        text = fallback if index == 0 else _plain_text(piece)
        last = index == len(pieces) - 1
        messages.append(SlackMessage(text or " ", tuple(piece), has_buttons=last and bool(buttons)))
    return messages


def modal(card: Card, *, private_metadata: str) -> Json | None:
    """A card as a modal view; None when it is too long for one."""
    notes, buttons = button_blocks(card.buttons)
    blocks = [*_card(card), *notes, *buttons]
    if not blocks or len(blocks) > MOST_MODAL_BLOCKS or len(_json(blocks)) > MOST_MODAL_CHARACTERS:
        return None
    title = escape(visible(card.title))
    return {
        "type": "modal",
        "callback_id": "details",
        "title": plain(title if 0 < len(title) <= MODAL_TITLE_LENGTH else "Details"),
        "close": plain("Close"),
        "private_metadata": private_metadata,
        "blocks": blocks,
    }


def link_is_safe(url: str) -> bool:
    """Whether a link may be shown as one: https, or http to this machine; no user name, nothing invisible."""
    if len(url) > URL_LENGTH or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return False
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        return False
    if not host or parts.username is not None or parts.password is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _card(card: Card) -> list[Json]:
    return [*_title(_TONE_SIGNS[card.tone], card.title), *_parts(card.parts)]


def _title(sign: str, title: str) -> list[Json]:
    shown = escape(visible(title))
    if not shown.strip():
        return []
    if "\n" not in shown and len(sign) + len(shown) <= HEADER_LENGTH:
        return [{"type": "header", "text": plain(sign + shown)}]
    return sections(runs(sign + title, bold=True))


def _parts(parts: Sequence[Part]) -> Iterator[Json]:
    """Blocks of the parts; a mention and what directly follows it stand on one line."""
    inline: list[Json] = []
    for part in parts:
        if isinstance(part, Mention):
            if inline:
                inline.append(styled(" "))
            inline += _mention(part)
            continue
        if isinstance(part, Text) and part.style is TextStyle.NORMAL and inline:
            yield from sections([*inline, *runs(" " + part.text)])
            inline = []
            continue
        if inline:
            yield from sections(inline)
            inline = []
        yield from _part(part)
    if inline:
        yield from sections(inline)


def _part(part: Part) -> list[Json]:
    match part:
        case Text(text, TextStyle.SUBTLE):
            return context(text)
        case Text(text, style):
            return sections(runs(text, bold=style is TextStyle.STRONG))
        case Heading(text):
            return _title("", text)
        case Facts(items):
            return _facts(items)
        case Bullets(items):
            points = [_point(run) for item in items for run in runs(item)]
            return [rich("rich_text_list", group, style="bullet") for group in grouped(points)]
        case Quote(text, source):
            intro = sections(runs(f"{source}:", italic=True)) if source else []
            return intro + [rich("rich_text_quote", [run]) for run in runs(text)]
        case Verbatim(text):
            return [rich("rich_text_preformatted", [run]) for run in runs(text)]
        case Link():
            return sections(_link(part))
        case Mention():
            return sections(_mention(part))


def _facts(items: Sequence[tuple[str, str]]) -> list[Json]:
    elements: list[Json] = []
    for label, value in items:
        if elements:
            elements.append(styled("\n"))
        elements += [*runs(f"{label}: ", bold=True), *runs(value)]
    return sections(elements)


def _point(run: Json) -> Json:
    return {"type": "rich_text_section", "elements": [run]}


def _link(link: Link) -> list[Json]:
    if not link_is_safe(link.url):
        return runs(f"{link.label} ({link.url})")
    label = escape(visible(link.label))
    if not label.strip():
        return [{"type": "link", "url": link.url}]
    if len(label) > ELEMENT_LENGTH:
        return [*runs(link.label + " "), {"type": "link", "url": link.url}]
    return [{"type": "link", "url": link.url, "text": label}]


def _mention(mention: Mention) -> list[Json]:
    if _USER_ID.fullmatch(mention.user):
        return [{"type": "user", "user_id": mention.user}]
    return runs(f"@{mention.name}")


def _pieces(blocks: list[Json], buttons: list[Json]) -> list[list[Json]]:
    """Blocks dealt out to messages; the buttons stay together, in the last one."""
    pieces: list[list[Json]] = [[]]
    size = 0
    for group in [*([block] for block in blocks), *([buttons] if buttons else [])]:
        weight = len(_json(group))
        if pieces[-1] and (size + weight > MOST_CHARACTERS or len(pieces[-1]) + len(group) > MOST_BLOCKS):
            pieces.append([])
            size = 0
        pieces[-1] += group
        size += weight
    return pieces


def _json(blocks: Sequence[Json]) -> str:
    return orjson.dumps(blocks).decode()


def _fallback(reply: Reply) -> str:
    words = [_words(part) for part in reply.parts]
    if reply.card is not None:
        words.append(escape(visible(reply.card.summary or reply.card.title)))
    return "\n".join(filter(None, words))


def _words(part: Part) -> str:
    match part:
        case Text(text) | Heading(text) | Verbatim(text) | Quote(text):
            return escape(visible(text))
        case Facts(items):
            return "\n".join(escape(visible(f"{label}: {value}")) for label, value in items)
        case Bullets(items):
            return "\n".join(escape(visible(f"• {item}")) for item in items)
        case Link(label, url):
            return escape(visible(f"{label} ({url})"))
        case Mention(user, name):
            return f"<@{user}>" if _USER_ID.fullmatch(user) else escape(visible(f"@{name}"))


def _plain_text(blocks: Sequence[Json]) -> str:
    """What the blocks say, for the fallback of a continued message."""
    found: list[str] = []

    def collect(value: object) -> None:
        if isinstance(value, dict):
            text = value.get("text")
            if isinstance(text, str):
                found.append(text)
            for inner in value.values():
                collect(inner)
        elif isinstance(value, list):
            for inner in value:
                collect(inner)

    collect(list(blocks))
    return "\n".join(found)
