"""The workbench in a real browser, over a real server, against platforms in memory."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect
from starlette.applications import Starlette

from bot.workbench.page import Workbench
from handlers.card import Link, Text, Verbatim
from handlers.reply import Reply
from tests.bot.workbench.double import AMIR, CHANNEL, HOSTILE, ROSA, TITLE, DoublePlatform, DoubleTrace
from tests.browser.conftest import Watch
from tests.browser.driver import PlatformName, WorkbenchDriver
from tests.browser.server import LocalServer

pytestmark = pytest.mark.browser

PLATFORMS: tuple[PlatformName, ...] = ("slack", "teams")


@pytest.fixture
def trace() -> DoubleTrace:
    return DoubleTrace()


@pytest.fixture
def platforms(trace: DoubleTrace) -> dict[str, DoublePlatform]:
    return {name: DoublePlatform(name, trace=trace, confirm=True) for name in PLATFORMS}


@pytest.fixture
async def server(platforms: dict[str, DoublePlatform], trace: DoubleTrace) -> AsyncIterator[LocalServer]:
    workbench = Workbench(list(platforms.values()), trace.read)
    async with LocalServer(Starlette(routes=workbench.routes())) as server:
        yield server


@pytest.fixture
async def driver(server: LocalServer, page: Page) -> WorkbenchDriver:
    driver = WorkbenchDriver(page)
    await driver.open(f"{server.url}/")
    return driver


@pytest.mark.parametrize("name", PLATFORMS)
async def test_a_request_becomes_a_card_that_the_approver_signs(
    driver: WorkbenchDriver, platforms: dict[str, DoublePlatform], name: PlatformName
) -> None:
    await driver.choose(name, "requester")
    await driver.say("@Countersign close TCK-1")
    await driver.wait_for_card(TITLE)
    await driver.choose(name, "approver")
    await driver.press("Approve")
    await driver.wait_for_notice("Recorded.")
    card = await driver.wait_for_card("Ticket TCK-1 approved by Amir Haddad")
    await expect(card.get_by_role("button")).to_have_count(0)
    pressed = platforms[name].pressed[-1]
    assert pressed.get("value") == "n-approve" or pressed["data"] == {"nonce": "n-approve"}
    await driver.wait_for_step("signed")


@pytest.mark.parametrize("name", PLATFORMS)
async def test_words_are_asked_for_where_a_button_wants_them(
    driver: WorkbenchDriver, platforms: dict[str, DoublePlatform], name: PlatformName
) -> None:
    await driver.choose(name, "requester")
    await driver.say("@Countersign close TCK-1")
    await driver.choose(name, "approver")
    await driver.press("Deny", typed="The lift is still broken")
    await driver.wait_for_card("Ticket TCK-1 denied: The lift is still broken")
    if name == "slack":
        assert platforms[name].submitted == [{"reason": "The lift is still broken"}]
    else:
        assert platforms[name].pressed[-1]["inputs"] == {"reason": "The lift is still broken"}


@pytest.mark.parametrize("name", PLATFORMS)
async def test_a_refused_press_tells_why_and_leaves_the_card(driver: WorkbenchDriver, name: PlatformName) -> None:
    await driver.choose(name, "requester")
    await driver.say("@Countersign close TCK-1")
    await driver.wait_for_card(TITLE)
    await driver.press("Approve")
    await driver.wait_for_notice("somebody else has to sign it")
    card = await driver.wait_for_card(TITLE)
    await expect(card.get_by_role("button", name="Approve")).to_be_visible()


async def test_a_question_answered_with_no_presses_nothing(
    driver: WorkbenchDriver, platforms: dict[str, DoublePlatform]
) -> None:
    await driver.choose("slack", "requester")
    await driver.say("@Countersign close TCK-1")
    card = await driver.wait_for_card(TITLE)
    await card.get_by_role("button", name="Approve").click()
    confirm = driver.page.get_by_test_id("confirm")
    await expect(confirm).to_contain_text("TCK-1 is closed in Sandbox tickets.")
    await confirm.get_by_test_id("confirm-no").click()
    await confirm.wait_for(state="detached")
    assert platforms["slack"].pressed == []


async def test_a_modal_that_is_not_taken_says_why_and_closes_with_escape(
    driver: WorkbenchDriver, platforms: dict[str, DoublePlatform]
) -> None:
    await driver.choose("slack", "requester")
    await driver.say("@Countersign close TCK-1")
    await driver.choose("slack", "approver")
    card = await driver.wait_for_card(TITLE)
    await card.get_by_role("button", name="Deny").click()
    modal = driver.page.get_by_test_id("modal")
    await modal.get_by_label("Why not?").fill("no")
    await modal.get_by_test_id("modal-submit").click()
    await expect(modal.get_by_test_id("modal-failure")).to_have_text("Say a little more than that.")
    await driver.page.keyboard.press("Escape")
    await modal.wait_for(state="detached")
    assert platforms["slack"].submitted == [{"reason": "no"}, None]


async def test_a_private_message_is_marked_and_only_its_person_sees_it(driver: WorkbenchDriver) -> None:
    await driver.choose("slack", "requester")
    await driver.say("/countersign help")
    message = await driver.wait_for_text("Ask me to close a ticket.")
    await expect(message).to_contain_text("Only visible to you")
    await driver.choose("slack", "approver")
    await expect(driver.pane.get_by_test_id("message")).to_have_count(0)


async def test_a_reply_is_written_and_shown_in_the_thread(
    driver: WorkbenchDriver, platforms: dict[str, DoublePlatform]
) -> None:
    await driver.choose("slack", "requester")
    await driver.say("The printer is broken")
    await driver.reply_to("The printer is broken")
    await driver.say("Which floor?")
    thread = driver.pane.get_by_test_id("thread").filter(has_text="The printer is broken")
    await expect(thread).to_contain_text("1 reply")
    await expect(thread.get_by_role("group", name="Replies to Rosa Blum")).to_contain_text("Which floor?")
    assert [message.thread for message in platforms["slack"].held.values()] == [None, "m1"]


@pytest.mark.parametrize("name", PLATFORMS)
async def test_what_people_and_models_wrote_is_shown_as_characters(
    driver: WorkbenchDriver, platforms: dict[str, DoublePlatform], name: PlatformName
) -> None:
    script = "<img src=https://evil.example/x onerror=alert(1)><script>alert(2)</script>"
    await driver.choose(name, "requester")
    await driver.say(f"{script} {HOSTILE}")
    for part in (Text(f"{script} {HOSTILE}"), Verbatim(HOSTILE)):
        platforms[name].answer(CHANNEL, Reply((part,)))
    for _ in range(2):
        await driver.wait_for_text(HOSTILE)
    conversation = driver.pane.get_by_test_id("conversation")
    await expect(conversation.get_by_text(HOSTILE)).to_have_count(3)
    await expect(conversation.locator("img, script, a")).to_have_count(0)


@pytest.mark.parametrize("name", PLATFORMS)
async def test_links_open_away_from_the_page_and_tell_it_nothing(
    driver: WorkbenchDriver, platforms: dict[str, DoublePlatform], name: PlatformName
) -> None:
    await driver.choose(name, "requester")
    platforms[name].answer(CHANNEL, Reply((Link("TCK-1", "https://tickets.example/TCK-1"),)))
    link = driver.pane.get_by_role("link", name="TCK-1")
    await expect(link).to_have_attribute("href", "https://tickets.example/TCK-1")
    await expect(link).to_have_attribute("rel", re.compile("noopener"))
    await expect(link).to_have_attribute("target", "_blank")


async def test_what_happens_elsewhere_appears_by_itself_and_marks_its_room(
    driver: WorkbenchDriver, platforms: dict[str, DoublePlatform], trace: DoubleTrace
) -> None:
    await driver.choose("slack", "requester")
    platforms["slack"].add(CHANNEL, AMIR.id, "Good morning")
    await driver.wait_for_text("Good morning")
    platforms["slack"].answer(f"D{ROSA.id}", Reply.text("Your task is done."))
    await expect(driver.pane.get_by_test_id("room-direct")).to_contain_class("unread")
    await driver.choose("slack", "requester", room="direct")
    await driver.wait_for_text("Your task is done.")
    await expect(driver.pane.get_by_test_id("room-direct")).not_to_contain_class("unread")
    trace.add("executed", "tickets.close ran in 0.2 s.", execution="exe-9")
    entry = driver.page.get_by_test_id("trace-entry").filter(has_text="ran in 0.2 s")
    await entry.click()
    await expect(entry).to_contain_text("exe-9")


async def test_a_server_that_goes_away_is_announced_and_the_page_recovers_by_itself(
    driver: WorkbenchDriver, platforms: dict[str, DoublePlatform], server: LocalServer, watch: Watch
) -> None:
    watch.expect("ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET")
    await driver.choose("slack", "requester")
    await server.stop()
    await expect(driver.page.get_by_test_id("banner-away")).to_contain_text("not answering")
    await expect(driver.pane.get_by_test_id("composer")).to_be_disabled()
    platforms["slack"].add(CHANNEL, AMIR.id, "Written meanwhile")
    await server.start()
    await driver.page.get_by_role("button", name="Try now").click()
    await expect(driver.page.get_by_test_id("banner-back")).to_be_visible()
    await expect(driver.page.get_by_test_id("banner-away")).to_have_count(0)
    await driver.wait_for_text("Written meanwhile")
    await driver.say("Welcome back")
    await driver.wait_for_text("Welcome back")


async def test_the_page_is_used_with_the_keyboard_alone(
    driver: WorkbenchDriver, platforms: dict[str, DoublePlatform]
) -> None:
    keyboard = driver.page.keyboard
    await driver.pane.get_by_test_id("composer").focus()
    await keyboard.type("@Countersign close TCK-1")
    await keyboard.press("Enter")
    card = await driver.wait_for_card(TITLE)
    await card.get_by_role("button", name="Details").focus()
    await keyboard.press("Enter")
    modal = driver.page.get_by_test_id("modal")
    await expect(modal).to_contain_text("external-needs-one")
    await keyboard.press("Escape")
    await modal.wait_for(state="detached")
    await expect(card.get_by_role("button", name="Details")).to_be_focused()


@pytest.mark.parametrize("width", [1024, 1360, 1720])
async def test_nothing_is_cut_off_sideways(driver: WorkbenchDriver, width: int) -> None:
    await driver.page.set_viewport_size({"width": width, "height": 720})
    if width >= 1500:
        await driver.page.get_by_test_id("platform-both").click()
        await expect(driver.page.get_by_test_id("pane-teams")).to_be_visible()
    await driver.say("@Countersign close TCK-1")
    await driver.wait_for_card(TITLE)
    too_wide = await driver.page.evaluate(
        "[...document.querySelectorAll('body, .conversation, .who, .rooms, .trace-list')]"
        ".filter(e => e.scrollWidth > e.clientWidth).map(e => e.className)"
    )
    assert too_wide == []
