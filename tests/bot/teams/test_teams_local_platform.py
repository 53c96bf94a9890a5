"""The local Teams as people use it: rooms, restarts, live changes, and checks of our side as Teams makes them."""

from __future__ import annotations

import asyncio
import json
import struct
import zipfile
import zlib
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest
from teams_stack import ANNA, ANNAS_CHAT, APP_ID, BEN, CHANNEL, Stack, running_stack, say_and_answer

from bot.teams.manifest import teams_manifest, write_package
from bot.workbench.platform import LocalPlatform, PressRefused
from bot.workbench.teams_text import shown_text
from handlers.card import Card, Text
from handlers.reply import Reply


async def test_it_is_a_local_platform(stack: Stack) -> None:
    platform: LocalPlatform = stack.teams
    assert [person.name for person in platform.people()] == ["Anna Berg", "Ben Okafor"]
    assert [(room.id, room.direct) for room in platform.rooms(ANNA.id)] == [(CHANNEL, False), (ANNAS_CHAT, True)]
    assert platform.modal(ANNA.id) is None
    with pytest.raises(PressRefused):
        await platform.submit_modal(ANNA.id, None)


async def test_messages_survive_a_restart_and_greetings_are_not_repeated(tmp_path: Path, key_pem: bytes) -> None:
    async with running_stack(tmp_path, key_pem) as stack:
        await say_and_answer(stack, Reply((Text("hello"),), card=Card("A card", ())))
        before = stack.teams.messages(ANNAS_CHAT, ANNA.id)
    async with running_stack(tmp_path, key_pem, greeted=True) as stack:
        assert stack.teams.messages(ANNAS_CHAT, ANNA.id) == before
        await stack.teams.say(ANNA.id, ANNAS_CHAT, "still there?")
        await stack.ear.until(lambda ear: bool(ear.heard))
        assert [turn.text for turn in stack.ear.heard] == ["still there?"]


async def test_changes_name_the_room(stack: Stack) -> None:
    changes = stack.teams.changes()
    waiting = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    await stack.teams.say(BEN.id, CHANNEL, "hello everybody")
    assert await waiting == CHANNEL
    assert isinstance(changes, AsyncGenerator)
    await changes.aclose()


async def test_nobody_reads_or_writes_in_somebody_elses_chat(stack: Stack) -> None:
    await stack.teams.say(ANNA.id, ANNAS_CHAT, "between us")
    assert stack.teams.messages(ANNAS_CHAT, BEN.id) == []
    with pytest.raises(PressRefused):
        await stack.teams.say(BEN.id, ANNAS_CHAT, "let me in")


@pytest.mark.parametrize("header", ["", "Bearer forged", "Basic abc"])
async def test_calls_without_a_token_of_its_own_are_refused(stack: Stack, header: str) -> None:
    url = f"{stack.teams.service_url}v3/conversations/{ANNAS_CHAT}/activities"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json={"type": "message", "text": "x"}, headers={"Authorization": header}) as response,
    ):
        assert response.status == 401


async def test_a_wrong_password_gets_no_token(stack: Stack) -> None:
    form = {"grant_type": "client_credentials", "client_id": APP_ID, "client_secret": "wrong"}
    async with aiohttp.ClientSession() as session, session.post(stack.teams.token_url, data=form) as response:
        assert response.status == 401


def test_text_of_messages_is_shown_as_markdown_whose_references_stay() -> None:
    activity = {
        "textFormat": "xml",
        "text": '<p><b>a &#42;</b></p><p>one<br/>two</p><blockquote>q<br/>r</blockquote><a href="https://x/">l</a>',
    }
    assert shown_text(activity) == "**a &#42;**\n\none  \ntwo\n\n> q  \n> r\n\n[l](https://x/)"


def test_the_app_package_holds_a_manifest_and_two_icons_of_the_right_size(tmp_path: Path) -> None:
    path = tmp_path / "countersign.zip"
    write_package(path, teams_manifest(public_url="https://assistant.example.com", app_id=APP_ID))
    with zipfile.ZipFile(path) as package:
        assert sorted(package.namelist()) == ["color.png", "manifest.json", "outline.png"]
        manifest = json.loads(package.read("manifest.json"))
        sizes = {name: _png_size(package.read(name)) for name in ("color.png", "outline.png")}
    assert sizes == {"color.png": (192, 192), "outline.png": (32, 32)}
    assert manifest["id"] == manifest["bots"][0]["botId"] == APP_ID
    assert manifest["validDomains"] == ["assistant.example.com"]
    assert len(manifest["name"]["short"]) <= 30
    assert len(manifest["description"]["short"]) <= 80
    assert len(manifest["description"]["full"]) <= 4000


@pytest.mark.parametrize(("url", "app_id"), [("https://a.example", ""), ("not a url", APP_ID)])
def test_a_manifest_of_nothing_is_refused(url: str, app_id: str) -> None:
    with pytest.raises(ValueError, match=r"TEAMS_APP_ID|names no host"):
        teams_manifest(public_url=url, app_id=app_id)


def _png_size(content: bytes) -> tuple[int, int]:
    """Width and height of a PNG whose checksums and pixels are whole."""
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    position, pixels, size = 8, b"", (0, 0)
    while position < len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        body = content[position + 4 : position + 8 + length]
        checksum = int.from_bytes(content[position + 8 + length : position + 12 + length], "big")
        assert zlib.crc32(body) == checksum
        if body.startswith(b"IHDR"):
            size = struct.unpack(">II", body[4:12])
        if body.startswith(b"IDAT"):
            pixels += body[4:]
        position += 12 + length
    assert len(zlib.decompress(pixels)) == size[1] * (size[0] * 4 + 1)
    return size
