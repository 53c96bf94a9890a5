"""Whatever a reply says is shown in full, as data, in blocks that Slack takes."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block

from bot.slack.blocks import MOST_BLOCKS, MOST_CHARACTERS, link_is_safe, modal, render
from bot.slack.buttons import Unrenderable, button_blocks, read_action_id
from bot.slack.text import visible
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
    Quote,
    Text,
    TextInput,
    TextStyle,
    Tone,
    Verbatim,
)
from handlers.reply import Reply

SHARED = Path(os.environ.get("COUNTERSIGN_SHARED_DATA", Path(__file__).parents[3].parent / "shared" / "data"))

words = st.text(alphabet=st.characters(codec="utf-8"), max_size=300) | st.sampled_from(
    [
        "<!channel>",
        "&lt;",
        "*bold*",
        "a" * 4_000,
        "line\nline",
        "<@U012AB3CD>",
        "1\u202e0",
        "<>&" * 900,
        "  ",
        "x y " * 900,
    ]
)
verbs = st.sampled_from(["approve", "deny", "details"])
inputs = st.builds(TextInput, st.just("reason"), st.text(max_size=12), st.text(max_size=12), st.booleans())
confirms = st.builds(Confirm, words, words, words, words)
buttons = st.builds(
    Button, verbs, words, st.text("abc0123", max_size=60), st.sampled_from(ButtonStyle), st.none() | confirms,
    st.none() | inputs,
)  # fmt: skip
parts = st.one_of(
    st.builds(Text, words, st.sampled_from(TextStyle)),
    st.builds(Heading, words),
    st.builds(Facts, st.lists(st.tuples(words, words), max_size=4).map(tuple)),
    st.builds(Bullets, st.lists(words, max_size=4).map(tuple)),
    st.builds(Quote, words, words),
    st.builds(Verbatim, words),
    st.builds(
        Link, words, st.sampled_from(["https://example.com/a", "http://127.0.0.1:8080/x", "javascript:alert(1)"])
    ),
    st.builds(Mention, st.sampled_from(["U012AB3CD", "nobody>"]), words),
)
cards = st.builds(
    Card, words, st.lists(parts, max_size=6).map(tuple), st.lists(buttons, max_size=7).map(tuple),
    st.sampled_from(Tone), words,
)  # fmt: skip


def shown(blocks) -> str:
    """All that the blocks show, as a person reads it."""
    found: list[str] = []

    def collect(value) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("text"), str):
                found.append(html.unescape(value["text"]))
            elif value.get("type") == "link":
                found.append(value["url"])
            for inner in value.values():
                collect(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                collect(inner)

    collect(blocks)
    return "".join(found)


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def check(blocks) -> None:
    """Slack's limits, the SDK's and those it does not know."""
    assert 0 < len(blocks) <= MOST_BLOCKS
    assert len(orjson.dumps(list(blocks)).decode()) <= 13_200
    used: list[str] = []
    for block in blocks:
        parsed = Block.parse(block)
        assert parsed is not None
        parsed.to_dict()
        assert block["type"] in {"header", "rich_text", "context", "actions"}
        if block["type"] == "header":
            assert 0 < len(block["text"]["text"]) <= 150
        for element in block.get("elements", ()) if block["type"] == "actions" else ():
            used.append(element["action_id"])
            assert 0 < len(element["text"]["text"]) <= 75
            assert len(element["action_id"]) <= 255
            assert len(element["value"]) <= 2_000
            asked = element.get("confirm")
            if asked:
                assert len(asked["title"]["text"]) <= 100
                assert len(asked["text"]["text"]) <= 300
    assert len(used) == len(set(used))
    assert "mrkdwn" not in orjson.dumps(list(blocks)).decode().replace("mrkdwn_", "")


def texts(part) -> list[str]:
    match part:
        case Facts(items):
            return [text for pair in items for text in pair]
        case Bullets(items):
            return list(items)
        case Link(label, url):
            return [label, url] if url.startswith("javascript") else [label]
        case Mention(user, name):
            return [] if user == "U012AB3CD" else [name]
        case Quote(text, source):
            return [text, source]
        case _:
            return [part.text]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(card=cards, generated=st.booleans())
def test_any_card_renders_to_valid_blocks_that_show_every_character(card: Card, generated: bool) -> None:
    try:
        messages = render(Reply(card=card, generated=generated))
    except Unrenderable:
        return
    for message in messages:
        if message.blocks:
            check(message.blocks)
        assert message.text
    everything = squeezed(shown([message.blocks for message in messages]))
    for text in [card.title, *(text for part in card.parts for text in texts(part))]:
        assert squeezed(visible(text)) in everything
    for button in card.buttons:
        assert squeezed(visible(button.label)) in everything
        if button.confirm is not None:
            assert squeezed(visible(button.confirm.text)) in everything
    assert all(not message.has_buttons for message in messages[:-1])


@settings(max_examples=60, deadline=None)
@given(cards)
def test_any_card_fits_a_modal_or_is_refused_whole(card: Card) -> None:
    try:
        view = modal(card, private_metadata="x")
    except Unrenderable:
        return
    if view is not None:
        assert 0 < len(view["title"]["text"]) <= 24
        assert len(view["blocks"]) <= 100
        for part in card.parts:
            for text in texts(part):
                assert squeezed(visible(text)) in squeezed(shown(view["blocks"]))


def payloads() -> list[dict]:
    file = SHARED / "chat_output_injection_dev.json"
    return orjson.loads(file.read_bytes()) if file.exists() else []


@pytest.mark.skipif(not payloads(), reason=f"no chat_output_injection_dev.json in {SHARED}")
def test_injected_output_is_shown_as_characters_everywhere() -> None:
    for entry in payloads():
        payload = entry["payload"] if isinstance(entry["payload"], str) else orjson.dumps(entry["payload"]).decode()
        kinds = (
            Text(payload), Heading(payload), Quote(payload, payload), Verbatim(payload), Bullets((payload,)),
            Facts(((payload, payload),)), Text(payload, TextStyle.SUBTLE), Link(payload, payload),
            Mention(payload, payload),
        )  # fmt: skip
        for part in kinds:
            for message in render(Reply(card=Card(payload, (part,), summary=payload))):
                check(message.blocks)
                raw = orjson.dumps(list(message.blocks)).decode() + message.text
                assert "<" not in raw, entry["class"]
                assert ">" not in raw, entry["class"]
                assert "\u202e" not in raw
                assert '"type":"link"' not in raw or payload.startswith("https://")
                assert '"type":"user"' not in raw
                assert squeezed(visible(payload)) in squeezed(shown(message.blocks))


def test_hidden_characters_are_written_out() -> None:
    assert visible("pay 1\u202e000\u202c EUR") == "pay 1⟦U+202E⟧000⟦U+202C⟧ EUR"
    assert visible("a\u200bb\ufeffc\u00add") == "a⟦U+200B⟧b⟦U+FEFF⟧c⟦U+00AD⟧d"
    assert visible("tag\U000e0041 null\x00 bell\x07") == "tag⟦U+E0041⟧ null⟦U+0000⟧ bell⟦U+0007⟧"
    assert visible("one\r\ntwo\rthree\u2028four") == "one\ntwo\nthree\nfour"
    assert visible("⚠️ Grüße, 你好\t!") == "⚠️ Grüße, 你好\t!"


def test_only_structured_parts_mention_people_or_link() -> None:
    (message,) = render(
        Reply(parts=(Mention("U012AB3CD", "Ana"), Text("done, see <@U9>"), Link("the record", "https://a.example/1")))
    )
    elements = message.blocks[0]["elements"][0]["elements"]
    assert elements[0] == {"type": "user", "user_id": "U012AB3CD"}
    assert elements[1] == {"type": "text", "text": " done, see &lt;@U9&gt;"}
    assert message.blocks[1]["elements"][0]["elements"] == [
        {"type": "link", "url": "https://a.example/1", "text": "the record"}
    ]
    assert message.text == "<@U012AB3CD>\ndone, see &lt;@U9&gt;\nthe record (https://a.example/1)"


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://example.com/a?b=c", True),
        ("http://127.0.0.1:8080/x", True),
        ("http://[::1]:8080/x", True),
        ("http://localhost/x", True),
        ("http://example.com/", False),
        ("http://127.0.0.1.example.com/", False),
        ("http://localhost@example.com/", False),
        ("https://user@example.com/", False),
        ("https://", False),
        ("javascript:alert(1)", False),
        ("slack://user?team=T1", False),
        ("https://example.com/\u202e", False),
        ("https://example.com:99999/", False),
        ("https://exa mple.com/", False),
        ("https://example.com\\@evil.example/", False),
        ("mailto:x@example.com", False),
    ],
)
def test_links_are_https_or_this_machine(url: str, safe: bool) -> None:
    assert link_is_safe(url) is safe


def test_an_unsafe_link_is_written_out_as_text() -> None:
    (message,) = render(Reply(parts=(Link("click", "javascript:alert(1)"),)))
    assert shown(message.blocks) == "click (javascript:alert(1))"
    assert "link" not in str(message.blocks)


def test_a_long_reply_is_continued_and_the_buttons_come_last() -> None:
    text = "".join(f"line {number}\n" for number in range(4_000))
    card = Card("Long", (Verbatim(text),), (Button("approve", "Approve", "n"),))
    messages = render(Reply(card=card))
    assert len(messages) > 2
    assert [message.has_buttons for message in messages] == [False] * (len(messages) - 1) + [True]
    assert all(len(orjson.dumps(list(message.blocks)).decode()) <= MOST_CHARACTERS for message in messages)
    assert squeezed(text) in squeezed(shown([message.blocks for message in messages]))


def test_a_button_carries_its_nonce_and_what_to_ask() -> None:
    ask = TextInput("reason", "Why? #5", "tell Ana", required=True)
    plain = Button("approve", "Approve", "nonce-1", ButtonStyle.PRIMARY, Confirm("Sure?", "It pays EUR 12.", "Pay"))
    _, blocks = button_blocks((plain, Button("deny", "Deny", "nonce-2", ButtonStyle.DANGER, ask=ask), plain))
    first, second, third = blocks[0]["elements"]
    assert (first["action_id"], first["value"], first["style"]) == ("approve", "nonce-1", "primary")
    assert first["confirm"]["confirm"]["text"] == "Pay"
    assert (second["value"], second["style"]) == ("nonce-2", "danger")
    assert read_action_id(second["action_id"]).verb == "deny"
    assert read_action_id(second["action_id"]).ask == ask
    assert third["action_id"] != first["action_id"]
    assert read_action_id(third["action_id"]).verb == "approve"


def test_a_question_too_long_for_its_dialog_stands_above_the_buttons() -> None:
    long = "It deletes " + "many " * 100 + "records."
    notes, rows = button_blocks((Button("approve", "Approve", "n", confirm=Confirm("Sure?", long, "Delete")),))
    assert long in shown(notes)
    assert "above" in rows[-1]["elements"][0]["confirm"]["text"]["text"]


def test_the_ai_label_and_the_tone_are_shown() -> None:
    (message,) = render(Reply(card=Card("Denied", (), tone=Tone.DANGER), generated=True))
    assert message.blocks[0]["text"]["text"] == "⛔ Denied"
    assert "AI" in message.blocks[-1]["elements"][0]["text"]
