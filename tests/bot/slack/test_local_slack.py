"""The local Slack behaves as Slack does where the product depends on it."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from bot.workbench.platform import LocalPlatform, PressRefused
from bot.workbench.slack_platform import API_PATH, LocalSlack
from handlers.reply import Reply
from handlers.turn import Place
from tests.bot.slack.conftest import ANA, BEN, BOT, SECRET, TEAM, TOKEN, World


def another(state_file, clock=None) -> LocalSlack:
    extra = {} if clock is None else {"clock": clock}
    return LocalSlack(
        signing_secret=SECRET, bot_token=TOKEN, team_id=TEAM, bot_user_id=BOT, people=[ANA, BEN],
        events_url="http://127.0.0.1:9/slack/events", state_file=state_file, **extra,
    )  # fmt: skip


async def api(world: World, method: str, arguments: dict, token: str | None = TOKEN) -> dict:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient() as client:
        answer = await client.post(world.settings.api_url + method, json=arguments, headers=headers)
    return answer.json()


async def test_the_api_wants_the_bots_token_and_knows_its_methods(world: World) -> None:
    assert (await api(world, "auth.test", {}, token=None))["error"] == "not_authed"
    assert (await api(world, "auth.test", {}, token="xoxb-other"))["error"] == "invalid_auth"
    assert (await api(world, "auth.test", {}))["user_id"] == BOT
    assert (await api(world, "chat.meMessage", {}))["error"] == "unknown_method"
    assert API_PATH == "/workbench/slack/api/"


async def test_blocks_that_slack_refuses_are_refused(world: World) -> None:
    button = {"type": "button", "action_id": "a", "value": "1", "text": {"type": "plain_text", "text": "x"}}
    for blocks in (
        [{"type": "section"}],
        [{"type": "nonsense"}],
        [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}],
        [{"type": "divider"}] * 51,
        [{"type": "actions", "elements": [button, button]}],
    ):
        answer = await api(world, "chat.postMessage", {"channel": world.slack.channel, "text": "x", "blocks": blocks})
        assert answer == {"ok": False, "error": "invalid_blocks"}, blocks[0]
    assert world.seen(ANA) == []


async def test_messages_outlive_a_restart(world: World, tmp_path) -> None:
    await world.say(ANA, "@Countersign remember this")
    await world.surface.post(Place("slack", TEAM, world.slack.channel), Reply.text("I will."))
    await world.slack.workspace.flush()
    restarted = another(tmp_path / "slack.json")
    await restarted.start()
    assert list(restarted.messages(world.slack.channel, BEN.id)) == world.seen(BEN)
    await restarted.close()


async def test_a_person_sees_the_channel_and_only_their_own_direct_messages(world: World) -> None:
    platform: LocalPlatform = world.slack
    assert [room.name for room in platform.rooms(ANA.id)] == ["#support", "Countersign"]
    await world.say(ANA, "hello", room=world.direct(ANA))
    assert world.seen(BEN, world.direct(ANA)) == []
    with pytest.raises(PressRefused):
        await world.slack.say(BEN.id, world.direct(ANA), "let me in")


async def test_a_trigger_works_once_and_for_three_seconds() -> None:
    now = 1_700_000_000.0
    slack = another(None, clock=lambda: now)
    view = {
        "type": "modal",
        "title": {"type": "plain_text", "text": "x"},
        "blocks": [{"type": "section", "text": {"type": "plain_text", "text": "x"}}],
    }

    def open_with(trigger: str) -> dict:
        return slack.web.call("views.open", {"trigger_id": trigger, "view": dict(view)})

    trigger, late = slack.workspace.trigger(ANA.id), slack.workspace.trigger(ANA.id)
    assert open_with("1.2.invented")["error"] == "invalid_trigger_id"
    assert open_with(trigger)["ok"]
    assert open_with(trigger)["error"] == "exchanged_trigger_id"
    now += 3.1
    assert open_with(late)["error"] == "expired_trigger_id"


async def test_live_pages_hear_of_changes(world: World) -> None:
    changes = world.slack.changes()
    waiting = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    await world.say(ANA, "hello")
    assert await waiting == world.slack.channel
    await changes.aclose()


async def test_messages_have_their_own_growing_ids_at_one_instant() -> None:
    slack = another(None, clock=lambda: 1_700_000_000.0)
    moments = [slack.workspace.add(slack.channel, {"user": ANA.id, "text": "x"})["ts"] for _ in range(3)]
    assert moments == ["1700000000.000000", "1700000000.000001", "1700000000.000002"]
