"""Calling Teams: bounded retries, one token for many calls, and our token on allow-listed hosts only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import RSAAlgorithm
from teams_stack import ANNA, ANNAS_CHAT, CHANNEL, TENANT, Stack, new_key_pem, say_and_answer, teams_settings

from bot.teams.connector import Connector, NotFound
from bot.teams.hosts import service_allowed
from bot.teams.keys import KeyUnknown, SigningKeys
from bot.teams.tokens import ServiceToken, TokenUnavailable
from bot.teams.verification import Peer, Refused, Verifier
from handlers.reply import Reply
from handlers.surface import MessageRef, SurfaceUnavailable
from handlers.turn import Place

CHAT = Place("teams", TENANT, ANNAS_CHAT, direct=True)


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A server that answers every request by a function; yields its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_failing_service_is_tried_again(stack: Stack) -> None:
    stack.teams.faults.fail_next(2, 503)
    await stack.surface.post(CHAT, Reply.text("through"))
    assert [message.text for message in stack.teams.messages(ANNAS_CHAT, ANNA.id)] == ["through"]
    assert len(stack.naps) == 2
    assert stack.naps[0] < stack.naps[1]


async def test_a_rate_limit_is_waited_out_as_long_as_the_service_says(stack: Stack) -> None:
    stack.teams.faults.fail_next(1, 429, retry_after=3)
    await stack.surface.post(CHAT, Reply.text("through"))
    assert stack.naps == [3.0]


async def test_tries_are_bounded_and_waits_too(stack: Stack) -> None:
    stack.teams.faults.fail_next(50, 429, retry_after=3600)
    with pytest.raises(SurfaceUnavailable, match="send: the service answered 429"):
        await stack.surface.post(CHAT, Reply.text("lost"))
    assert len(stack.naps) == 3
    assert max(stack.naps) <= 5


async def test_a_refusal_is_not_tried_again(stack: Stack) -> None:
    stack.teams.faults.fail_next(1, 403)
    with pytest.raises(SurfaceUnavailable, match="403"):
        await stack.surface.post(CHAT, Reply.text("lost"))
    assert stack.naps == []


async def test_a_message_that_is_gone_cannot_be_updated(stack: Stack) -> None:
    with pytest.raises(NotFound):
        await stack.surface.update(MessageRef(CHAT, "1"), Reply.text("?"))


async def test_a_deleted_message_disappears(stack: Stack) -> None:
    ref = await stack.surface.post(CHAT, Reply.text("soon gone"))
    await stack.surface.connector.delete(stack.teams.service_url, ANNAS_CHAT, ref.message_id)
    assert stack.teams.messages(ANNAS_CHAT, ANNA.id) == []


async def test_a_place_we_were_never_told_of_is_unavailable(stack: Stack) -> None:
    with pytest.raises(SurfaceUnavailable, match="never told"):
        await stack.surface.post(Place("teams", TENANT, "19:elsewhere"), Reply.text("?"))


async def test_one_token_serves_many_calls_and_a_refused_one_is_renewed(stack: Stack) -> None:
    stack.teams.faults.calls.clear()
    for number in range(3):
        await stack.surface.post(CHAT, Reply.text(str(number)))
    stack.teams.faults.fail_next(1, 401)
    await stack.surface.post(CHAT, Reply.text("again"))
    assert len(stack.teams.messages(ANNAS_CHAT, ANNA.id)) == 4
    assert stack.naps == []


async def test_the_token_is_not_sent_off_the_allow_list_nor_after_a_redirect() -> None:
    seen: list[str] = []

    async def other(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        return web.json_response({"id": "1"})

    async def service(request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            return web.json_response({"access_token": "secret", "expires_in": 3600})
        raise web.HTTPTemporaryRedirect(f"{elsewhere}{request.path}")

    async with serving(other) as elsewhere, serving(service) as here:
        connector = Connector(teams_settings(token_url=f"{here}/token"))
        with pytest.raises(SurfaceUnavailable, match="307"):
            await connector.send(here, "c", {"type": "message"})
        closed = Connector(teams_settings(token_url=f"{here}/token", local=False))
        with pytest.raises(SurfaceUnavailable, match="allow-list"):
            await closed.send(elsewhere, "c", {"type": "message"})
        await connector.close()
        await closed.close()
    assert seen == []


async def test_a_token_is_asked_for_once_by_many_and_renewed_before_it_ends() -> None:
    asked = 0
    now = 0.0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.json_response({"access_token": f"token {asked}", "expires_in": 3600})

    async with serving(answer) as url, aiohttp.ClientSession() as session:
        token = ServiceToken(token_url=url, app_id="a", app_password="b", clock=lambda: now)
        assert set(await asyncio.gather(*(token.value(session) for _ in range(5)))) == {"token 1"}
        now = 3299.0
        assert await token.value(session) == "token 1"
        now = 3301.0
        assert await token.value(session) == "token 2"


async def test_a_token_service_that_refuses_says_so_without_its_answer() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=401, text="the client secret is hunter2")

    async with serving(answer) as url, aiohttp.ClientSession() as session:
        token = ServiceToken(token_url=url, app_id="a", app_password="b")
        with pytest.raises(TokenUnavailable) as problem:
            await token.value(session)
    assert str(problem.value) == "the token service answered 401"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://smba.trafficmanager.net/emea/", True),
        ("https://SMBA.trafficmanager.net/emea/", True),
        ("https://eu.botframework.com/", True),
        ("https://botframework.com/", False),
        ("https://evilbotframework.com/", False),
        ("https://smba.trafficmanager.net.evil.example/", False),
        ("https://evil.example/smba.trafficmanager.net", False),
        ("https://smba.trafficmanager.net@evil.example/", False),
        ("https://smba.trafficmanager.net\\@evil.example/", False),
        ("https://smba.trafficmanager.net:444/", False),
        ("https://smba.trafficmanager.net:443/", True),
        ("http://smba.trafficmanager.net/", False),
        ("ftp://smba.trafficmanager.net/", False),
        ("https://smba.trafficmanager.nеt/", False),
        ("http://127.0.0.1:8080/", False),
        ("https://[::1]/", False),
        ("https://[", False),
        ("", False),
    ],
)
def test_service_hosts_are_compared_whole(url: str, allowed: bool) -> None:
    settings = teams_settings(local=False, service_hosts=("smba.trafficmanager.net", "*.botframework.com"))
    assert service_allowed(settings, url) is allowed


def test_loopback_is_a_service_host_only_beside_a_local_platform() -> None:
    local = teams_settings()
    for url in ("http://127.0.0.1:8080/", "http://localhost:56150/", "http://[::1]:1/"):
        assert service_allowed(local, url)
        assert not service_allowed(replace(local, local=False), url)
    assert not service_allowed(local, "http://127.0.0.1.evil.example/")


class Publisher:
    """A metadata server whose keys change and that can be away."""

    def __init__(self) -> None:
        self.keys: dict[str, bytes] = {}
        self.fetches = 0
        self.away = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.away:
            return web.Response(status=503)
        if request.path == "/metadata":
            self.fetches += 1
            return web.json_response({"jwks_uri": str(request.url.with_path("/keys"))})
        published = []
        for kid, pem in self.keys.items():
            key = load_pem_private_key(pem, None)
            assert isinstance(key, RSAPrivateKey)
            published.append({**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid})
        return web.json_response({"keys": [{"kty": "EC", "kid": "another kind"}, "nonsense", *published]})


async def test_a_new_key_is_found_and_unknown_ids_cost_one_fetch_a_minute(key_pem: bytes) -> None:
    publisher = Publisher()
    publisher.keys["one"] = key_pem
    now = 0.0
    async with serving(publisher.answer) as url:
        keys = SigningKeys(f"{url}/metadata", clock=lambda: now)
        await asyncio.gather(*(keys.get("one") for _ in range(5)))
        assert publisher.fetches == 1
        publisher.keys["two"] = new_key_pem()
        for _ in range(10):
            with pytest.raises(KeyUnknown):
                await keys.get("two")
        assert publisher.fetches == 1
        now = 61.0
        assert (await keys.get("two")).public_key is not None
        assert publisher.fetches == 2
        await keys.close()


async def test_keys_outlive_an_absent_metadata_server(key_pem: bytes) -> None:
    publisher = Publisher()
    publisher.keys["one"] = key_pem
    now = 0.0
    async with serving(publisher.answer) as url:
        keys = SigningKeys(f"{url}/metadata", clock=lambda: now)
        await keys.get("one")
        publisher.away = True
        now = 25 * 3600.0
        assert (await keys.get("one")).endorsements == []
        with pytest.raises(KeyUnknown):
            await keys.get("two")
        assert (await keys.get("one")).endorsements == []
        await keys.close()


async def test_without_any_key_everything_is_unknown() -> None:
    keys = SigningKeys("http://127.0.0.1:1/metadata")
    with pytest.raises(KeyUnknown):
        await keys.get("one")


async def test_a_key_that_may_not_sign_for_teams_is_refused(stack: Stack) -> None:
    published = stack.teams.identity.keys
    stack.teams.identity.keys = lambda: {  # type: ignore[method-assign]
        "keys": [{**published()["keys"][0], "kid": "webchat's", "endorsements": ["webchat"]}]
    }
    # The door has fetched keys already, so a fresh one is asked.
    verifier = Verifier(stack.settings, SigningKeys(stack.teams.openid_metadata))
    with pytest.raises(Refused) as refused:
        await verifier.verify(stack.bearer(kid="webchat's"), stack.activity(), Peer("127.0.0.1", False))
    assert refused.value.status == 401


async def test_the_channels_thread_is_addressed_by_its_root(stack: Stack) -> None:
    turn = await say_and_answer(stack, Reply.text("here"), room=CHANNEL)
    method, path = stack.teams.faults.calls[-1]
    assert method == "POST"
    assert path.endswith(f"/v3/conversations/{CHANNEL};messageid={turn.place.thread}/activities")
