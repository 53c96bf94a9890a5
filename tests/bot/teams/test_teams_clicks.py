"""Pressing buttons in Teams: each press is taken once and has an outcome that the person sees."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from teams_stack import ANNA, ANNAS_CHAT, BEN, BENS_CHAT, CHANNEL, TENANT, Stack, running_stack

from bot.teams.intake import TeamsDoor
from bot.teams.verification import Peer
from bot.workbench.platform import PressRefused
from handlers.card import Button, ButtonStyle, Card, Text, TextInput, Tone
from handlers.reply import ClickOutcome, Reply
from handlers.surface import MessageRef
from handlers.turn import Click, Place, Sender, Turn, TurnKind

WAITING = Card(
    "Restart the printer server?",
    (Text("for Anna"),),
    buttons=(
        Button("approve", "Approve", "nonce-a", ButtonStyle.PRIMARY),
        Button("deny", "Deny", "nonce-d", ButtonStyle.DANGER, ask=TextInput("reason", "Why not?")),
    ),
    tone=Tone.WAITING,
)
APPROVED = Card("Approved by Ben", (Text("ran in 3.2 s"),), tone=Tone.GOOD)
APPROVE = {"verb": "approve", "data": {"nonce": "nonce-a"}, "inputs": {}}


async def post_card(stack: Stack) -> str:
    """Post the waiting card under a message in the channel; returns its id."""
    await stack.teams.say(ANNA.id, CHANNEL, "please restart it")
    await stack.door.intake.drain()
    root = stack.teams.messages(CHANNEL, ANNA.id)[-1].id
    ref = await stack.surface.post(Place("teams", TENANT, CHANNEL, thread=root), Reply(card=WAITING))
    return ref.message_id


async def test_a_press_carries_who_pressed_which_button_of_which_message(stack: Stack) -> None:
    card = await post_card(stack)
    action = {"verb": "deny", "data": {"nonce": "nonce-d"}, "inputs": {"reason": "too late"}}
    assert await stack.teams.press(BEN.id, CHANNEL, card, action) == "Recorded."
    turn = stack.ear.clicked[0]
    root = stack.teams.messages(CHANNEL, ANNA.id)[0].id
    assert turn.kind is TurnKind.CLICK
    assert turn.sender == Sender("teams", TENANT, BEN.id, "Ben Okafor")
    assert turn.place == Place("teams", TENANT, CHANNEL, thread=root)
    assert turn.click == Click("deny", "nonce-d", card, {"reason": "too late"})


async def test_the_new_card_answers_the_press_for_the_one_who_pressed(stack: Stack) -> None:
    card = await post_card(stack)

    async def approve(turn: Turn) -> ClickOutcome:
        return ClickOutcome("Approved.", accepted=True, card=APPROVED)

    stack.ear.on_click = approve
    assert await stack.teams.press(BEN.id, CHANNEL, card, APPROVE) is None
    bens, annas = (str(stack.teams.messages(CHANNEL, person.id)[-1].payload) for person in (BEN, ANNA))
    assert "Approved by Ben" in bens
    assert "Restart the printer server?" in annas


async def test_an_update_reaches_everybody_and_ends_own_views(stack: Stack) -> None:
    card = await post_card(stack)

    async def approve(turn: Turn) -> ClickOutcome:
        return ClickOutcome("Approved.", accepted=True, card=APPROVED)

    stack.ear.on_click = approve
    await stack.teams.press(BEN.id, CHANNEL, card, APPROVE)
    place = stack.ear.clicked[0].place
    done = Reply(card=Card("Done", (Text("all of it"),)))
    await stack.surface.update(MessageRef(place, card), done)
    for person in (ANNA, BEN):
        shown = str(stack.teams.messages(CHANNEL, person.id)[-1].payload)
        assert "all of it" in shown
        assert "Action.Execute" not in shown


async def test_a_refused_press_leaves_the_card_live_and_says_why(stack: Stack) -> None:
    card = await post_card(stack)

    async def refuse(turn: Turn) -> ClickOutcome:
        return ClickOutcome("Only the finance group can sign this.", accepted=False)

    stack.ear.on_click = refuse
    assert await stack.teams.press(ANNA.id, CHANNEL, card, APPROVE) == "Only the finance group can sign this."
    assert "Action.Execute" in str(stack.teams.messages(CHANNEL, ANNA.id)[-1].payload)


async def test_details_go_to_the_one_who_asked_only(stack: Stack) -> None:
    card = await post_card(stack)

    async def details(turn: Turn) -> ClickOutcome:
        return ClickOutcome("Here is the plan.", accepted=False, dialog=Card("The plan", (Text("step 1"),)))

    stack.ear.on_click = details
    said = await stack.teams.press(BEN.id, CHANNEL, card, APPROVE)
    assert said is not None
    assert said.startswith("Here is the plan.")
    assert "step 1" in str(stack.teams.messages(BENS_CHAT, BEN.id)[-1].payload)
    assert "step 1" not in str(stack.teams.messages(CHANNEL, ANNA.id))


async def test_a_repeated_press_gets_the_first_ones_answer_and_is_taken_once(stack: Stack) -> None:
    press = stack.press_activity()
    first, second = await stack.teams.deliver(press), await stack.teams.deliver(press)
    assert first == second
    assert first[1] == {"statusCode": 200, "type": "application/vnd.microsoft.activity.message", "value": "Recorded."}
    assert len(stack.ear.clicked) == 1


async def test_a_press_repeated_while_it_is_taken_waits_for_the_same_answer(stack: Stack) -> None:
    released = asyncio.Event()

    async def slowly(turn: Turn) -> ClickOutcome:
        await released.wait()
        return ClickOutcome("At last.", accepted=True)

    stack.ear.on_click = slowly
    press = stack.press_activity()
    both = asyncio.gather(stack.teams.deliver(press), stack.teams.deliver(press))
    await stack.ear.until(lambda ear: bool(ear.clicked))
    released.set()
    first, second = await both
    assert first == second
    assert first[1]["value"] == "At last."
    assert len(stack.ear.clicked) == 1


async def test_a_press_another_process_took_is_answered_without_taking_it_again(stack: Stack) -> None:
    press = stack.press_activity()
    await stack.teams.deliver(press)
    other = TeamsDoor(stack.settings, stack.surface, stack.database, stack.inbox, stack.ear)
    status, answer = await other.take(orjson.dumps(press), stack.bearer(), Peer("127.0.0.1", False))
    await other.close()
    assert status == 200
    assert answer is not None
    assert "taken before" in answer["value"]
    assert len(stack.ear.clicked) == 1


async def test_a_press_that_takes_long_is_answered_and_its_outcome_told_afterwards(
    tmp_path: Path, key_pem: bytes
) -> None:
    async with running_stack(tmp_path, key_pem, answer_seconds=0.05) as stack:
        released = asyncio.Event()

        async def slowly(turn: Turn) -> ClickOutcome:
            await released.wait()
            return ClickOutcome("Approved in the end.", accepted=True)

        stack.ear.on_click = slowly
        _, answer = await stack.teams.deliver(stack.press_activity())
        assert "still being worked on" in answer["value"]
        released.set()
        await stack.door.intake.drain()
        assert stack.teams.messages(ANNAS_CHAT, ANNA.id)[-1].text == "Approved in the end."


async def test_a_press_that_fails_says_so_and_is_tried_again_with_its_outcome_told(stack: Stack) -> None:
    tries = 0

    async def fail_once(turn: Turn) -> ClickOutcome:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError("the database went away")
        return ClickOutcome("Approved.", accepted=True)

    stack.ear.on_click = fail_once
    status, answer = await stack.teams.deliver(stack.press_activity())
    assert status == 200
    assert answer["type"] == "application/vnd.microsoft.error"
    assert "tried again" in answer["value"]["message"]
    await stack.door.intake.drain()
    await stack.database.write(lambda tx: tx._connection.exec_driver_sql("UPDATE inbox SET lease_until = 0"))
    await stack.door.start()
    await stack.door.intake.drain()
    assert tries == 2
    assert stack.teams.messages(ANNAS_CHAT, ANNA.id)[-1].text == "Approved."


async def test_a_guest_is_known_as_one_from_the_next_press_on(stack: Stack) -> None:
    card = await post_card(stack)
    stack.teams.make_guest(BEN.id)
    await stack.teams.press(BEN.id, CHANNEL, card, APPROVE)
    assert stack.ear.clicked[0].sender.is_guest


async def test_somebody_teams_does_not_vouch_for_cannot_press(stack: Stack) -> None:
    stranger = {"id": "29:stranger", "name": "Eve", "aadObjectId": "cccccccc-0000-0000-0000-000000000009"}
    status, answer = await stack.teams.deliver(stack.press_activity(**{"from": stranger}))
    assert (status, answer["type"]) == (200, "application/vnd.microsoft.error")
    assert stack.ear.clicked == []


@pytest.mark.parametrize(
    "value",
    [
        None,
        "approve",
        {},
        {"action": None},
        {"action": {"type": "Action.Submit", "data": {"nonce": "n"}}},
        {"action": {"type": "Action.Execute"}},
        {"action": {"type": "Action.Execute", "data": {"approval_id": "r2", "decision": "approve"}}},
        {"action": {"type": "Action.Execute", "data": {"nonce": 7}}},
    ],
)
async def test_a_press_of_something_that_is_not_our_button_is_answered_with_an_error(
    stack: Stack, value: object
) -> None:
    status, answer = await stack.teams.deliver(stack.press_activity(value=value))
    assert (status, answer["statusCode"], answer["type"]) == (200, 400, "application/vnd.microsoft.error")
    assert stack.ear.clicked == []


async def test_a_submitted_form_of_a_card_is_no_message_and_no_press(stack: Stack) -> None:
    forged = stack.activity(text=None, value={"approval_id": "r2", "decision": "approve", "nonce": "n-1"})
    assert (await stack.teams.deliver(forged))[0] == 200
    await stack.door.intake.drain()
    assert stack.ear.said() == []
    assert stack.ear.clicked == []


async def test_an_invoke_we_do_not_know_is_answered_without_an_error_of_ours(stack: Stack) -> None:
    status, answer = await stack.teams.deliver(stack.press_activity(name="composeExtension/query"))
    assert (status, answer["value"]["code"]) == (200, "NotSupported")


async def test_the_local_teams_shows_a_failure_as_teams_does(stack: Stack) -> None:
    card = await post_card(stack)

    async def fail(turn: Turn) -> ClickOutcome:
        raise RuntimeError("no")

    stack.ear.on_click = fail
    with pytest.raises(PressRefused, match="tried again"):
        await stack.teams.press(BEN.id, CHANNEL, card, APPROVE)
