"""The workbench acts as other people, so nothing but this machine's browser gets in."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette

from bot.workbench.page import Workbench
from tests.bot.workbench.double import CHANNEL, ROSA, DoublePlatform, DoubleTrace

SAY = {"platform": "slack", "person": ROSA.id, "room": CHANNEL, "text": "hello"}


@pytest.fixture
def platform() -> DoublePlatform:
    return DoublePlatform("slack")


@pytest.fixture
def app(platform: DoublePlatform) -> Starlette:
    return Starlette(routes=Workbench([platform], DoubleTrace().read).routes())


def browser(app: Starlette, *, peer: str = "127.0.0.1", host: str = "localhost:8080") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, client=(peer, 50_000))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST:1"])
async def test_a_browser_on_this_machine_gets_the_page(app: Starlette, host: str) -> None:
    async with browser(app, peer="::1") as client:
        answer = await client.get("/", headers={"host": host})
    assert answer.status_code == 200
    assert "<title>Countersign" in answer.text


@pytest.mark.parametrize("path", ["/", "/workbench/state", "/workbench/live", "/workbench/static/manifest.json"])
@pytest.mark.parametrize("peer", ["192.168.1.7", "10.0.0.1", "2001:db8::1", "unix"])
async def test_another_machine_is_refused_everywhere(app: Starlette, peer: str, path: str) -> None:
    async with browser(app, peer=peer) as client:
        answer = await client.get(path)
    assert answer.status_code == 403
    assert "machine that runs Countersign" in answer.text


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:8080", "0.0.0.0", ""])
async def test_a_foreign_name_for_this_machine_is_refused(app: Starlette, host: str) -> None:
    async with browser(app) as client:
        answer = await client.get("/workbench/state", headers={"host": host})
    assert answer.status_code == 403


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Host"])
async def test_what_came_through_a_proxy_is_refused(app: Starlette, header: str) -> None:
    async with browser(app) as client:
        answer = await client.get("/workbench/state", headers={header: "127.0.0.1"})
    assert answer.status_code == 403
    assert "proxy" in answer.text


async def test_a_message_from_the_page_itself_is_taken(app: Starlette, platform: DoublePlatform) -> None:
    async with browser(app) as client:
        headers = {"origin": "http://localhost:8080", "sec-fetch-site": "same-origin"}
        answer = await client.post("/workbench/say", json=SAY, headers=headers)
    assert answer.status_code == 200
    assert [message.text for message in platform.held.values()] == ["hello"]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
        {"origin": "https://localhost:8080"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": ""},
    ],
)
async def test_a_message_from_elsewhere_in_the_browser_changes_nothing(
    app: Starlette, platform: DoublePlatform, headers: dict[str, str]
) -> None:
    async with browser(app) as client:
        answer = await client.post("/workbench/say", json=SAY, headers={"content-type": "application/json", **headers})
    assert answer.status_code == 403
    assert platform.held == {}


async def test_every_answer_forbids_foreign_content_framing_and_guessing(app: Starlette) -> None:
    async with browser(app) as client, browser(app, peer="10.0.0.1") as stranger:
        answers = [await client.get("/"), await client.get("/workbench/state"), await stranger.get("/")]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script-src" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
