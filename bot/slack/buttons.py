"""Buttons of a card, and how a press of one is read back.

A button's value is its nonce and nothing else. Its action id says which verb it is and, where something is to be typed
with the press, what to ask: Slack hands the action id back, so that the form can be opened without remembering the
card, in the three seconds that a trigger lives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from bot.slack.elements import Json, plain, runs, sections
from bot.slack.text import escape, visible
from handlers.card import Button, ButtonStyle, Confirm, TextInput

LABEL_LENGTH = 75
VALUE_LENGTH = 2_000
ACTION_ID_LENGTH = 255
CONFIRM_TITLE_LENGTH = 100
CONFIRM_TEXT_LENGTH = 300
CONFIRM_CHOICE_LENGTH = 30
BUTTONS_A_ROW = 5
ROWS_LENGTH = 12_000
"""Bytes of all rows as JSON; they have to share one message."""
PLACEHOLDER_LENGTH = 150
MODAL_TITLE_LENGTH = 24


_VERB = re.compile(r"[A-Za-z0-9_.-]+")


class Unrenderable(ValueError):
    """A button says more than Slack can carry in a place that cannot be continued; the message says which."""


@dataclass(frozen=True, slots=True)
class Pressed:
    """What a button's action id says."""

    verb: str
    ask: TextInput | None = None


def button_blocks(buttons: Sequence[Button]) -> tuple[list[Json], list[Json]]:
    """Notes and rows: texts too long for a button or its question, to stand in full above the rows of buttons."""
    notes: list[Json] = []
    taken: set[str] = set()
    elements = [_element(button, index, notes, taken) for index, button in enumerate(buttons)]
    rows: list[Json] = [
        {"type": "actions", "elements": elements[start : start + BUTTONS_A_ROW]}
        for start in range(0, len(elements), BUTTONS_A_ROW)
    ]
    if len(orjson.dumps(rows)) > ROWS_LENGTH:
        raise Unrenderable(f"{len(buttons)} buttons of this size do not fit one message")
    return notes, rows


def read_action_id(action_id: str) -> Pressed:
    """The verb of a pressed button and what to ask for; raises ValueError for an id that is none of ours."""
    head, asks, asked = action_id.partition("?")
    verb = head.partition("#")[0]
    if not asks:
        return Pressed(verb)
    try:
        name, label, placeholder, required = orjson.loads(asked)
    except (ValueError, TypeError) as error:
        raise ValueError("the button is none of ours") from error
    if not all(isinstance(text, str) for text in (name, label, placeholder)):
        raise ValueError("the button is none of ours")
    return Pressed(verb, TextInput(name, label, placeholder, bool(required)))


def ask_modal(ask: TextInput, *, title: str, private_metadata: str) -> Json:
    """The form in which somebody types what goes with a press."""
    field: Json = {"type": "plain_text_input", "action_id": "typed", "multiline": True, "max_length": 3_000}
    placeholder = escape(visible(ask.placeholder))
    label = escape(visible(ask.label)) or "Your words"
    if 0 < len(placeholder) <= PLACEHOLDER_LENGTH:
        field["placeholder"] = plain(placeholder)
    block: Json = {
        "type": "input",
        "block_id": ask.name,
        "label": plain(label),
        "element": field,
        "optional": not ask.required,
    }
    if len(placeholder) > PLACEHOLDER_LENGTH:
        block["hint"] = plain(placeholder)
    shown = escape(visible(title))
    return {
        "type": "modal",
        "callback_id": "ask",
        "title": plain(shown if 0 < len(shown) <= MODAL_TITLE_LENGTH else "Countersign"),
        "submit": plain("Send"),
        "close": plain("Cancel"),
        "private_metadata": private_metadata,
        "blocks": [block],
    }


def typed_values(view: Mapping[str, Any]) -> dict[str, str]:
    """What was typed into a form, by the name of the input."""
    state = view.get("state")
    blocks = state.get("values") if isinstance(state, dict) else None
    typed = {}
    for name, elements in blocks.items() if isinstance(blocks, dict) else ():
        for element in elements.values() if isinstance(elements, dict) else ():
            value = element.get("value") if isinstance(element, dict) else None
            typed[str(name)] = value if isinstance(value, str) else ""
    return typed


def _element(button: Button, index: int, notes: list[Json], taken: set[str]) -> Json:
    if len(button.nonce) > VALUE_LENGTH:
        raise Unrenderable(f"the nonce of {button.verb!r} has more than {VALUE_LENGTH} characters")
    label = escape(visible(button.label)).strip() or escape(visible(button.verb)) or "Press"
    if len(label) > LABEL_LENGTH:
        short = f"Button {index + 1}"
        notes += _note(f"{short}: {button.label}")
        label = short
    element: Json = {
        "type": "button",
        "text": plain(label),
        "action_id": _action_id(button, taken),
        "value": button.nonce,
    }
    if button.style is not ButtonStyle.DEFAULT:
        element["style"] = button.style.value
    if button.confirm is not None:
        element["confirm"] = _confirm(button.confirm, button.style, notes)
    return element


def _action_id(button: Button, taken: set[str]) -> str:
    if not _VERB.fullmatch(button.verb):
        raise Unrenderable(f"{button.verb!r} cannot be a verb: letters, digits, `_`, `.` and `-` only")
    asked = ""
    if button.ask is not None:
        ask = button.ask
        asked = "?" + orjson.dumps([ask.name, ask.label, ask.placeholder, int(ask.required)]).decode()
    action_id = button.verb + asked
    number = 2
    while action_id in taken:
        action_id = f"{button.verb}#{number}{asked}"
        number += 1
    if len(action_id) > ACTION_ID_LENGTH:
        raise Unrenderable(f"{button.verb!r} asks in more than {ACTION_ID_LENGTH} characters; shorten its label")
    taken.add(action_id)
    return action_id


def _confirm(confirm: Confirm, style: ButtonStyle, notes: list[Json]) -> Json:
    title, text = escape(visible(confirm.title)), escape(visible(confirm.text))
    if not title.strip() or len(title) > CONFIRM_TITLE_LENGTH or not text.strip() or len(text) > CONFIRM_TEXT_LENGTH:
        notes += _note(f"{confirm.title}\n{confirm.text}")
        title, text = "Are you sure?", "Read the whole question above the buttons first."
    asked: Json = {
        "title": plain(title),
        "text": plain(text),
        "confirm": plain(_choice(confirm.yes, "Yes", notes)),
        "deny": plain(_choice(confirm.no, "No", notes)),
    }
    if style is not ButtonStyle.DEFAULT:
        asked["style"] = style.value
    return asked


def _choice(label: str, short: str, notes: list[Json]) -> str:
    shown = escape(visible(label))
    if shown.strip() and len(shown) <= CONFIRM_CHOICE_LENGTH:
        return shown
    if shown.strip():
        notes += _note(f"{short}: {label}")
    return short


def _note(text: str) -> list[Json]:
    return sections(runs(text))
