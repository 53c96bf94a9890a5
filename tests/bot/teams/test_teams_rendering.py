"""What is drawn in Teams: complete, valid, and with nothing in it that the data chose."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from adaptive_card_schema import SCHEMA
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.teams.adaptive import ReplyTooLarge, adaptive_card
from bot.teams.escaping import markup, visible
from bot.teams.links import linkable
from bot.teams.message import TEXT_BYTES, activities, activity, plain_text
from handlers.card import (
    Bullets,
    Button,
    ButtonStyle,
    Card,
    Confirm,
    Facts,
    Heading,
    Link,
    Mention,
    Part,
    Quote,
    Text,
    TextInput,
    TextStyle,
    Tone,
    Verbatim,
)
from handlers.reply import Reply

VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
PAYLOADS = Path(os.environ.get("COUNTERSIGN_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))

words = st.text(max_size=200)
some = st.text(min_size=1, max_size=60)
parts = st.one_of(
    st.builds(Text, words, st.sampled_from(TextStyle)),
    st.builds(Heading, words),
    st.builds(Facts, st.lists(st.tuples(words, words), min_size=1, max_size=4).map(tuple)),
    st.builds(Bullets, st.lists(words, max_size=4).map(tuple)),
    st.builds(Quote, words, words),
    st.builds(Verbatim, words),
    st.builds(Link, some, st.one_of(words, words.map(lambda path: f"https://records.example/{path}"))),
    st.builds(Mention, some, words),
)
buttons = st.builds(
    Button,
    some,
    some,
    some,
    st.sampled_from(ButtonStyle),
    st.none() | st.builds(Confirm, words, words, some),
    st.none() | st.builds(TextInput, st.just("reason"), words, words, st.booleans()),
)
cards = st.builds(
    Card,
    some,
    st.lists(parts, max_size=6).map(tuple),
    st.lists(buttons, max_size=4).map(tuple),
    st.sampled_from(Tone),
    words,
)


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON value."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


def shown_runs(card: dict[str, Any]) -> str:
    """All text of a drawn card, in order, one line a block."""
    return "\n".join(node["text"] for node in nodes(card) if node.get("type") == "TextRun")


def flat(text: str) -> str:
    """Text with kinds of white space made alike, for comparing what is shown."""
    return " ".join(text.replace("•", " ").split())


def texts_of(part: Part) -> list[str]:
    """Every string of a part that has to be seen."""
    match part:
        case Text(text) | Heading(text) | Verbatim(text):
            return [text]
        case Facts(items):
            return [text for item in items for text in item]
        case Bullets(items):
            return list(items)
        case Quote(text, source):
            return [text, source]
        case Link(label, _):
            return [label]
        case Mention():
            return []


@settings(max_examples=150, deadline=None)
@given(cards)
def test_any_card_is_valid_and_shows_every_character_of_its_text(card: Card) -> None:
    drawn = adaptive_card(card)
    VALIDATOR.validate(drawn)
    assert orjson.loads(orjson.dumps(drawn)) == drawn
    seen = flat(shown_runs(drawn))
    for text in (card.title, *(text for part in card.parts for text in texts_of(part))):
        assert flat(visible(text)) in seen
    for node in nodes(drawn):
        if node.get("type") == "Action.OpenUrl":
            assert node["url"] in [part.url for part in card.parts if isinstance(part, Link)]
    nonces = [node["data"] for node in nodes(drawn) if node.get("type") == "Action.Execute"]
    assert nonces == [{"nonce": button.nonce} for button in card.buttons]


@settings(max_examples=150, deadline=None)
@given(st.lists(parts, min_size=1, max_size=6).map(tuple))
@example((Text("1. one\n- two\n   three"),))
def test_any_message_shows_every_character_and_only_our_tags(given_parts: tuple[Part, ...]) -> None:
    (message,) = activities(Reply(given_parts))
    text = message["text"]
    tags = set(re.findall(r"<[^>]*>", text))
    links = {part.url.replace("&", "&amp;") for part in given_parts if isinstance(part, Link) and linkable(part.url)}
    allowed = {"<p>", "</p>", "<b>", "</b>", "<i>", "</i>", "<br/>", "<pre>", "</pre>", "<at>", "</at>", "</a>"}
    allowed |= {"<blockquote>", "</blockquote>"} | {f'<a href="{link}">' for link in links}
    assert tags <= allowed
    seen = flat(html.unescape(re.sub(r"<[^>]*>", " ", text)))
    for part in given_parts:
        for shown in texts_of(part):
            assert flat(visible(shown)) in seen


@given(st.text(max_size=300))
def test_what_is_made_visible_hides_nothing_and_is_stable(text: str) -> None:
    shown = visible(text)
    assert visible(shown) == shown
    shown.encode()
    assert not re.search("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\x00-\x08\x7f\u00ad\u3164]", shown)


def test_reordering_and_zero_width_characters_are_written_out() -> None:
    assert visible("pay 1\u202e000\u202c EUR") == "pay 1⟨U+202E⟩000⟨U+202C⟩ EUR"
    assert visible("a\u200bb\U000e0041") == "a⟨U+200B⟩b⟨U+E0041⟩"
    assert visible("line1\r\nline2\rline3") == "line1\nline2\nline3"


def test_markdown_and_html_are_character_references() -> None:
    assert markup("[x](y) *b* <b> `c` #1") == ("&#91;x&#93;&#40;y&#41; &#42;b&#42; &#60;b&#62; &#96;c&#96; &#35;1")
    assert markup("1. one\n- two") == "1&#46; one<br/>&#45; two"


def _payloads() -> list[dict[str, Any]]:
    path = PAYLOADS / "chat_output_injection_dev.json"
    if not path.exists():
        pytest.skip(f"the payload corpus is not at {path}; set COUNTERSIGN_SHARED_DATA to its folder")
    loaded: list[dict[str, Any]] = json.loads(path.read_text())
    return loaded


def test_every_payload_of_the_corpus_does_nothing() -> None:
    for entry in _payloads():
        payload = entry["payload"] if isinstance(entry["payload"], str) else json.dumps(entry["payload"])
        name = entry["class"]
        reply_parts = (Text(payload), Quote(payload, payload), Facts(((payload, payload),)), Link(payload, payload))
        card = Card(payload, reply_parts, (Button("approve", "Approve", "n"),), summary=payload)
        (message,) = activities(Reply(reply_parts, card=card, generated=True))
        drawn = message["attachments"][0]["content"]
        VALIDATOR.validate(drawn)
        assert message["textFormat"] == "xml", name
        text = re.sub(r"</?(p|b|i|br/|blockquote)>", "", message["text"])
        if not linkable(payload):
            assert "<a " not in text, name
            assert not [node for node in nodes(drawn) if node.get("type") == "Action.OpenUrl"], name
            assert "<" not in text, name
        assert not re.search(r"[\[\]()*_`!|]", text.replace("&#", "")), name
        assert "\u202e" not in json.dumps(message, ensure_ascii=False), name
        assert [node["data"] for node in nodes(drawn) if "data" in node] == [{"nonce": "n"}], name
        assert not [node for node in nodes(drawn) if node.get("type") == "TextBlock"], name


def test_only_https_and_loopback_links_are_links() -> None:
    assert linkable("https://records.example/1?a=b")
    assert linkable("http://127.0.0.1:8080/x")
    for url in (
        "http://records.example/",
        "javascript:alert(1)",
        "https://",
        "https://user@evil.example/",
        'https://a.example/"onclick',
        "https://a.example/ b",
        "//a.example",
        "https://a.example:port/",
        "https://раypal.example/",
    ):
        assert not linkable(url), url


def test_approve_takes_no_inputs_along_and_deny_asks_for_its_reason_first() -> None:
    card = Card(
        "Refund?",
        (),
        (
            Button("approve", "Approve", "a", ButtonStyle.PRIMARY),
            Button("deny", "Deny", "d", ButtonStyle.DANGER, ask=TextInput("reason", "Why not?", required=True)),
        ),
    )
    approve, deny = adaptive_card(card)["actions"]
    assert (approve["type"], approve["associatedInputs"], approve["style"]) == ("Action.Execute", "none", "positive")
    assert deny["type"] == "Action.ShowCard"
    field, execute = deny["card"]["body"][-1], deny["card"]["actions"][0]
    assert (field["type"], field["id"], field["isRequired"]) == ("Input.Text", "reason", True)
    assert (execute["verb"], execute["data"], execute["associatedInputs"]) == ("deny", {"nonce": "d"}, "auto")


def test_a_confirmation_is_asked_before_the_button_acts() -> None:
    sure = Confirm("Delete it?", "It cannot be brought back.", "Delete")
    (shown,) = adaptive_card(Card("x", (), (Button("approve", "Approve", "a", confirm=sure),)))["actions"]
    assert shown["type"] == "Action.ShowCard"
    assert "It cannot be brought back." in shown_runs(shown)
    assert shown["card"]["actions"][0]["title"] == "Delete"


def test_an_input_cannot_take_the_nonces_place() -> None:
    card = Card("x", (), (Button("deny", "Deny", "d", ask=TextInput("nonce", "Why?")),))
    with pytest.raises(ValueError, match="nonce"):
        adaptive_card(card)


def test_a_mention_is_a_name_and_an_entity_and_nothing_else() -> None:
    card = adaptive_card(
        Card("x", (Mention("u1", "[Ann](https://evil.example) <b>"),)), account=lambda user: f"29:{user}"
    )
    block = next(node for node in nodes(card) if node.get("type") == "TextBlock")
    (entity,) = card["msteams"]["entities"]
    assert block["text"] == entity["text"] == "<at>Ann https evil.example b</at>"
    assert entity["mentioned"]["id"] == "29:u1"


def test_a_card_too_large_for_teams_is_refused_whole() -> None:
    with pytest.raises(ReplyTooLarge):
        adaptive_card(Card("x", (Verbatim("v" * 90_000),)))


def test_long_text_goes_on_in_further_messages_and_none_of_it_is_lost() -> None:
    text = "\n".join(f"line {number} of *many*" for number in range(4_000))
    messages = activities(Reply((Text(text),), card=Card("x", ())))
    assert len(messages) > 1
    assert all(len(orjson.dumps(message)) < 80_000 for message in messages)
    assert all(len(message.get("text", "").encode()) <= TEXT_BYTES for message in messages)
    seen = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", message.get("text", ""))) for message in messages)
    assert flat(seen) == flat(text)
    assert [bool(message.get("attachments")) for message in messages] == [False] * (len(messages) - 1) + [True]
    with pytest.raises(ReplyTooLarge):
        activity(Reply((Text(text),)))


def test_a_thread_reads_back_what_a_reply_said() -> None:
    reply = Reply((Text("Done."), Link("record", "https://r.example/")), card=Card("Title", (Facts((("a", "b"),)),)))
    assert plain_text(reply) == "Done.\nrecord: https://r.example/\nTitle\na: b"
