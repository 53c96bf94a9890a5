"""Replies drawn as Teams activities: message text for the parts, an Adaptive Card for the card.

Text is sent in Teams' `xml` format, where tags have a meaning and Markdown has none; all data in it is character
references (`escaping.markup`), so that only what is structured here is formatted, linked or notifies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from bot.teams.adaptive import CONTENT_TYPE, MAX_BYTES, Account, Json, ReplyTooLarge, adaptive_card, plain_name
from bot.teams.escaping import markup, visible
from bot.teams.links import linkable
from handlers.card import Bullets, Facts, Heading, Link, Mention, Part, Quote, Text, TextStyle, Verbatim
from handlers.reply import Reply

TEXT_BYTES = 24_000
"""Text of one message; more goes on in the next one."""
_PIECE_CHARACTERS = 3_000
"""A part longer than this may be divided; escaped, a piece stays under `TEXT_BYTES`."""

AI_LABEL: dict[str, Any] = {
    "type": "https://schema.org/Message",
    "@type": "Message",
    "@context": "https://schema.org",
    "@id": "",
    "additionalType": ["AIGeneratedContent"],
}
"""Shows "AI generated" beside the message (Teams' page on bot messages with AI-generated content)."""


def activities(reply: Reply, *, account: Account = str) -> list[Json]:
    """The messages a reply takes, in order; the last one carries the card. Raises ReplyTooLarge."""
    texts = list(_packed(block for part in reply.parts for block in _blocks(part, account)))
    messages = [_message(text, mentions, reply.generated) for text, mentions in texts or [("", [])]]
    if reply.card is not None:
        last = messages[-1]
        last["attachments"] = [{"contentType": CONTENT_TYPE, "content": adaptive_card(reply.card, account=account)}]
        last["summary"] = visible(reply.card.summary or reply.card.title)
        if not last["text"]:
            del last["text"], last["textFormat"]
        if len(orjson.dumps(last)) > MAX_BYTES:
            messages.insert(-1, _message(last.pop("text"), last.pop("entities", []), reply.generated))
            del last["textFormat"]
    return messages


def activity(reply: Reply, *, account: Account = str) -> Json:
    """The reply as one message, for an update; raises ReplyTooLarge when it takes more."""
    messages = activities(reply, account=account)
    if len(messages) > 1:
        raise ReplyTooLarge(f"the reply takes {len(messages)} messages and an update is one")
    return {"attachments": [], **messages[0]}


def plain_text(reply: Reply) -> str:
    """The reply as somebody reading the thread would quote it."""
    parts = list(reply.parts)
    if reply.card is not None:
        parts += [Heading(reply.card.title), *reply.card.parts]
    return "\n".join(_plain(part) for part in parts)


def _message(text: str, mentions: list[Json], generated: bool) -> Json:
    message: Json = {"type": "message", "text": text, "textFormat": "xml"}
    entities = [*mentions, *([AI_LABEL] if generated else [])]
    if entities:
        message["entities"] = entities
    return message


def _packed(blocks: Iterable[tuple[str, list[Json]]]) -> Iterator[tuple[str, list[Json]]]:
    text, mentions = "", list[Json]()
    for block, named in blocks:
        if text and len((text + block).encode()) > TEXT_BYTES:
            yield text, mentions
            text, mentions = "", []
        text += block
        mentions += named
    if text:
        yield text, mentions


def _blocks(part: Part, account: Account) -> Iterator[tuple[str, list[Json]]]:
    match part:
        case Text(text, style):
            tag = "b" if style is TextStyle.STRONG else "i" if style is TextStyle.SUBTLE else ""
            for piece in _pieces(text):
                yield f"<p>{_tagged(tag, markup(piece))}</p>", []
        case Heading(text):
            for piece in _pieces(text):
                yield f"<p><b>{markup(piece)}</b></p>", []
        case Facts(items):
            for label, value in items:
                for number, piece in enumerate(_pieces(value)):
                    name = f"<b>{markup(label)}:</b> " if number == 0 else ""
                    yield f"<p>{name}{markup(piece)}</p>", []
        case Bullets(items):
            for item in items:
                for number, piece in enumerate(_pieces(item)):
                    yield f"<p>{'• ' if number == 0 else ''}{markup(piece)}</p>", []
        case Quote(text, source):
            for piece in _pieces(text):
                yield f"<blockquote>{markup(piece)}</blockquote>", []
            if source:
                yield f"<p><i>— {markup(source)}</i></p>", []
        case Verbatim(text):
            for piece in _pieces(text):
                yield f"<pre>{markup(piece)}</pre>", []
        case Link(label, url) if linkable(url):
            yield f'<p><a href="{url.replace("&", "&amp;")}">{markup(label or url)}</a></p>', []
        case Link(label, url):
            yield f"<p>{markup(f'{label}: {url}')}</p>", []
        case Mention(user, name):
            shown = plain_name(name)
            token = f"<at>{shown}</at>"
            entity = {"type": "mention", "text": token, "mentioned": {"id": account(user), "name": shown}}
            yield f"<p>{token}</p>", [entity]


def _pieces(text: str) -> Iterator[str]:
    """The text in lengths that fit a message, divided after a line where there is one."""
    text = visible(text)
    while len(text) > _PIECE_CHARACTERS:
        end = text.rfind("\n", 1, _PIECE_CHARACTERS) + 1 or _PIECE_CHARACTERS
        yield text[:end]
        text = text[end:]
    yield text


def _tagged(tag: str, text: str) -> str:
    return f"<{tag}>{text}</{tag}>" if tag else text


def _plain(part: Part) -> str:
    match part:
        case Text(text) | Heading(text) | Verbatim(text):
            return text
        case Facts(items):
            return "\n".join(f"{label}: {value}" for label, value in items)
        case Bullets(items):
            return "\n".join(f"• {item}" for item in items)
        case Quote(text, source):
            return f"{text}\n— {source}" if source else text
        case Link(label, url):
            return f"{label}: {url}"
        case Mention(_, name):
            return f"@{name}"
