"""I9, I10 and I12: who clicked, on which button of which message, and what a message is worth."""

from __future__ import annotations

import pytest

from actions import executions
from handlers import deliveries
from handlers.deliveries import Nonces
from handlers.reply import Reply
from policies import approvals
from policies.approvals import State
from records import outbox
from tests.invariants.approval_world import World
from tests.invariants.card_world import Room


@pytest.fixture
def room(world: World) -> Room:
    """A channel of the world."""
    return Room(world)


@pytest.mark.parametrize(
    "changes",
    [
        {"is_guest": True},
        {"is_external": True},
        {"is_bot": True},
        {"internal": False},
        {"user": "USOMEBODY", "name": "Amir"},
        {"user": "Amir"},
        {"user": "amir"},
        {"user": "amir@example.com"},
    ],
    ids=str,
)
async def test_i09_who_clicked_comes_from_the_envelope_alone(room: Room, changes: dict[str, object]) -> None:
    """I9: not a guest, not a partner, not a bot, not where they read along; never a name or an address."""
    approval, message = await room.card()
    outcome = await room.press(message, "approve", "amir", **changes)
    assert not outcome.accepted
    assert outcome.text
    assert (await room.world.approval(approval)).votes == ()
    assert {button.verb for button in room.shows(message).buttons} == {"approve", "deny", "details"}
    assert (await room.press(message, "approve", "amir")).accepted, "the card stayed live"


async def test_i09_the_same_user_id_in_another_workspace_is_somebody_else(room: Room) -> None:
    """I9: workspace or tenant id and user id."""
    approval, message = await room.card()
    outcome = await room.press(message, "approve", "amir", tenant="T2")
    assert not outcome.accepted
    assert (await room.world.approval(approval)).state is State.PENDING


async def test_i09_a_deactivated_person_does_not_sign(room: Room) -> None:
    """I9: not deactivated, from the moment the people file says so."""
    approval, message = await room.card()
    room.world.change_person("amir", active=False)
    outcome = await room.press(message, "approve", "amir")
    assert "deactivated" in outcome.text
    assert (await room.world.approval(approval)).votes == ()


async def test_i09_what_the_click_says_about_its_verb_is_not_believed(room: Room) -> None:
    """I9: not from a card's data: the nonce of Deny denies, whatever the click calls itself."""
    approval, message = await room.card()
    turn = room.turn(message, room.nonce(message, "deny"), "amir", verb="approve")
    assert (await room.take(turn)).accepted
    assert (await room.world.approval(approval)).state is State.DENIED


async def test_i10_a_made_up_button_is_none_of_ours(room: Room) -> None:
    """I10: an opaque nonce: a value that was not given out, or of another key, or one off, is no button."""
    approval, message = await room.card()
    real = room.nonce(message, "approve")
    elsewhere = Nonces(b"o" * 32).nonce("delivery", "approve", approval.digest)
    for forged in ("", "approve", approval.id, elsewhere, real[:-1], real + "A", real.swapcase()):
        outcome = await room.take(room.turn(message, forged, "amir"))
        assert not outcome.accepted
    assert (await room.world.approval(approval)).votes == ()
    assert len(real) == 43, "256 bits"


@pytest.mark.parametrize(
    "changes",
    [
        {"conversation": "C2"},
        {"message_id": "C1-77"},
        {"conversation": "C2", "message_id": "C2-1"},
        {"surface": "teams"},
    ],
    ids=str,
)
async def test_i10_a_card_copied_or_forwarded_elsewhere_is_refused(room: Room, changes: dict[str, str]) -> None:
    """I10: bound to conversation and message."""
    approval, message = await room.card()
    outcome = await room.press(message, "approve", "amir", **changes)
    assert "copy" in outcome.text
    assert not outcome.accepted
    assert (await room.world.approval(approval)).votes == ()
    assert await room.world.execution_of(approval) is None


async def test_i10_the_button_of_one_request_in_the_message_of_another_is_refused(room: Room) -> None:
    """I10: bound to the request: siblings in one channel are not interchangeable."""
    first, first_message = await room.card()
    second, second_message = await room.card()
    outcome = await room.take(room.turn(second_message, room.nonce(first_message, "approve"), "amir"))
    assert not outcome.accepted
    assert (await room.world.approval(first)).state is State.PENDING
    assert (await room.world.approval(second)).state is State.PENDING
    assert (await room.press(second_message, "approve", "amir")).accepted
    assert (await room.world.approval(first)).state is State.PENDING
    assert (await room.world.approval(second)).state is State.APPROVED


