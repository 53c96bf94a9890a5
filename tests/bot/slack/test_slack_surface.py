"""The surface shows what it is given, in the right place, and says plainly when Slack would not."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta

import pytest

from bot.slack.web_api import SlackCallFailed, SlackWebApi
from bot.workbench.slack_web import Fault
from handlers.card import Button, Card, Text, Verbatim
from handlers.reply import Reply
from handlers.surface import SurfaceUnavailable
from handlers.turn import Place, Sender
from tests.bot.slack.conftest import ANA, BEN, TEAM, TOKEN, World

LONG = "\n".join(f"{number}: every single argument is shown" for number in range(900))


def channel(world: World, thread: str | None = None) -> Place:
    return Place("slack", TEAM, world.slack.channel, thread=thread)


async def test_a_post_is_quiet_and_has_a_plain_text(world: World) -> None:
    ref = await world.surface.post(channel(world), Reply.text("Hello <!channel> & all"))
    method, sent = world.slack.web.calls[-1]
    assert method == "chat.postMessage"
    assert sent["text"] == "Hello &lt;!channel&gt; &amp; all"
    assert (sent["unfurl_links"], sent["unfurl_media"], sent["link_names"]) == (False, False, False)
    assert "token" not in sent
    assert world.seen(ANA)[0].id == ref.message_id


async def test_an_update_replaces_and_is_idempotent(world: World) -> None:
    ref = await world.surface.post(channel(world), Reply.text("On it."))
    for _ in range(2):
        await world.surface.update(ref, Reply.text("Done."))
    (message,) = world.seen(ANA)
    assert message.text == "Done."
    assert message.edited


async def test_a_long_answer_is_posted_whole_and_drawn_again_without_doubling(world: World) -> None:
    await world.say(ANA, "@Countersign everything")
    place = world.listener.heard[0].place
    ref = await world.surface.post(place, Reply.text("On it."))
    for _ in range(3):
        await world.surface.update(ref, Reply(parts=(Verbatim(LONG),)))
    answers = [message for message in world.seen(ANA) if message.from_assistant]
    assert len(answers) > 2
    assert answers[0].id == ref.message_id
    assert all(message.thread == place.thread for message in answers)
    everything = "".join(str(message.payload) for message in answers)
    assert everything.count("899: every single argument is shown") == 1
    assert everything.count("0: every single argument is shown\\n1: every") == 1


async def test_a_long_card_keeps_its_buttons_where_they_can_be_taken_away(world: World) -> None:
    card = Card("Plan", (Verbatim(LONG),), (Button("approve", "Approve", "nonce"),))
    ref = await world.surface.post(channel(world), Reply(card=card))
    posted = world.seen(ANA)
    assert len(posted) > 2
    assert posted[-1].id == ref.message_id
    assert "nonce" in str(posted[-1].payload)
    await world.surface.update(ref, Reply(card=card))
    assert len(world.seen(ANA)) == len(posted)
    await world.surface.update(ref, Reply(card=Card("Plan", (Text("Approved"),))))
    assert "nonce" not in "".join(str(message.payload) for message in world.seen(ANA))


async def test_an_ephemeral_is_for_one_person(world: World) -> None:
    await world.surface.tell_privately(channel(world), Sender("slack", TEAM, BEN.id), Reply.text("Not yours to sign."))
    assert [message.text for message in world.seen(BEN)] == ["Not yours to sign."]
    assert world.seen(ANA) == []


async def test_a_thread_is_read_with_names_and_across_pages(world: World) -> None:
    await world.say(ANA, "the printer &amp; the fax are on fire")
    root = world.seen(ANA)[0].id
    for number in range(250):
        world.slack.workspace.add(world.slack.channel, {"user": BEN.id, "text": f"answer {number}", "thread_ts": root})
    await world.surface.post(channel(world, root), Reply.text("Ticket made."))
    await world.surface.tell_privately(channel(world, root), Sender("slack", TEAM, BEN.id), Reply.text("secret"))
    read = await world.surface.read_thread(channel(world, root), limit=1_000)
    assert len(read) == 252
    assert (read[0].author, read[0].from_assistant) == ("Ana", False)
    assert (read[-1].text, read[-1].from_assistant) == ("Ticket made.", True)
    assert [message.text for message in await world.surface.read_thread(channel(world, root), limit=2)] == [
        "answer 249",
        "Ticket made.",
    ]


async def test_a_conversation_without_a_thread_is_read_oldest_first(world: World) -> None:
    for text in ("one", "two", "three"):
        await world.say(ANA, text)
    read = await world.surface.read_thread(channel(world), limit=2)
    assert [message.text for message in read] == ["two", "three"]
    assert read[0].at < read[1].at


async def test_a_direct_conversation_is_opened(world: World) -> None:
    place = await world.surface.direct_place(Sender("slack", TEAM, BEN.id))
    assert place == Place("slack", TEAM, world.direct(BEN), direct=True)
    with pytest.raises(SurfaceUnavailable, match=r"conversations\.open failed: user_not_found"):
        await world.surface.direct_place(Sender("slack", TEAM, "U0NOBODY"))


async def test_progress_is_the_threads_status_and_never_fails(world: World) -> None:
    await world.say(ANA, "@Countersign hello")
    place = world.listener.heard[0].place
    await world.surface.show_progress(place, "searching tickets")
    assert world.slack.workspace.statuses[place.conversation, str(place.thread)] == "searching tickets"
    world.slack.web.fail("assistant.threads.setStatus", Fault(times=1, status=500))
    await world.surface.show_progress(place, "still searching")
    await world.surface.show_progress(channel(world), "nowhere to show it")


async def waits(world: World) -> tuple[SlackWebApi, list[float]]:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    return SlackWebApi(world.settings.api_url, TOKEN, sleep=sleep), waited


async def test_a_rate_limit_is_waited_out_as_slack_asks(world: World) -> None:
    api, waited = await waits(world)
    world.slack.web.fail("chat.postMessage", Fault(times=2, status=429, retry_after=7))
    await api.call("chat.postMessage", {"channel": world.slack.channel, "text": "hello"})
    assert waited == [7.0, 7.0]
    assert len(world.seen(ANA)) == 1
    await api.close()


async def test_a_rate_limit_without_end_is_given_up(world: World) -> None:
    api, waited = await waits(world)
    world.slack.web.fail("chat.postMessage", Fault(times=100, status=429, retry_after=9))
    with pytest.raises(SlackCallFailed, match=r"Slack chat\.postMessage failed: ratelimited"):
        await api.call("chat.postMessage", {"channel": world.slack.channel, "text": "hello"})
    assert sum(waited) <= 30
    await api.close()


async def test_a_server_error_is_retried_and_then_reported(world: World) -> None:
    api, waited = await waits(world)
    world.slack.web.fail("chat.update", Fault(times=2, status=503))
    with pytest.raises(SlackCallFailed) as refused:
        await api.call("chat.update", {"channel": world.slack.channel, "ts": "1.1", "text": "x"})
    assert refused.value.code == "message_not_found"
    world.slack.web.fail("chat.update", Fault(times=3, status=500))
    with pytest.raises(SlackCallFailed, match="http_500"):
        await api.call("chat.update", {"channel": world.slack.channel, "ts": "1.1", "text": "x"})
    assert len(waited) == 4
    await api.close()


async def test_an_error_of_slack_names_method_and_code(world: World) -> None:
    with pytest.raises(SurfaceUnavailable, match=r"^Slack chat\.postMessage failed: channel_not_found$"):
        await world.surface.post(Place("slack", TEAM, "C0NOWHERE"), Reply.text("hello"))


async def test_a_wrong_token_is_refused_and_never_repeated_in_the_error(world: World) -> None:
    api = SlackWebApi(world.settings.api_url, "xoxb-wrong-token")
    with pytest.raises(SlackCallFailed, match="invalid_auth") as refused:
        await api.call("auth.test", {})
    assert "xoxb" not in str(refused.value)
    await api.close()


async def test_a_post_whose_answer_is_lost_is_not_repeated() -> None:
    """Twice is worse than a reported failure: the caller knows what it still owes."""
    asked = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.read(65_536)
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    api = SlackWebApi(f"http://127.0.0.1:{port}/api/", TOKEN, timeout=timedelta(seconds=2))
    with pytest.raises(SlackCallFailed):
        await api.call("chat.postMessage", {"channel": "C1", "text": "x"})
    assert asked == 1
    await api.close()
    server.close()


async def test_a_slack_that_cannot_be_reached_is_reported() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    api = SlackWebApi(f"http://127.0.0.1:{port}/api/", TOKEN, sleep=sleep)
    with pytest.raises(SurfaceUnavailable, match=r"chat\.postMessage"):
        await api.call("chat.postMessage", {"channel": "C1", "text": "x"})
    assert waited == [0.3, 0.6]
    await api.close()
