"""What people say in Slack arrives as Turns, once."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from bot.workbench.platform import PressRefused
from bot.workbench.slack_web import Fault
from handlers.turn import TurnKind
from records.inbox import inbox
from tests.bot.slack.conftest import ANA, BEN, BOT, TEAM, World


async def test_a_mention_in_a_channel_is_answered_under_the_message(world: World) -> None:
    await world.say(ANA, "@Countersign refund order 4711 & tell <Ben>")
    (turn,) = world.listener.heard
    (message,) = world.seen(ANA)
    assert turn.kind is TurnKind.MENTION
    assert turn.text == "refund order 4711 & tell <Ben>"
    assert turn.place.conversation == world.slack.channel
    assert turn.place.thread == turn.message_id == message.id
    assert not turn.place.direct
    assert turn.place.internal
    assert (turn.sender.surface, turn.sender.tenant, turn.sender.user) == ("slack", TEAM, ANA.id)
    assert turn.sender.name == "Ana"
    assert (turn.sender.is_bot, turn.sender.is_guest, turn.sender.is_external) == (False, False, False)
    assert len(world.rows()) == 1
    assert world.rows()[0][1] == "done"


async def test_a_mention_in_a_thread_stays_in_that_thread(world: World) -> None:
    await world.say(BEN, "the printer is on fire")
    root = world.seen(BEN)[0].id
    await world.say(ANA, "@Countersign open a ticket", thread=root)
    assert world.listener.heard[0].place.thread == root


async def test_a_direct_message_needs_no_mention_and_no_thread(world: World) -> None:
    await world.say(ANA, "hello", room=world.direct(ANA))
    (turn,) = world.listener.heard
    assert turn.kind is TurnKind.DIRECT
    assert turn.place.direct
    assert turn.place.thread is None
    assert turn.text == "hello"


async def test_a_slash_command_brings_its_words(world: World) -> None:
    await world.say(ANA, "/countersign refund order 4711")
    (turn,) = world.listener.heard
    assert turn.kind is TurnKind.COMMAND
    assert turn.text == "refund order 4711"
    assert turn.message_id is None
    assert turn.place.conversation == world.slack.channel


async def test_a_command_where_we_are_no_member_is_answered_directly(world: World) -> None:
    world.slack.web.hidden_channels.add(world.slack.channel)
    await world.say(ANA, "/countersign help")
    (turn,) = world.listener.heard
    assert turn.place.direct
    assert turn.place.conversation == world.direct(ANA)


async def test_mention_and_channel_message_of_one_text_are_one_turn(world: World) -> None:
    world.slack.send_channel_messages = True
    await world.say(ANA, "@Countersign hello")
    await world.say(ANA, "nothing for the assistant")
    assert [turn.text for turn in world.listener.heard] == ["hello"]
    assert len(world.rows()) == 1


async def test_a_repeated_delivery_is_heard_once(world: World) -> None:
    world.slack.sender.duplicate_deliveries = 1
    await world.say(ANA, "@Countersign hello")
    assert len(world.listener.heard) == 1


async def test_an_event_whose_acknowledgement_was_lost_is_heard_once(world: World) -> None:
    world.slack.sender.lose_acknowledgements = 1
    await world.say(ANA, "@Countersign hello")
    await world.slack.sender.settle()
    await world.door.intake.drain()
    assert len(world.listener.heard) == 1


async def test_a_retry_is_heard_when_the_first_delivery_never_arrived(world: World) -> None:
    world.slack.sender.lose_deliveries = 1
    await world.say(ANA, "@Countersign hello")
    await world.slack.sender.settle()
    await world.door.intake.drain()
    assert [turn.text for turn in world.listener.heard] == ["hello"]


async def test_a_failed_event_is_handled_again_by_the_next_process(world: World, database) -> None:
    world.listener.failures = 1
    await world.say(ANA, "@Countersign hello")
    assert world.listener.heard == []
    assert world.rows()[0][1] == "received"
    identity = database.query(lambda tx: tx.execute(select(inbox.c.id)).scalar_one())
    await database.write(lambda tx: world.inbox.release(tx, identity))
    await world.door.start()
    await world.door.intake.drain()
    assert [turn.id for turn in world.listener.heard] == [identity]
    assert world.rows()[0][1] == "done"


@pytest.mark.parametrize(
    ("flags", "guest", "bot", "external", "tenant"),
    [
        ({"is_restricted": True}, True, False, False, TEAM),
        ({"is_ultra_restricted": True}, True, False, False, TEAM),
        ({"is_bot": True}, False, True, False, TEAM),
        ({"team_id": "T0PARTNER"}, False, False, True, "T0PARTNER"),
        ({"is_stranger": True}, False, False, True, TEAM),
    ],
)
async def test_guests_bots_and_partners_are_told_apart(world: World, flags, guest, bot, external, tenant) -> None:
    world.slack.web.user_flags[ANA.id] = flags
    await world.say(ANA, "@Countersign hello")
    sender = world.listener.heard[0].sender
    assert (sender.is_guest, sender.is_bot, sender.is_external) == (guest, bot, external)
    assert sender.tenant == tenant


async def test_a_deactivated_person_is_not_heard(world: World) -> None:
    world.slack.web.user_flags[ANA.id] = {"deleted": True}
    await world.say(ANA, "@Countersign hello")
    assert world.listener.heard == []


async def test_somebody_slack_does_not_know_is_external(world: World) -> None:
    world.slack.web.fail("users.info", Fault(times=1, error="user_not_found"))
    await world.say(ANA, "@Countersign hello")
    assert world.listener.heard[0].sender.is_external


async def test_a_shared_channel_is_not_internal(world: World) -> None:
    world.slack.web.channel_flags[world.slack.channel] = {"is_ext_shared": True}
    await world.say(ANA, "@Countersign hello")
    await world.say(ANA, "/countersign hello")
    assert [turn.place.internal for turn in world.listener.heard] == [False, False]


async def test_people_are_looked_up_once_in_ten_minutes(world: World) -> None:
    for _ in range(3):
        await world.say(ANA, "@Countersign hello")
    assert [method for method, _ in world.slack.web.calls].count("users.info") == 1
    assert [method for method, _ in world.slack.web.calls].count("auth.test") == 1


async def test_other_peoples_mentions_become_names(world: World) -> None:
    await world.receive(
        {
            "type": "event_callback", "team_id": TEAM, "event_id": "Ev1", "is_ext_shared_channel": False,
            "event": {
                "type": "app_mention", "user": ANA.id, "channel": world.slack.channel, "ts": "1700000000.000100",
                "text": (
                    f"<@{BOT}> tell <@{BEN.id}> in <#C1|general> about <https://example.com/a?b=1&amp;c=2|the page>, "
                    "<https://example.com/x> and <mailto:a@example.com|a@example.com> &lt;now&gt; <!here>"
                ),
            },
        }
    )  # fmt: skip
    assert world.listener.heard[0].text == (
        "tell @Ben in #general about the page (https://example.com/a?b=1&c=2), "
        "https://example.com/x and a@example.com <now> @here"
    )


@pytest.mark.parametrize(
    "event",
    [
        {"type": "message", "subtype": "message_changed", "hidden": True, "message": {"user": ANA.id, "text": "x"}},
        {"type": "message", "subtype": "bot_message", "bot_id": "B1", "text": "beep"},
        {"type": "message", "user": BOT, "bot_id": "B0BOT", "text": "our own answer"},
        {"type": "message", "user": BOT, "text": "our own answer, without its bot id"},
        {"type": "message", "user": ANA.id, "text": "edited", "edited": {"user": ANA.id, "ts": "1.2"}},
    ],
)
async def test_edits_bots_and_our_own_words_are_not_heard(world: World, event) -> None:
    described = {"channel": world.direct(ANA), "channel_type": "im", "ts": "1700000000.000100", **event}
    await world.receive({"type": "event_callback", "team_id": TEAM, "event_id": "Ev1", "event": described})
    assert world.listener.heard == []


async def test_an_event_nobody_listens_to_is_acknowledged_and_finished(world: World) -> None:
    await world.slack.sender.event(
        {
            "type": "event_callback",
            "team_id": TEAM,
            "event_id": "Ev77",
            "event": {"type": "app_home_opened", "user": ANA.id, "channel": "D1", "tab": "home"},
        }
    )
    await world.door.intake.drain()
    assert world.rows() == [("slack|event|Ev77", "done")]


async def test_the_local_slack_says_when_a_command_was_not_taken(world: World) -> None:
    world.slack.sender.events_url = world.events_url + "/nowhere"
    with pytest.raises(PressRefused, match="failed"):
        await world.slack.say(ANA.id, world.slack.channel, "/countersign hello")


async def test_nothing_people_write_reaches_a_log(world: World, caplog: pytest.LogCaptureFixture, capsys) -> None:
    caplog.set_level("DEBUG")
    shortcut = {
        "type": "message_action", "callback_id": "none", "user": {"id": ANA.id, "team_id": TEAM}, "trigger_id": "1.2.x",
        "team": {"id": TEAM}, "message": {"text": "private words"}, "actions": ["private words"],
    }  # fmt: skip
    assert await world.slack.sender.interaction(shortcut) is None
    await world.say(ANA, "@Countersign private words")
    await world.door.intake.drain()
    assert [state for _, state in world.rows()] == ["done", "done"]
    assert "slack_bolt said something" in caplog.text
    assert "private words" not in caplog.text
    written = capsys.readouterr()
    assert "private words" not in written.out + written.err
