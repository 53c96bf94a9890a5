"""Ask, get a card, sign, and it happens once: the way of one message, on both platforms and both databases."""

from __future__ import annotations

import asyncio

import pytest

from policies import audit
from tests.scenarios.house import House, Seat, buttons, shown, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_asking_to_close_a_ticket_shows_a_card_and_an_approval_closes_it_once(
    house: House, rosa: Seat, amir: Seat
) -> None:
    ticket = await house.new_ticket("Lamp flickers in room 4")
    effects = house.effects()
    await rosa.say(f"@Countersign please close {ticket}, it is solved")
    card = await amir.sees("Approval needed", ticket)
    for shown_before in (
        "Lamp flickers in room 4",
        "Rosa",
        "approvers",
        "0 of 1",
        "ticketing.close",
        "UTC",
        "request ",
    ):
        assert shown_before in shown(card)
    assert house.tickets()[ticket][0] == "open"

    await amir.press(card, "Approve")

    done = await amir.sees("Done", ticket, "Amir")
    assert done.id == card.id, "the card itself shows the result"
    assert buttons(done) == {}
    assert f"/records/tickets/{ticket}" in shown(done)
    result = await rosa.sees("Result of request", ticket)
    assert rosa.user in shown(result) or "Rosa" in shown(result), "the requester is mentioned"
    assert house.tickets()[ticket] == ("closed", 2)
    assert house.effects() == effects + 1


async def test_a_denial_with_a_reason_reaches_the_requester_and_nothing_is_done(
    house: House, rosa: Seat, amir: Seat
) -> None:
    ticket = await house.new_ticket()
    await rosa.say(f"@Countersign close {ticket}")
    card = await amir.sees("Approval needed", ticket)
    await amir.press(card, "Deny", reason="The customer has not answered yet")
    denied = await rosa.sees("Denied", ticket, "The customer has not answered yet")
    assert denied.id == card.id
    await rosa.sees("Result of request", "The customer has not answered yet")
    assert house.tickets()[ticket] == ("open", 1)


async def test_a_click_by_somebody_who_may_not_sign_is_told_so_and_the_card_stays_live(
    house: House, rosa: Seat, amir: Seat
) -> None:
    ticket = await house.new_ticket()
    await rosa.say(f"@Countersign close {ticket}")
    card = await rosa.sees("Approval needed", ticket)
    before = len(rosa.seen())
    said = await rosa.press(card, "Approve")
    await rosa.told("Nothing was recorded", before, said=said)
    assert "Approve" in buttons(await amir.sees("Approval needed", ticket))
    await amir.press(card, "Approve")
    await amir.sees("Done", ticket)
    assert house.tickets()[ticket] == ("closed", 2)


async def test_a_double_click_does_it_once_and_the_second_click_is_told_who_decided(
    house: House, rosa: Seat, amir: Seat
) -> None:
    ticket = await house.new_ticket()
    await rosa.say(f"@Countersign close {ticket}")
    card = await amir.sees("Approval needed", ticket)
    effects = house.effects()
    before = len(amir.seen())
    said = await asyncio.gather(amir.press(card, "Approve"), amir.press(card, "Approve"))
    await amir.sees("Done", ticket)
    await amir.told("already decided", before, said=" ".join(filter(None, said)))
    assert house.effects() == effects + 1


async def test_two_approvers_at_the_same_instant_do_it_once(house: House, rosa: Seat, amir: Seat, noor: Seat) -> None:
    ticket = await house.new_ticket()
    await rosa.say(f"@Countersign close {ticket}")
    card = await amir.sees("Approval needed", ticket)
    effects = house.effects()
    await asyncio.gather(amir.press(card, "Approve"), noor.press(card, "Approve"))
    await amir.sees("Done", ticket)
    assert house.effects() == effects + 1
    assert house.tickets()[ticket] == ("closed", 2)


async def test_a_click_decides_exactly_the_card_it_was_made_on(house: House, rosa: Seat, amir: Seat) -> None:
    first, second = await house.new_ticket("First sibling"), await house.new_ticket("Second sibling")
    await rosa.say(f"@Countersign close {first}")
    await rosa.say(f"@Countersign close {second}")
    first_card = await amir.sees("Approval needed", first)
    second_card = await amir.sees("Approval needed", second)
    await amir.press(second_card, "Approve")
    await amir.sees("Done", second)
    still = await amir.sees("Approval needed", first)
    assert still.id == first_card.id
    assert "Approve" in buttons(still)
    assert house.tickets()[first] == ("open", 1)
    assert house.tickets()[second] == ("closed", 2)


async def test_a_request_in_a_direct_message_asks_the_approvers_in_theirs(house: House, rosa: Seat, amir: Seat) -> None:
    ticket = await house.new_ticket()
    await rosa.say(f"close {ticket}", direct=True)
    waiting = await rosa.sees("Approval needed", ticket, direct=True)
    assert buttons(waiting) == {}, "the requester's own copy has no buttons"
    card = await amir.sees("Approval needed", ticket, direct=True)
    await amir.press(card, "Approve")
    await rosa.sees("Done", ticket, direct=True)
    assert house.tickets()[ticket] == ("closed", 2)


