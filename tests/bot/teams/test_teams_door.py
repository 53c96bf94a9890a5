"""Who is let in: every forgery is refused with 401 or 403, stores nothing, and is never an error of ours."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from sqlalchemy import func, select
from teams_stack import ANNA, ANNAS_CHAT, APP_ID, TENANT, Stack, new_key_pem, running_stack

from bot.teams.keys import SigningKey, SigningKeys
from bot.teams.verification import Peer, Refused, Verifier
from handlers.turn import Place
from records.inbox import inbox


async def stored(stack: Stack) -> int:
    """How many events the inbox holds."""
    return int(await stack.database.read(lambda tx: tx.execute(select(func.count()).select_from(inbox)).scalar_one()))


async def refused(stack: Stack, activity: dict[str, Any], authorization: str | None = None) -> int:
    """Deliver something that must not be taken; returns the status."""
    before = await stored(stack)
    header = stack.bearer() if authorization is None else authorization
    status, _ = await stack.teams.deliver(activity, authorization=header)
    await stack.door.intake.drain()
    assert await stored(stack) == before
    assert stack.ear.said() == []
    assert stack.ear.clicked == []
    return status


async def test_a_well_signed_activity_is_taken(stack: Stack) -> None:
    before = await stored(stack)
    assert (await stack.teams.deliver(stack.activity(), authorization=stack.bearer()))[0] == 200
    assert await stored(stack) == before + 1


async def test_no_token_is_refused(stack: Stack) -> None:
    assert await refused(stack, stack.activity(), "") == 401


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer x", "Bearer a.b.c", "Basic abc", "Bearer " + "A" * 20_000, "Bearer ÿ.ÿ.ÿ"]
)
async def test_garbage_is_refused(stack: Stack, header: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{stack.url}/api/messages", json=stack.activity(), headers={"Authorization": header}) as response,
    ):
        assert response.status in (400, 401)  # 400 is the server's own answer to a header line that is too long


async def test_an_expired_token_is_refused(stack: Stack) -> None:
    assert await refused(stack, stack.activity(), stack.bearer(exp=int(time.time()) - 301)) == 401


async def test_a_token_not_yet_valid_is_refused(stack: Stack) -> None:
    later = int(time.time()) + 900
    assert await refused(stack, stack.activity(), stack.bearer(nbf=later, exp=later + 600)) == 401


async def test_a_token_that_never_ends_is_refused(stack: Stack) -> None:
    assert await refused(stack, stack.activity(), stack.bearer(exp=None)) == 401


async def test_a_token_by_another_key_is_refused(stack: Stack) -> None:
    assert await refused(stack, stack.activity(), stack.bearer(key=new_key_pem())) == 401


async def test_a_token_by_an_unknown_key_id_is_refused(stack: Stack) -> None:
    assert await refused(stack, stack.activity(), stack.bearer(kid="nobody's")) == 401


async def test_a_token_without_a_key_id_is_refused(stack: Stack) -> None:
    token = jwt.encode(stack.claims(), stack.key_pem, algorithm="RS256")
    assert await refused(stack, stack.activity(), f"Bearer {token}") == 401


async def test_a_token_signed_with_a_shared_secret_is_refused(stack: Stack) -> None:
    header = stack.bearer(key="a shared secret of thirty-two bytes or more", algorithm="HS256")
    assert await refused(stack, stack.activity(), header) == 401


async def test_an_unsigned_token_is_refused(stack: Stack) -> None:
    token = jwt.encode(stack.claims(), "", algorithm="none", headers={"kid": stack.teams.identity.key_id})
    assert await refused(stack, stack.activity(), f"Bearer {token}") == 401


async def test_another_rsa_algorithm_is_refused(stack: Stack) -> None:
    assert await refused(stack, stack.activity(), stack.bearer(algorithm="RS512")) == 401


@pytest.mark.parametrize("issuer", [None, "", "https://evil.example", ["https://api.botframework.com"], {"a": 1}])
async def test_another_issuer_or_none_is_refused(stack: Stack, issuer: Any) -> None:
    payload = {**stack.claims(iss=None), **({} if issuer is None else {"iss": issuer})}
    token = jwt.api_jws.encode(
        json.dumps(payload).encode(),
        stack.key_pem,
        algorithm="RS256",
        headers={"kid": stack.teams.identity.key_id},
    )
    assert await refused(stack, stack.activity(), f"Bearer {token}") == 401


async def test_an_emulators_token_is_refused(stack: Stack) -> None:
    issuer = "https://sts.windows.net/d6d49420-f39b-4df7-a1dc-d59a935871db/"
    assert await refused(stack, stack.activity(), stack.bearer(iss=issuer, appid=APP_ID, ver="1.0")) == 401


@pytest.mark.parametrize("audience", [None, "", "another app", [APP_ID]])
async def test_a_token_for_another_app_is_refused(stack: Stack, audience: Any) -> None:
    assert await refused(stack, stack.activity(), stack.bearer(aud=audience)) == 401


async def test_a_service_url_other_than_the_tokens_is_refused(stack: Stack) -> None:
    other = stack.activity(serviceUrl="https://smba.trafficmanager.net/emea/")
    assert await refused(stack, other) == 403


async def test_a_token_without_a_service_url_is_refused(stack: Stack) -> None:
    assert await refused(stack, stack.activity(), stack.bearer(serviceurl=None)) == 403


async def test_an_activity_without_a_service_url_is_refused(stack: Stack) -> None:
    activity = stack.activity()
    del activity["serviceUrl"]
    assert await refused(stack, activity) == 403


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/",
        "https://smba.trafficmanager.net.evil.example/",
        "https://smba.trafficmanager.net@evil.example/",
        "http://smba.trafficmanager.net/",
        "https://smba.trafficmanager.net:8443/",
    ],
)
async def test_a_service_host_off_the_allow_list_is_refused(stack: Stack, url: str) -> None:
    assert await refused(stack, stack.activity(serviceUrl=url), stack.bearer(serviceurl=url)) == 403


@pytest.mark.parametrize("tenant", ["another tenant", "", None])
async def test_another_tenant_or_none_is_refused(stack: Stack, tenant: str | None) -> None:
    activity = stack.activity(
        channelData={"tenant": {"id": tenant}}, conversation={"id": ANNAS_CHAT, "conversationType": "personal"}
    )
    assert await refused(stack, activity) == 403


async def test_an_activity_that_names_two_tenants_is_refused(stack: Stack) -> None:
    activity = stack.activity(channelData={"tenant": {"id": TENANT}}, conversation={"id": ANNAS_CHAT, "tenantId": "x"})
    assert await refused(stack, activity) == 403


async def test_an_activity_of_nobody_is_refused(stack: Stack) -> None:
    assert await refused(stack, stack.activity(**{"from": {"id": f"29:{ANNA.id}"}})) == 403


async def test_another_channel_than_teams_is_refused(stack: Stack) -> None:
    assert await refused(stack, stack.activity(channelId="webchat")) == 403


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b'{"type": {"a": 1}}', b'{"type": "message"}', b"\xff"]
)
async def test_a_body_that_is_no_activity_is_malformed(stack: Stack, body: bytes) -> None:
    before = await stored(stack)
    headers = {"Authorization": stack.bearer(), "Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{stack.url}/api/messages", data=body, headers=headers) as response,
    ):
        assert response.status == 400
    assert await stored(stack) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"from": "me"},
        {"conversation": [1]},
        {"text": {"a": 1}},
        {"entities": "x"},
        {"entities": [1]},
        {"timestamp": "yesterday"},
        {"id": None},
        {"recipient": None},
        {"replyToId": 7},
        {"membersAdded": 3},
        {"attachments": {"a": 1}},
    ],
)
async def test_a_misshapen_activity_is_malformed_or_refused_and_never_an_error_of_ours(
    stack: Stack, wrong: dict[str, Any]
) -> None:
    assert await refused(stack, stack.activity(**wrong)) in (400, 403)


async def test_a_large_body_is_refused_whole(stack: Stack) -> None:
    assert await refused(stack, stack.activity(text="x" * 300_000)) == 413


async def test_a_large_body_of_unannounced_length_is_refused(stack: Stack) -> None:
    async def pieces() -> Any:
        for _ in range(40):
            yield b"x" * 10_000

    headers = {"Authorization": stack.bearer(), "Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{stack.url}/api/messages", data=pieces(), headers=headers) as response,
    ):
        assert response.status == 413


async def test_another_content_type_is_refused(stack: Stack) -> None:
    headers = {"Authorization": stack.bearer(), "Content-Type": "text/plain"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{stack.url}/api/messages", data=b"{}", headers=headers) as response,
    ):
        assert response.status == 415


async def test_a_replayed_activity_is_acknowledged_and_not_handled_again(stack: Stack) -> None:
    activity = stack.activity()
    assert [(await stack.teams.deliver(activity))[0] for _ in range(3)] == [200, 200, 200]
    await stack.door.intake.drain()
    assert len(stack.ear.said()) == 1


async def test_duplicate_deliveries_are_heard_once(stack: Stack) -> None:
    stack.teams.duplicate_next(1)
    await stack.teams.say(ANNA.id, ANNAS_CHAT, "once")
    await stack.ear.until(lambda ear: bool(ear.said()))
    await stack.door.intake.drain()
    assert len(stack.ear.said()) == 1


async def test_without_an_app_id_activities_are_taken_from_this_machine(tmp_path: Path, key_pem: bytes) -> None:
    async with running_stack(tmp_path, key_pem, emulator=True) as stack:
        assert (await stack.teams.deliver(stack.activity(), authorization=""))[0] == 200
        await stack.ear.until(lambda ear: bool(ear.said()))
        assert stack.ear.said()[0].place == Place("teams", TENANT, ANNAS_CHAT, direct=True)


@pytest.mark.parametrize("peer", [Peer("192.0.2.7", False), Peer("127.0.0.1", True), Peer("", False)])
async def test_without_an_app_id_activities_from_elsewhere_are_refused(
    tmp_path: Path, key_pem: bytes, peer: Peer
) -> None:
    async with running_stack(tmp_path, key_pem, emulator=True) as stack:
        body = json.dumps(stack.activity()).encode()
        status, _ = await stack.door.take(body, "", peer)
        assert status == 401


async def test_without_an_app_id_other_services_are_still_refused(tmp_path: Path, key_pem: bytes) -> None:
    async with running_stack(tmp_path, key_pem, emulator=True) as stack:
        activity = stack.activity(serviceUrl="https://evil.example/")
        assert (await stack.teams.deliver(activity, authorization=""))[0] == 403


class CountedKeys(SigningKeys):
    """Keys that count how often one was needed: once for each token that is proven."""

    looked_up = 0

    async def get(self, key_id: str | None) -> SigningKey:
        self.looked_up += 1
        return await super().get(key_id)


async def test_a_proven_token_is_proven_again_after_its_end(stack: Stack) -> None:
    now = time.time()
    keys = CountedKeys(stack.teams.openid_metadata)
    verifier = Verifier(stack.settings, keys, clock=lambda: now)
    peer = Peer("127.0.0.1", False)
    header = stack.bearer(exp=int(now) - 200)
    for _ in range(3):
        await verifier.verify(header, stack.activity(), peer)
    assert keys.looked_up == 1
    now += 101.0
    await verifier.verify(header, stack.activity(), peer)
    assert keys.looked_up == 2
    with pytest.raises(Refused):
        await verifier.verify(f"{header}x", stack.activity(), peer)


async def test_a_proven_token_does_not_vouch_for_another_service_url(stack: Stack) -> None:
    header = stack.bearer()
    assert (await stack.teams.deliver(stack.activity(), authorization=header))[0] == 200
    await stack.ear.until(lambda ear: bool(ear.said()))
    other = stack.activity(serviceUrl="https://smba.trafficmanager.net/emea/")
    assert (await stack.teams.deliver(other, authorization=header))[0] == 403
