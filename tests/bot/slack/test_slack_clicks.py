"""A press reaches the dialog as one Click, and the person who pressed always sees what came of it."""

from __future__ import annotations

import pytest

from bot.slack.clicks import NOT_OURS, TOO_LATE
from bot.workbench.platform import PressRefused
from bot.workbench.slack_web import Fault
from handlers.card import Button, ButtonStyle, Card, Text, TextInput
from handlers.reply import ClickOutcome, Reply
from handlers.surface import MessageRef
from handlers.turn import Place
from tests.bot.slack.conftest import ANA, BEN, TEAM, World

CARD = Card(
    title="Refund order 4711",
    parts=(Text("EUR 12.00 to Ana"),),
    buttons=(
        Button("approve", "Approve", "nonce-a", ButtonStyle.PRIMARY),
        Button("deny", "Deny", "nonce-d", ButtonStyle.DANGER, ask=TextInput("reason", "Why?", "So that Ana knows")),
        Button("details", "Details", "nonce-i"),
    ),
)


async def posted(world: World, card: Card = CARD, room: str | None = None) -> MessageRef:
    channel = room or world.slack.channel
    place = Place("slack", TEAM, channel, direct=room is not None)
    return await world.surface.post(place, Reply(card=card))


def ephemerals(world: World, person=BEN) -> list[str]:
    return [message.text for message in world.seen(person) if message.only_for == person.id]


async def test_a_press_becomes_a_click_and_its_outcome_is_shown_to_the_presser_only(world: World) -> None:
    ref = await posted(world)
    await world.press(BEN, world.slack.channel, ref.message_id, "approve")
    (turn,) = world.listener.clicked
    assert turn.click is not None
    assert (turn.click.verb, turn.click.nonce, turn.click.message_id) == ("approve", "nonce-a", ref.message_id)
    assert turn.click.inputs == {}
    assert turn.sender.user == BEN.id
    assert turn.place.conversation == world.slack.channel
    assert ephemerals(world) == ["Recorded."]
    assert ephemerals(world, ANA) == []


async def test_the_outcome_appears_in_the_thread_of_the_card(world: World) -> None:
    await world.say(ANA, "@Countersign refund order 4711")
    root = world.listener.heard[0].place
    ref = await world.surface.post(root, Reply(card=CARD))
    await world.press(BEN, world.slack.channel, ref.message_id, "approve")
    assert world.listener.clicked[0].place.thread == root.thread
    assert world.seen(BEN)[-1].thread == root.thread


async def test_a_denial_asks_for_its_reason_first(world: World) -> None:
    ref = await posted(world)
    await world.press(BEN, world.slack.channel, ref.message_id, "deny")
    assert world.listener.clicked == []
    modal = world.slack.modal(BEN.id)
    assert modal is not None
    assert modal["title"]["text"] == "Deny"
    assert modal["blocks"][0]["label"]["text"] == "Why?"
    await world.slack.submit_modal(BEN.id, {"reason": "Not ours to pay"})
    await world.door.intake.drain()
    (turn,) = world.listener.clicked
    assert turn.click is not None
    assert (turn.click.verb, turn.click.nonce, turn.click.message_id) == ("deny", "nonce-d", ref.message_id)
    assert dict(turn.click.inputs) == {"reason": "Not ours to pay"}
    assert turn.sender.user == BEN.id
    assert ephemerals(world) == ["Recorded."]
    assert world.slack.modal(BEN.id) is None


async def test_a_required_reason_cannot_be_left_out(world: World) -> None:
    asking = Button("deny", "Deny", "n", ask=TextInput("reason", "Why?", required=True))
    ref = await posted(world, Card("Refund", (), (asking,)))
    await world.press(BEN, world.slack.channel, ref.message_id, "deny")
    with pytest.raises(PressRefused):
        await world.slack.submit_modal(BEN.id, {"reason": ""})


async def test_closing_the_form_changes_nothing(world: World) -> None:
    ref = await posted(world)
    await world.press(BEN, world.slack.channel, ref.message_id, "deny")
    await world.slack.submit_modal(BEN.id, None)
    assert world.slack.modal(BEN.id) is None
    assert world.listener.clicked == []


async def test_a_form_that_slack_would_not_open_is_explained(world: World) -> None:
    ref = await posted(world)
    world.slack.web.fail("views.open", Fault(times=1, error="expired_trigger_id"))
    await world.press(BEN, world.slack.channel, ref.message_id, "deny")
    assert world.listener.clicked == []
    assert ephemerals(world) == [TOO_LATE]


async def test_details_open_as_a_modal(world: World) -> None:
    world.listener.outcome = ClickOutcome("", accepted=False, dialog=Card("Plan", (Text("every argument"),)))
    ref = await posted(world)
    await world.press(BEN, world.slack.channel, ref.message_id, "details")
    modal = world.slack.modal(BEN.id)
    assert modal is not None
    assert "every argument" in str(modal["blocks"])


async def test_details_that_come_too_late_for_a_modal_are_told_privately(world: World) -> None:
    world.listener.outcome = ClickOutcome("", accepted=False, dialog=Card("Plan", (Text("every argument"),)))
    world.slack.web.fail("views.open", Fault(times=1, error="expired_trigger_id"))
    ref = await posted(world)
    await world.press(BEN, world.slack.channel, ref.message_id, "details")
    assert world.slack.modal(BEN.id) is None
    shown = world.seen(BEN)[-1]
    assert shown.only_for == BEN.id
    assert "every argument" in str(shown.payload)