async def test_the_details_show_the_whole_plan(house: House, rosa: Seat, amir: Seat) -> None:
    ticket = await house.new_ticket()
    await rosa.say(f"@Countersign close {ticket}")
    card = await amir.sees("Approval needed", ticket)
    await amir.press(card, "Details")
    if amir.name == "slack":
        view = await until(lambda: house.slack.modal(amir.user))
        assert "ticketing.close" in str(view)
        assert "target_version" in str(view)
        await house.slack.submit_modal(amir.user, None)
    else:
        assert "target_version" in shown(await amir.sees("ticketing.close", ticket, direct=True))
    assert "Approve" in buttons(await amir.sees("Approval needed", ticket))


async def test_a_ticket_is_created_at_once_and_listed(house: House, rosa: Seat) -> None:
    await rosa.say("@Countersign create a ticket: the projector hums, high priority")
    await rosa.sees("Done: Create a ticket", "TCK-", "projector hums")
    await rosa.say("@Countersign my tickets")
    await rosa.sees("open ticket", "projector hums")


async def test_a_changed_ticket_makes_the_card_stale_and_nothing_is_closed(
    house: House, rosa: Seat, amir: Seat
) -> None:
    ticket = await house.new_ticket()
    await rosa.say(f"@Countersign close {ticket}")
    card = await amir.sees("Approval needed", ticket)
    ticketing = house.web.core.connectors[0]
    await ticketing.perform("ticketing.close", {"ticket": ticket}, key=f"elsewhere-{ticket}", expected=None)
    await amir.press(card, "Approve")
    await amir.sees("review again", ticket, "closed already")
    assert house.tickets()[ticket] == ("closed", 2)


async def test_something_we_cannot_do_gets_an_honest_answer(house: House, rosa: Seat) -> None:
    await rosa.say("@Countersign book me a flight to Paris on Friday")
    answer = await rosa.sees("I can't do that")
    assert "close TCK-12" in shown(answer)


async def test_a_thread_is_summarised_from_its_own_sentences(house: House, rosa: Seat, amir: Seat) -> None:
    if rosa.name == "teams":
        # A bot in Teams is told only what is addressed to it or said in a one-to-one chat.
        await rosa.say("The release moves to Thursday because the tests are red.", direct=True)
        await rosa.say("summarise this thread", direct=True)
        answer = await rosa.sees("Thursday", "offline engine", direct=True)
        assert "The release moves to Thursday" in shown(answer)
        return
    await amir.say("The release moves to Thursday because the tests are red.")
    root = amir.seen()[-1].id
    await rosa.say("We decided to tell the customers tomorrow.", thread=root)
    await amir.say("Who writes the announcement?", thread=root)
    await rosa.say("@Countersign summarise this thread", thread=root)
    answer = await rosa.sees("offline engine", "Thursday")
    assert "Who writes the announcement?" in shown(answer)


async def test_the_audit_log_is_whole_and_tells_who_signed_what(house: House, rosa: Seat, amir: Seat) -> None:
    ticket = await house.new_ticket()
    await rosa.say(f"@Countersign close {ticket}")
    card = await amir.sees("Approval needed", ticket)
    await amir.press(card, "Approve")
    await amir.sees("Done", ticket)
    database = house.web.core.database
    assert await database.read(audit.verify) > 0
    entries = await database.read(lambda tx: [dict(entry.entry) for entry in audit.entries(tx)])
    signed = [entry for entry in entries if entry["kind"] == "approval.signed"][-1]
    assert signed["actor"] == "amir"
    assert signed["details"]["surface"] == rosa.name
    kinds = [entry["kind"] for entry in entries]
    for kind in ("approval.requested", "approval.signed", "execution.ordered", "execution.sending", "execution.done"):
        assert kind in kinds


async def test_the_requester_can_take_the_request_back(house: House, rosa: Seat, amir: Seat) -> None:
    ticket = await house.new_ticket()
    await rosa.say(f"@Countersign close {ticket}")
    card = await rosa.sees("Approval needed", ticket)
    await rosa.press(card, "Deny", reason="Wrong ticket")
    taken_back = await amir.sees("Cancelled", ticket, "taken back")
    assert buttons(taken_back) == {}
    assert house.tickets()[ticket] == ("open", 1)


async def test_closing_a_ticket_that_is_closed_is_said_at_once_and_asks_nobody(
    house: House, rosa: Seat, amir: Seat
) -> None:
    ticket = await house.new_ticket()
    ticketing = house.web.core.connectors[0]
    await ticketing.perform("ticketing.close", {"ticket": ticket}, key=f"before-{ticket}", expected=None)
    await rosa.say(f"@Countersign close {ticket}")
    answer = await rosa.sees(f"{ticket} is closed already")
    assert buttons(answer) == {}
