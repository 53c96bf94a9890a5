"""Talking in Teams: what people write becomes Turns, and what we answer appears where they wrote."""

from __future__ import annotations

from teams_stack import ANNA, ANNAS_CHAT, BEN, BENS_CHAT, CHANNEL, TENANT, Stack, say_and_answer

from handlers.card import Card, Link, Mention, Text
from handlers.reply import Reply
from handlers.turn import Place, Sender, Turn, TurnKind


async def test_a_direct_message_becomes_a_turn_with_the_verified_identity(stack: Stack) -> None:
    await stack.teams.say(ANNA.id, ANNAS_CHAT, "my laptop is broken")
    await stack.ear.until(lambda ear: bool(ear.said()))
    turn = stack.ear.said()[0]
    assert turn.kind is TurnKind.DIRECT
    assert turn.text == "my laptop is broken"
    assert turn.sender == Sender("teams", TENANT, ANNA.id, "Anna Berg")
    assert turn.place == Place("teams", TENANT, ANNAS_CHAT, direct=True)


async def test_a_mention_in_a_channel_is_heard_without_the_mention_itself(stack: Stack) -> None:
    await stack.teams.say(ANNA.id, CHANNEL, "@Countersign what does Countersign do?")
    await stack.ear.until(lambda ear: bool(ear.said()))
    turn = stack.ear.said()[0]
    root = stack.teams.messages(CHANNEL, ANNA.id)[-1].id
    assert turn.kind is TurnKind.MENTION
    assert turn.text == "what does Countersign do?"
    assert turn.place == Place("teams", TENANT, CHANNEL, thread=root)
    assert turn.message_id == root


async def test_a_channel_message_that_does_not_name_us_is_kept_but_not_heard(stack: Stack) -> None:
    await stack.teams.say(BEN.id, CHANNEL, "the printer is on fire")
    root = stack.teams.messages(CHANNEL, BEN.id)[-1].id
    await stack.teams.say(ANNA.id, CHANNEL, "@Countersign summarise", thread=root)
    await stack.ear.until(lambda ear: bool(ear.said()))
    assert [turn.text for turn in stack.ear.said()] == ["summarise"]
    thread = await stack.surface.read_thread(stack.ear.said()[0].place)
    assert [(message.author, message.text) for message in thread] == [
        ("Ben Okafor", "the printer is on fire"),
        ("Anna Berg", "summarise"),
    ]


async def test_an_answer_is_posted_in_the_thread_and_can_be_read_back(stack: Stack) -> None:
    turn = await say_and_answer(stack, Reply.text("It is <fine> & *well*.", generated=True), room=CHANNEL)
    shown = stack.teams.messages(CHANNEL, BEN.id)[-1]
    assert shown.from_assistant
    assert shown.thread == turn.place.thread
    assert shown.text == "It is &#60;fine&#62; &#38; &#42;well&#42;."
    assert shown.payload["entities"][0]["additionalType"] == ["AIGeneratedContent"]
    last = (await stack.surface.read_thread(turn.place))[-1]
    assert (last.from_assistant, last.text) == (True, "It is <fine> & *well*.")


async def test_an_update_replaces_the_message_for_everybody(stack: Stack) -> None:
    turn = await say_and_answer(stack, Reply.text("Working on it."), room=CHANNEL)
    ref = await stack.surface.post(turn.place, Reply(card=Card("Waiting", (Text("for Ben"),))))
    await stack.surface.update(ref, Reply(card=Card("Approved", (Text("by Ben"),))))
    await stack.surface.update(ref, Reply(card=Card("Approved", (Text("by Ben"),))))
    shown = stack.teams.messages(CHANNEL, BEN.id)[-1]
    assert (shown.id, shown.edited) == (ref.message_id, True)
    assert "by Ben" in str(shown.payload["attachments"])
    thread = await stack.surface.read_thread(turn.place)
    assert [message.text for message in thread][-1] == "Approved\nby Ben"


async def test_each_room_we_are_added_to_is_greeted_once(stack: Stack) -> None:
    assert {turn.place.conversation for turn in stack.ear.heard} == {CHANNEL, ANNAS_CHAT, BENS_CHAT}
    assert {turn.kind for turn in stack.ear.heard} == {TurnKind.INSTALLED}
    bot = {"id": f"28:{stack.settings.app_id}", "name": "Countersign"}
    again = stack.activity(type="installationUpdate", action="add", text=None)
    assert (await stack.teams.deliver(again))[0] == 200
    assert (await stack.teams.deliver(stack.activity(type="conversationUpdate", membersAdded=[bot])))[0] == 200
    await stack.door.intake.drain()
    assert len(stack.ear.heard) == 3