async def test_a_button_inside_a_modal_names_the_message_the_card_is_on(world: World) -> None:
    inside = Card("Plan", (Text("all of it"),), (Button("approve", "Approve", "nonce-m"),))
    world.listener.outcome = ClickOutcome("", accepted=False, dialog=inside)
    ref = await posted(world)
    await world.press(BEN, world.slack.channel, ref.message_id, "details")
    modal = world.slack.modal(BEN.id)
    assert modal is not None
    world.listener.outcome = ClickOutcome("Recorded: 1 of 1.", accepted=True)
    await world.press(BEN, world.slack.channel, modal["id"], "approve")
    click = world.listener.clicked[-1].click
    assert click is not None
    assert (click.verb, click.nonce, click.message_id) == ("approve", "nonce-m", ref.message_id)
    replaced = world.slack.modal(BEN.id)
    assert replaced is not None
    assert "Recorded: 1 of 1." in str(replaced["blocks"])
    assert "nonce-m" not in str(replaced["blocks"])
    assert ephemerals(world)[-1] == "Recorded: 1 of 1."


async def test_a_denial_inside_a_modal_asks_on_top_of_it(world: World) -> None:
    world.listener.outcome = ClickOutcome("", accepted=False, dialog=CARD)
    ref = await posted(world)
    await world.press(BEN, world.slack.channel, ref.message_id, "details")
    modal = world.slack.modal(BEN.id)
    assert modal is not None
    await world.press(BEN, world.slack.channel, modal["id"], "deny")
    world.listener.outcome = ClickOutcome("Denied.", accepted=True)
    await world.slack.submit_modal(BEN.id, {"reason": "no"})
    await world.door.intake.drain()
    click = world.listener.clicked[-1].click
    assert click is not None
    assert (click.verb, click.message_id, dict(click.inputs)) == ("deny", ref.message_id, {"reason": "no"})


async def test_a_press_in_a_direct_message_is_a_direct_place(world: World) -> None:
    room = world.direct(BEN)
    ref = await posted(world, room=room)
    await world.press(BEN, room, ref.message_id, "approve")
    assert world.listener.clicked[0].place.direct
    assert world.seen(BEN, room)[-1].text == "Recorded."


async def test_a_press_delivered_twice_is_one_click(world: World) -> None:
    ref = await posted(world)
    world.slack.sender.duplicate_deliveries = 1
    await world.press(BEN, world.slack.channel, ref.message_id, "approve")
    assert len(world.listener.clicked) == 1
    assert ephemerals(world) == ["Recorded."]


async def test_two_presses_are_two_clicks(world: World) -> None:
    ref = await posted(world)
    await world.press(BEN, world.slack.channel, ref.message_id, "approve")
    await world.press(BEN, world.slack.channel, ref.message_id, "approve")
    assert len(world.listener.clicked) == 2


async def test_a_click_that_cannot_be_recorded_yet_says_so_and_stays_due(world: World) -> None:
    ref = await posted(world)
    world.listener.failures = 1
    await world.press(BEN, world.slack.channel, ref.message_id, "approve")
    assert "could not record" in ephemerals(world)[0]
    assert world.rows()[-1][1] == "received"


async def test_an_outcome_that_cannot_be_shown_keeps_the_event_due(world: World) -> None:
    ref = await posted(world)
    world.slack.web.fail("chat.postEphemeral", Fault(times=1, error="fatal_error"))
    await world.press(BEN, world.slack.channel, ref.message_id, "approve")
    assert world.rows()[-1][1] == "received"


async def test_an_outcome_reaches_somebody_who_left_the_channel(world: World) -> None:
    ref = await posted(world)
    world.slack.web.fail("chat.postEphemeral", Fault(times=1, error="user_not_in_channel"))
    await world.press(BEN, world.slack.channel, ref.message_id, "approve")
    assert [message.text for message in world.seen(BEN, world.direct(BEN))] == ["Recorded."]


async def test_a_partner_or_guest_who_presses_is_marked_as_such(world: World) -> None:
    world.slack.web.user_flags[BEN.id] = {"team_id": "T0PARTNER", "is_restricted": True}
    ref = await posted(world)
    await world.press(BEN, world.slack.channel, ref.message_id, "approve")
    sender = world.listener.clicked[0].sender
    assert sender.is_external
    assert sender.is_guest
    assert sender.tenant == "T0PARTNER"


async def test_a_foreign_button_is_answered(world: World) -> None:
    foreign = {
        "type": "actions",
        "elements": [
            {"type": "button", "action_id": "deny?broken", "value": "1", "text": {"type": "plain_text", "text": "x"}}
        ],
    }
    answer = await world.surface.api.call(
        "chat.postMessage", {"channel": world.slack.channel, "text": "x", "blocks": [foreign]}
    )
    await world.press(BEN, world.slack.channel, answer["ts"], "deny")
    assert ephemerals(world) == [NOT_OURS]
    assert world.listener.clicked == []


async def test_a_button_that_is_gone_cannot_be_pressed(world: World) -> None:
    ref = await posted(world)
    await world.surface.update(ref, Reply(card=Card("Refund order 4711", (Text("Approved by Ben"),))))
    with pytest.raises(PressRefused):
        await world.slack.press(
            BEN.id, world.slack.channel, ref.message_id, {"action_id": "approve", "value": "nonce-a"}
        )
