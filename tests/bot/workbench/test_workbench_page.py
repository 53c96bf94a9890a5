"""The page's API passes what a person does to the platform, and what the platform holds to the page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from bot.workbench.live import LiveStreams
from bot.workbench.page import TEXT_LIMIT, Workbench
from tests.bot.workbench.double import AMIR, CHANNEL, ROSA, TITLE, DoublePlatform, DoubleTrace
from tests.browser.server import LocalServer


@pytest.fixture
def trace() -> DoubleTrace:
    return DoubleTrace()


@pytest.fixture
def platform(trace: DoubleTrace) -> DoublePlatform:
    return DoublePlatform("slack", trace=trace)


@pytest.fixture
async def client(platform: DoublePlatform, trace: DoubleTrace) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=Workbench([platform, DoublePlatform("teams")], trace.read).routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost:8080") as client:
        yield client


def said(text: str, **changes: Any) -> dict[str, Any]:
    return {"platform": "slack", "person": ROSA.id, "room": CHANNEL, "text": text, **changes}


async def seen(client: httpx.AsyncClient, person: str = ROSA.id, room: str = CHANNEL) -> dict[str, Any]:
    answer = await client.get("/workbench/messages", params={"platform": "slack", "room": room, "person": person})
    assert answer.status_code == 200
    view: dict[str, Any] = answer.json()
    return view


async def test_the_state_lists_platforms_people_and_each_persons_rooms(client: httpx.AsyncClient) -> None:
    state = (await client.get("/workbench/state")).json()
    slack, teams = state["platforms"]
    assert (slack["name"], teams["name"]) == ("slack", "teams")
    assert [person["name"] for person in slack["people"]] == ["Rosa Blum", "Amir Haddad"]
    assert [room["direct"] for room in slack["rooms"][AMIR.id]] == [False, True]


async def test_what_a_person_writes_and_the_answer_are_among_the_messages(client: httpx.AsyncClient) -> None:
    assert (await client.post("/workbench/say", json=said("@Countersign close TCK-1"))).status_code == 200
    written, answered = (await seen(client))["messages"]
    assert written["author_name"] == "Rosa Blum"
    assert answered["thread"] == written["id"]
    assert answered["from_assistant"]
    assert any(TITLE in str(block) for block in answered["payload"]["blocks"])


async def test_a_reply_goes_under_the_message_it_answers(client: httpx.AsyncClient) -> None:
    await client.post("/workbench/say", json=said("first"))
    root = (await seen(client))["messages"][0]["id"]
    await client.post("/workbench/say", json=said("second", thread=root))
    assert (await seen(client))["messages"][1]["thread"] == root


async def test_a_private_message_is_shown_to_its_person_only(client: httpx.AsyncClient) -> None:
    await client.post("/workbench/say", json=said("/countersign help"))
    assert [message["only_for"] for message in (await seen(client))["messages"]] == [ROSA.id]
    assert (await seen(client, AMIR.id))["messages"] == []


async def press(client: httpx.AsyncClient, person: str, verb: str) -> httpx.Response:
    message = (await seen(client, person))["messages"][-1]
    buttons = [element for block in message["payload"]["blocks"] for element in block.get("elements", [])]
    action = next(button for button in buttons if button.get("action_id", "").startswith(verb))
    return await client.post(
        "/workbench/press",
        json={"platform": "slack", "person": person, "room": CHANNEL, "message": message["id"], "action": action},
    )


async def test_a_press_reaches_the_platform_as_its_own_json(
    client: httpx.AsyncClient, platform: DoublePlatform
) -> None:
    await client.post("/workbench/say", json=said("@Countersign close TCK-1"))
    answer = await press(client, AMIR.id, "approve")
    assert answer.json() == {"notice": "Recorded."}
    assert platform.pressed[0]["value"] == "n-approve"
    assert "approved by Amir Haddad" in str((await seen(client))["messages"][-1]["payload"])


async def test_a_refused_press_is_told_in_the_platforms_words(client: httpx.AsyncClient) -> None:
    await client.post("/workbench/say", json=said("@Countersign close TCK-1"))
    answer = await press(client, ROSA.id, "approve")
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "You asked for this, so somebody else has to sign it."


async def test_an_open_modal_comes_with_the_messages_and_takes_values(
    client: httpx.AsyncClient, platform: DoublePlatform
) -> None:
    await client.post("/workbench/say", json=said("@Countersign close TCK-1"))
    await press(client, AMIR.id, "deny")
    assert (await seen(client))["modal"] is None
    assert (await seen(client, AMIR.id))["modal"]["blocks"][0]["block_id"] == "reason"
    submitted = {"platform": "slack", "person": AMIR.id, "values": {"reason": "Not yet"}}
    assert (await client.post("/workbench/modal", json=submitted)).status_code == 200
    assert (await seen(client, AMIR.id))["modal"] is None
    assert platform.submitted == [{"reason": "Not yet"}]


async def test_closing_a_modal_sends_no_values(client: httpx.AsyncClient, platform: DoublePlatform) -> None:
    await client.post("/workbench/say", json=said("@Countersign close TCK-1"))
    await press(client, AMIR.id, "details")
    await client.post("/workbench/modal", json={"platform": "slack", "person": AMIR.id, "values": None})
    assert platform.submitted == [None]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"platform": "irc"}, 404),
        ({"person": "U0NOBODY"}, 404),
        ({"room": f"D{AMIR.id}"}, 404),
        ({"text": "   "}, 422),
        ({"text": "x" * (TEXT_LIMIT + 1)}, 422),
        ({"text": 7}, 422),
        ({"as_admin": True}, 422),
        ({"text": "x" * 70_000}, 413),
    ],
)
async def test_what_makes_no_sense_is_refused_with_a_reason(
    client: httpx.AsyncClient, platform: DoublePlatform, changes: dict[str, Any], status: int
) -> None:
    answer = await client.post("/workbench/say", json=said("hello") | changes)
    assert answer.status_code == status
    assert answer.json()["detail"]
    assert platform.held == {}


async def test_a_person_cannot_look_into_another_ones_direct_room(client: httpx.AsyncClient) -> None:
    query = {"platform": "slack", "room": f"D{AMIR.id}", "person": ROSA.id}
    assert (await client.get("/workbench/messages", params=query)).status_code == 404


async def test_the_trace_is_read_from_where_the_page_is(client: httpx.AsyncClient, trace: DoubleTrace) -> None:
    for number in range(3):
        trace.add("heard", f"Step {number}.", approval="apr-1")
    entries = (await client.get("/workbench/trace", params={"after": 1})).json()["entries"]
    assert [entry["text"] for entry in entries] == ["Step 1.", "Step 2."]
    assert entries[0]["approval_id"] == "apr-1"
    assert entries[0]["at"].endswith("+00:00")


@pytest.mark.parametrize("after", ["-1", "x", "9" * 40])
@pytest.mark.parametrize("path", ["trace", "live"])
async def test_a_trace_position_that_is_no_number_is_refused(client: httpx.AsyncClient, path: str, after: str) -> None:
    assert (await client.get(f"/workbench/{path}", params={"after": after})).status_code == 422


async def next_event(stream: AsyncIterator[str]) -> tuple[str, Any]:
    async with asyncio.timeout(5):
        event = await anext(stream)
    name, data = event.splitlines()[:2]
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def test_a_connected_page_hears_of_rooms_modals_and_steps() -> None:
    trace = DoubleTrace()
    platform = DoublePlatform("slack", trace=trace)
    streams = LiveStreams([platform], trace.read)
    stream = streams.events(0)
    assert await next_event(stream) == ("hello", {})
    changed = asyncio.ensure_future(next_event(stream))
    await platform.watched.wait()
    await platform.say(ROSA.id, CHANNEL, "hello")
    assert await changed == ("room", {"platform": "slack", "room": CHANNEL})
    trace.add("heard", "A step.")
    assert await next_event(stream) == ("trace", {"last": 1})
    await stream.aclose()  # type: ignore[attr-defined]


async def test_nothing_is_watched_while_no_page_is_connected() -> None:
    trace = DoubleTrace()
    platform = DoublePlatform("slack", trace=trace)
    streams = LiveStreams([platform], trace.read)
    assert trace.reads == 0
    stream = streams.events(0)
    await next_event(stream)
    waiting = asyncio.ensure_future(next_event(stream))
    await platform.watched.wait()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not platform.watched.is_set()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_page_that_goes_away_is_watched_for_no_longer() -> None:
    platform = DoublePlatform("slack")
    workbench = Workbench([platform], DoubleTrace().read)
    async with LocalServer(Starlette(routes=workbench.routes())) as server, httpx.AsyncClient() as browser:
        async with browser.stream("GET", f"{server.url}/workbench/live") as stream:
            assert await anext(stream.aiter_lines()) == "event: hello"
            await platform.watched.wait()
        async with asyncio.timeout(5):
            await platform.unwatched.wait()


async def test_closing_ends_an_open_stream() -> None:
    streams = LiveStreams([DoublePlatform("slack")], DoubleTrace().read)
    stream = streams.events(0)
    await next_event(stream)
    streams.close()
    with pytest.raises(StopAsyncIteration):
        await next_event(stream)


async def test_a_trace_that_cannot_be_read_for_a_moment_does_not_end_the_stream() -> None:
    trace = DoubleTrace()
    trace.add("heard", "A step.")
    failures = iter([OSError("the database is busy")])

    async def read(after: int, limit: int) -> list[Any]:
        for failure in failures:
            raise failure
        return await trace.read(after, limit)

    stream = LiveStreams([], read).events(0)
    await next_event(stream)
    assert await next_event(stream) == ("trace", {"last": 1})
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_platform_that_cannot_be_watched_ends_the_stream_so_that_the_page_reconnects() -> None:
    class Broken(DoublePlatform):
        async def changes(self) -> AsyncIterator[str]:
            raise RuntimeError("lost")
            yield ""

    stream = LiveStreams([Broken("slack"), DoublePlatform("teams")], DoubleTrace().read).events(0)
    await next_event(stream)
    with pytest.raises(StopAsyncIteration):
        await next_event(stream)