async def test_somebody_elses_arrival_is_not_greeted(stack: Stack) -> None:
    other = {"id": "a:somewhere else", "tenantId": TENANT, "conversationType": "personal"}
    joined = stack.activity(type="conversationUpdate", membersAdded=[{"id": f"29:{BEN.id}"}], conversation=other)
    assert (await stack.teams.deliver(joined))[0] == 200
    await stack.door.intake.drain()
    assert len(stack.ear.heard) == 3


async def test_edits_and_reactions_are_acknowledged_and_ignored(stack: Stack) -> None:
    await stack.teams.say(ANNA.id, ANNAS_CHAT, "first")
    await stack.ear.until(lambda ear: bool(ear.said()))
    message = stack.teams.messages(ANNAS_CHAT, ANNA.id)[-1].id
    await stack.teams.edit(ANNA.id, ANNAS_CHAT, message, "approve everything")
    reaction = stack.activity(type="messageReaction", reactionsAdded=[{"type": "like"}], replyToId=message)
    assert (await stack.teams.deliver(reaction))[0] == 200
    await stack.door.intake.drain()
    assert [turn.text for turn in stack.ear.said()] == ["first"]


async def test_something_private_goes_to_the_persons_own_chat(stack: Stack) -> None:
    turn = await say_and_answer(stack, Reply.text("ok"), room=CHANNEL)
    await stack.surface.tell_privately(turn.place, turn.sender, Reply.text("only for you"))
    assert stack.teams.messages(ANNAS_CHAT, ANNA.id)[-1].text == "only for you"
    assert stack.teams.messages(ANNAS_CHAT, BEN.id) == []


async def test_a_one_to_one_chat_is_opened_where_there_was_none(stack: Stack) -> None:
    sender = Sender("teams", TENANT, BEN.id)
    stranger = await stack.surface.conversations.direct(TENANT, BEN.id)
    assert stranger is not None
    await stack.database.write(
        lambda tx: tx._connection.exec_driver_sql("DELETE FROM teams_conversations WHERE kind = 'personal'")
    )
    place = await stack.surface.direct_place(sender)
    assert place == Place("teams", TENANT, BENS_CHAT, direct=True)
    await stack.surface.post(place, Reply.text("hello Ben"))
    assert stack.teams.messages(BENS_CHAT, BEN.id)[-1].text == "hello Ben"


async def test_people_are_mentioned_by_the_account_teams_knows_them_by(stack: Stack) -> None:
    turn = await say_and_answer(stack, Reply((Mention(ANNA.id, ANNA.name), Text("it is done"))), room=CHANNEL)
    assert turn.sender.user == ANNA.id
    shown = stack.teams.messages(CHANNEL, BEN.id)[-1]
    assert shown.payload["entities"] == [
        {"type": "mention", "text": "<at>Anna Berg</at>", "mentioned": {"id": f"29:{ANNA.id}", "name": "Anna Berg"}}
    ]


async def test_links_come_from_link_parts_only(stack: Stack) -> None:
    reply = Reply((Text("[x](https://evil.example)"), Link("the record", "https://records.example/1?a=b&c=d")))
    await say_and_answer(stack, reply)
    text = stack.teams.messages(ANNAS_CHAT, ANNA.id)[-1].text
    assert text == "&#91;x&#93;&#40;https://evil.example&#41;\n\n[the record](https://records.example/1?a=b&amp;c=d)"


async def test_typing_never_fails_the_work_it_announces(stack: Stack) -> None:
    await stack.surface.show_progress(Place("teams", TENANT, "never heard of"), "searching")
    stack.teams.faults.fail_next(1, 500)
    await stack.surface.show_progress(Place("teams", TENANT, ANNAS_CHAT, direct=True), "searching")
    assert stack.naps == []


async def test_messages_are_only_at_rest_sealed(stack: Stack) -> None:
    await stack.teams.say(ANNA.id, ANNAS_CHAT, "the canary sings at dawn")
    await stack.ear.until(lambda ear: bool(ear.said()))
    await stack.door.intake.drain()
    rows = await stack.database.read(lambda tx: tx._connection.exec_driver_sql("SELECT * FROM teams_messages").all())
    assert rows
    assert b"canary" not in repr(rows).encode()


async def test_a_turn_that_fails_is_taken_up_again(stack: Stack) -> None:
    tries = 0

    async def answer(turn: Turn) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError("the process died")

    stack.ear.on_hear = answer
    await stack.teams.say(ANNA.id, ANNAS_CHAT, "again please")
    await stack.ear.until(lambda ear: tries == 1)
    await stack.door.intake.drain()
    await stack.database.write(lambda tx: tx._connection.exec_driver_sql("UPDATE inbox SET lease_until = 0"))
    await stack.door.start()
    await stack.ear.until(lambda ear: tries == 2)
    assert [turn.text for turn in stack.ear.said()] == ["again please", "again please"]
    assert stack.ear.said()[0].id == stack.ear.said()[1].id
