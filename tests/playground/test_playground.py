"""A conversation held through Microsoft's own local Teams client, as its page would show it."""

from __future__ import annotations

from typing import Any

import pytest
from playground_client import Playground
from teams_stack import Stack

from handlers.card import Button, ButtonStyle, Card, Facts, Link, Mention, Text, TextInput, Tone
from handlers.reply import ClickOutcome, Reply
from handlers.surface import MessageRef
from handlers.turn import Turn, TurnKind

pytestmark = pytest.mark.playground

CHANNEL = "channel-announcements-id"
WAITING = Card(
    "Restart the printer server?",
    (Facts((("System", "printers"), ("Risk", "low"))),),
    buttons=(
        Button("approve", "Approve", "nonce-a", ButtonStyle.PRIMARY),
        Button("deny", "Deny", "nonce-d", ButtonStyle.DANGER, ask=TextInput("reason", "Why not?")),
    ),
    tone=Tone.WAITING,
)
DONE = Card("Approved by Megan Bowen", (Text("ran in 3.2 s"),), tone=Tone.GOOD)


def mention_of_us(playground: Playground) -> tuple[str, list[dict[str, Any]]]:
    """How the client's page writes a mention of the app."""
    bot = playground.config["bot"]
    token = f"<at>{bot['name']}</at>"
    return token, [{"mentioned": {"id": bot["id"]}, "text": token}]


def created(event: dict[str, Any], conversation: str, words: str) -> bool:
    """Whether an event shows a new message with these words in a conversation."""
    return (
        event["action"] == "createMessage"
        and event["actionConversationId"] == conversation
        and words in str(event["message"])
    )


async def test_a_direct_message_is_answered_with_text_link_and_ai_label(stack: Stack, playground: Playground) -> None:
    async def answer(turn: Turn) -> None:
        if turn.kind is TurnKind.DIRECT:
            await stack.surface.show_progress(turn.place, "searching")
            parts = (Text("[x](https://evil.example) *is* <b>data</b>"), Link("the record", "https://records.example/"))
            await stack.surface.post(turn.place, Reply(parts, generated=True))

    stack.ear.on_hear = answer
    chat = playground.config["personalChat"]["id"]
    await playground.install_app(chat)
    await playground.say(chat, "hello", [])
    await playground.shows(lambda event: event["action"] == "typing" and event["actionConversationId"] == chat)
    message = (await playground.shows(lambda event: created(event, chat, "data")))["message"]
    assert message["textFormat"] == "xml"
    assert message["text"] == (
        "<p>&#91;x&#93;&#40;https://evil.example&#41; &#42;is&#42; &#60;b&#62;data&#60;/b&#62;</p>"
        '<p><a href="https://records.example/">the record</a></p>'
    )
    assert message["aiEntity"]["additionalType"] == ["AIGeneratedContent"]
    (turn,) = stack.ear.said()
    assert (turn.text, turn.sender.name) == ("hello", playground.config["currentUser"]["name"])


async def test_an_approval_card_in_a_channel_is_pressed_by_a_second_person_and_updated_for_all(
    stack: Stack, playground: Playground
) -> None:
    posted: list[MessageRef] = []

    async def propose(turn: Turn) -> None:
        if turn.kind is TurnKind.MENTION:
            posted.append(await stack.surface.post(turn.place, Reply(card=WAITING)))

    async def approve(turn: Turn) -> ClickOutcome:
        await stack.surface.update(posted[0], Reply(card=DONE))
        mention = Mention(stack.ear.said()[0].sender.user, "Alex Wilber")
        await stack.surface.post(turn.place, Reply((mention, Text("it is done"))))
        return ClickOutcome("Approved.", accepted=True, card=DONE)

    stack.ear.on_hear, stack.ear.on_click = propose, approve
    token, mentions = mention_of_us(playground)
    await playground.install_app(CHANNEL)
    await playground.say(CHANNEL, f"{token} please restart it", mentions)
    await stack.ear.until(lambda ear: bool(posted))
    (asked,) = stack.ear.said()
    thread = f"{CHANNEL};messageid={asked.place.thread}"
    assert (asked.kind, asked.text) == (TurnKind.MENTION, "please restart it")
    shown = await playground.shows(lambda event: created(event, thread, "Restart the printer server?"))
    assert shown["message"]["messageId"] == posted[0].message_id

    megan = playground.config["users"][0]
    await playground.send(press_by(playground, megan, thread, posted[0].message_id))
    updated = await playground.shows(lambda event: event["action"] == "updateMessage")
    assert updated["message"]["messageId"] == posted[0].message_id
    assert "Approved by Megan Bowen" in str(updated["message"]["attachments"])
    assert "Action.Execute" not in str(updated["message"]["attachments"])
    told = await playground.shows(lambda event: created(event, thread, "it is done"))
    assert told["message"]["mentions"][0]["mentioned"]["id"] == playground.config["currentUser"]["id"]
    (click,) = stack.ear.clicked
    assert click.sender.user == megan["aadObjectId"]
    assert click.click is not None
    assert (click.click.nonce, click.click.message_id) == ("nonce-a", posted[0].message_id)
    assert click.place == asked.place


def press_by(playground: Playground, person: dict[str, Any], thread: str, message: str) -> dict[str, Any]:
    """The invoke that a person's press of Approve sends."""
    tenant = playground.config["tenantId"]
    action = {"type": "Action.Execute", "verb": "approve", "data": {"nonce": "nonce-a"}}
    return {
        "type": "invoke",
        "name": "adaptiveCard/action",
        "id": "f:second-person-1",
        "channelId": "msteams",
        "serviceUrl": f"{playground.url}/_connector",
        "from": {"id": person["id"], "name": person["name"], "aadObjectId": person["aadObjectId"]},
        "recipient": playground.config["bot"],
        "conversation": {"id": thread, "conversationType": "channel", "isGroup": True, "tenantId": tenant},
        "channelData": {"tenant": {"id": tenant}, "team": {"id": "team-id"}, "channel": {"id": CHANNEL}},
        "replyToId": message,
        "value": {"action": action, "trigger": "manual"},
    }