async def test_i10_a_button_is_worth_nothing_without_the_right_audience_time_or_digest(
    room: Room, world: World
) -> None:
    """I10: bound to audience, digest and expiry; the button itself grants nothing."""
    approval, message = await room.card()
    assert not (await room.press(message, "approve", "omar")).accepted
    assert not (await room.press(message, "approve", "rosa")).accepted
    ours = approvals.approvals.c.id == approval.id
    await world.change(approvals.approvals, ours, digest="0" * 64)
    assert not (await room.press(message, "approve", "amir")).accepted
    await world.change(approvals.approvals, ours, digest=approval.digest)
    world.let_pass(approval.expires_at - approval.created_at)
    outcome = await room.press(message, "approve", "amir")
    assert "ran out" in outcome.text
    assert (await world.approval(approval)).votes == ()


async def test_i10_the_database_keeps_no_nonce_that_could_be_pressed(room: Room, world: World) -> None:
    """I10: only hashes are stored, so a copy of the database makes no buttons."""
    _, message = await room.card()
    stored = await world.database.read(lambda tx: tx.execute(deliveries.card_buttons.select()).all())
    given = {button.nonce for button in room.shows(message).buttons}
    assert len(given) == len(stored) == 3
    assert not given & {row.nonce_hash for row in stored}
    for row in stored:
        assert not (await room.take(room.turn(message, row.nonce_hash, "amir"))).accepted


async def test_i12_editing_or_deleting_the_message_changes_nothing(room: Room, world: World) -> None:
    """I12: a message is a projection: what became of it does not touch the request."""
    approval, message = await room.card()
    nonce = room.nonce(message, "approve")
    before = await world.approval(approval)
    room.surface.messages[message] = Reply.text("Approved by the boss, please run it")
    await room.projector.project(approval.plan_id)
    assert await world.approval(approval) == before
    del room.surface.messages[message]
    await room.projector.project(approval.plan_id)
    assert await world.approval(approval) == before
    assert await world.execution_of(approval) is None
    outcome = await room.take(room.turn(message, nonce, "amir"))
    assert outcome.accepted, "a click that was under way when the message went still counts"
    execution = await world.execution_of(approval)
    assert execution is not None
    assert await world.run(execution.id) is executions.State.DONE
    assert len(world.ledger.effects) == 1


async def test_i12_redrawing_is_idempotent_and_ends_with_the_final_state(room: Room, world: World) -> None:
    """I12: however often and in whatever order it is redrawn, the card ends up showing how it ended."""
    approval, message = await room.card()
    outcome = await room.press(message, "approve", "amir")
    assert outcome.accepted
    execution = await world.execution_of(approval)
    assert execution is not None
    await world.run(execution.id)
    for _ in range(3):
        await room.projector.project(approval.plan_id)
    shown = room.shows(message)
    assert shown.title.startswith("Done")
    assert shown.buttons == ()
    updates, messages = room.surface.updates, len(room.surface.messages)
    assert messages == 2, "the card and one notice"
    for _ in range(3):
        await room.projector.project(approval.plan_id)
        await room.projector.sweep()
    assert (room.surface.updates, len(room.surface.messages)) == (updates, messages)
    assert await world.database.read(lambda tx: outbox.count(tx, outbox.PROJECT)) == 0


async def test_i12_a_platform_that_was_away_shows_the_final_state_when_it_is_back(room: Room, world: World) -> None:
    """I12: what a platform did not take stays due; the decision does not wait for it."""
    approval, message = await room.card()
    room.surface.away = True
    assert (await room.press(message, "approve", "amir")).accepted
    execution = await world.execution_of(approval)
    assert execution is not None
    assert await world.run(execution.id) is executions.State.DONE
    await room.projector.project(approval.plan_id)
    assert room.shows(message).buttons != ()
    room.surface.away = False
    world.let_pass(deliveries.DRAW_LEASE)
    await room.projector.sweep()
    assert room.shows(message).title.startswith("Done")
    assert room.shows(message).buttons == ()


async def test_i12_a_click_on_an_old_picture_of_the_card_is_answered_and_changes_nothing(
    room: Room, world: World
) -> None:
    """I12: a client that still shows the buttons sends a click for what is over."""
    approval, message = await room.card()
    nonce = room.nonce(message, "approve")
    await room.press(message, "deny", "amir")
    outcome = await room.take(room.turn(message, nonce, "noor"))
    assert not outcome.accepted
    assert "Amir" in outcome.text
    assert (await world.approval(approval)).state is State.DENIED
