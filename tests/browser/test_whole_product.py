"""The whole product as a new user meets it: the real `up`, its page in a real browser, two people, one ticket.

With COUNTERSIGN_PICTURES=1 the pictures go to docs/pictures, so that what the README shows is what this test saw.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.bot.up_process import ROOT, Up
from tests.browser.conftest import VIEWPORT, Watch
from tests.browser.driver import PlatformName, WorkbenchDriver

pytestmark = pytest.mark.browser

PLATFORMS: tuple[PlatformName, ...] = ("slack", "teams")
TICKET = "Printer on the third floor"
PICTURE_HEIGHT = 1040
"""Pixels; enough for a whole card."""


@pytest.fixture
async def up(tmp_path: Path) -> AsyncIterator[Up]:
    running = Up(tmp_path / "data")
    await asyncio.to_thread(running.start)
    yield running
    running.client.close()
    await asyncio.to_thread(running.stop)


@pytest.fixture
async def driver(up: Up, page: Page) -> WorkbenchDriver:
    await page.set_viewport_size({"width": VIEWPORT["width"], "height": PICTURE_HEIGHT})
    driver = WorkbenchDriver(page)
    await driver.open(f"{up.url}/")
    return driver


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return ROOT / "docs" / "pictures" if os.environ.get("COUNTERSIGN_PICTURES") == "1" else tmp_path


def picture(pictures: Path, platform: PlatformName, moment: str) -> Path:
    return pictures / f"workbench-{'' if platform == 'slack' else f'{platform}-'}{moment}.png"


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_ticket_is_closed_once_somebody_else_has_signed(
    driver: WorkbenchDriver, platform: PlatformName, pictures: Path
) -> None:
    await driver.choose(platform, "requester")
    await driver.say("@Countersign close TCK-1")
    card = await driver.wait_for_card("Approval needed: Close a ticket")
    for shown in (
        TICKET,
        "ticketing.close (version 1)",
        "ticket: TCK-1",
        "(record TCK-1, version 1)",
        "the assistant's own words",
        "Rosa Blum",
        "destructive: ends or removes something",
        "Closing or deleting something needs one other person from approvers.",
        "Amir Haddad",
        "0 of 1 signature from approvers",
        "(1 day after it was asked)",
    ):
        await expect(card).to_contain_text(shown)
    await expect(card).to_contain_text(re.compile(r"request [0-9a-f]{8} · digest [0-9a-f]{12}"))
    await driver.wait_for_step("card")
    await driver.screenshot(picture(pictures, platform, "before"), show=card)

    await driver.press("Approve")
    if platform == "slack":
        await driver.wait_for_text("You asked for this yourself, so somebody else has to approve it.")
    else:
        await driver.wait_for_notice("You asked for this yourself, so somebody else has to approve it.")
    await expect(card.get_by_role("button", name="Approve").first).to_be_visible()

    await driver.choose(platform, "approver")
    await driver.press("Approve")
    done = await driver.wait_for_card("Done: Close a ticket")
    await expect(done).to_contain_text("Closed TCK-1")
    await expect(done).to_contain_text("Amir Haddad at ")
    await expect(done.get_by_role("button")).to_have_count(0)
    await driver.wait_for_text("Result of request")
    await driver.wait_for_step("done")
    await driver.screenshot(picture(pictures, platform, "after"), show=done)


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_what_is_denied_is_not_done_and_the_requester_reads_why(
    driver: WorkbenchDriver, platform: PlatformName
) -> None:
    await driver.choose(platform, "requester")
    await driver.say("@Countersign please close ticket TCK-2, it works again")
    await driver.wait_for_card("Approval needed: Close a ticket")
    await driver.choose(platform, "approver")
    await driver.press("Deny", typed="It does not, I just tried")
    card = await driver.wait_for_card("Denied: Close a ticket")
    await expect(card).to_contain_text("Nothing was done. Their reason: It does not, I just tried")
    await driver.choose(platform, "requester")
    notice = await driver.wait_for_text("Result of request")
    await expect(notice).to_contain_text("Rosa Blum")
    await expect(notice).to_contain_text("It does not, I just tried")


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_what_is_asked_in_private_reaches_the_approver_in_private(
    driver: WorkbenchDriver, platform: PlatformName
) -> None:
    await driver.choose(platform, "requester", room="direct")
    await driver.say("close TCK-3")
    status = await driver.wait_for_card("Approval needed: Close a ticket")
    await expect(status.get_by_role("button")).to_have_count(0)
    await driver.choose(platform, "approver", room="direct")
    await driver.wait_for_card("Approval needed: Close a ticket")
    await driver.press("Approve")
    await driver.wait_for_card("Done: Close a ticket")
    await driver.choose(platform, "requester", room="direct")
    await driver.wait_for_card("Done: Close a ticket")


async def test_everything_is_still_there_after_a_restart_and_an_old_card_still_works(
    driver: WorkbenchDriver, up: Up, watch: Watch
) -> None:
    watch.expect("ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|503")
    for platform in PLATFORMS:
        await driver.choose(platform, "requester")
        await driver.say(f"@Countersign create a ticket: the gate squeaks, said in {platform}")
        await driver.wait_for_card("Done: Create a ticket")
    await driver.choose("slack", "requester")
    await driver.say("@Countersign close TCK-1")
    await driver.wait_for_card("Approval needed: Close a ticket")

    assert await asyncio.to_thread(up.stop) == 0
    await expect(driver.page.get_by_test_id("banner-away")).to_be_visible()
    await asyncio.to_thread(up.start)

    await driver.open(f"{up.url}/")
    for platform in PLATFORMS:
        await driver.choose(platform, "requester")
        await driver.wait_for_text(f"said in {platform}")
        await driver.wait_for_card("Done: Create a ticket")
    await driver.say("@Countersign my tickets")
    await driver.wait_for_text("You have 2 open tickets:")
    await driver.choose("slack", "approver")
    await driver.press("Approve")
    await driver.wait_for_card("Done: Close a ticket")
