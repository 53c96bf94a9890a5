"""Drives the workbench as a person at the page would, for tests of the whole product and for pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from playwright.async_api import Locator, Page, expect

PlatformName = Literal["slack", "teams"]
Role = Literal["requester", "approver"]
RoomName = Literal["channel", "direct"]

_ROLES: tuple[Role, ...] = ("requester", "approver")


class WorkbenchDriver:
    """One person at a time, on one platform at a time.

    driver = WorkbenchDriver(page)
    await driver.open("http://127.0.0.1:8080/")
    await driver.choose("slack", "requester")
    await driver.say("@Countersign close TCK-1")
    await driver.choose("slack", "approver")
    await driver.wait_for_card("Close TCK-1")
    await driver.press("Approve")
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.pane = page.get_by_test_id("pane-slack")
        self._platform: PlatformName = "slack"

    async def open(self, url: str) -> None:
        """Go to the page and wait until it is connected and shows a room."""
        await self.page.goto(url)
        await expect(self.page.get_by_test_id("workbench")).to_have_attribute("data-connection", "connected")
        await self.page.locator("[data-testid^=pane-][data-loaded=true]").first.wait_for()

    async def choose(self, platform: PlatformName, person: Role, room: RoomName = "channel") -> None:
        """Be a person on a platform, in the channel or in the direct messages with the assistant."""
        self._platform = platform
        self.pane = self.page.get_by_test_id(f"pane-{platform}")
        await self.page.get_by_test_id(f"platform-{platform}").click()
        await self.pane.get_by_test_id(f"person-{_ROLES.index(person)}").click()
        direct = self.pane.get_by_test_id("room-direct")
        channel = self.pane.locator("[data-testid^=room-]:not([data-testid=room-direct])").first
        await (direct if room == "direct" else channel).click()
        await expect(self.pane).to_have_attribute("data-loaded", "true")

    async def say(self, text: str) -> None:
        """Write a message, and wait until the platform took it."""
        composer = self.pane.get_by_test_id("composer")
        await composer.fill(text)
        await composer.press("Enter")
        await expect(composer).to_have_value("")

    async def reply_to(self, text: str) -> None:
        """Make the next messages replies in the thread of the newest message that has this text in it."""
        thread = self.pane.get_by_test_id("thread").filter(has_text=text).last
        await thread.get_by_test_id("reply").click()
        await self.pane.get_by_test_id("replying").wait_for()

    async def wait_for_text(self, text: str) -> Locator:
        """The newest message with this text in it, once there is one."""
        message = self.pane.get_by_test_id("message").filter(has_text=text).last
        await message.wait_for()
        return message

    async def wait_for_card(self, title: str) -> Locator:
        """The newest message whose card has this in its title, once there is one."""
        message = self.pane.get_by_test_id("message").filter(has=self._titles.filter(has_text=title)).last
        await message.wait_for()
        return message

    async def press(self, label: str, *, typed: str | None = None) -> None:
        """Press the newest button of this label; say yes where it asks; type where it asks for words.

        Slack asks in a dialog and takes words in a modal, Teams does both in a part of the card that opens.
        """
        button = self._buttons(label).last
        if self._platform == "slack":
            await self._press_slack(button, typed)
        else:
            await self._press_teams(button, typed)

    async def wait_for_notice(self, text: str) -> None:
        """Wait for the sentence that the platform shows after a press."""
        await expect(self.pane.get_by_test_id("notice")).to_contain_text(text)

    async def wait_for_step(self, stage: str) -> None:
        """Wait for a step of this stage in the trace."""
        await self.page.locator(f"[data-testid=trace-entry][data-stage='{stage}']").first.wait_for()

    async def screenshot(self, path: Path | str, *, show: Locator | None = None) -> None:
        """A picture of the page as it stands, or with a message brought into the middle of its room."""
        await self.page.mouse.move(0, 0)
        if show is not None:
            await show.evaluate("element => element.scrollIntoView({block: 'center'})")
        await self.page.screenshot(path=path, caret="hide", animations="disabled")

    @property
    def _titles(self) -> Locator:
        """Where a card has its title: Slack's header, the first line of an Adaptive Card."""
        return self.page.locator("[data-testid=card-title], .ac-adaptiveCard > .ac-container:first-child")

    def _buttons(self, label: str) -> Locator:
        return self.pane.get_by_test_id("message").get_by_role("button", name=label, exact=True)

    async def _press_slack(self, button: Locator, typed: str | None) -> None:
        asks = await button.get_attribute("data-confirm") == "true"
        await button.click()
        if asks:
            await self.page.get_by_test_id("confirm-yes").click()
        if typed is not None:
            modal = self.page.get_by_test_id("modal")
            await modal.locator("textarea, input").first.fill(typed)
            await modal.get_by_test_id("modal-submit").click()
            await modal.wait_for(state="detached")

    async def _press_teams(self, button: Locator, typed: str | None) -> None:
        opens = await button.get_attribute("aria-expanded") is not None
        await button.click()
        if not opens:
            return
        # The part that opens stands last in the card; its one button is the one that acts.
        opened = self.pane.locator(".ac-adaptiveCard .ac-adaptiveCard").filter(visible=True).last
        if typed is not None:
            await opened.locator("textarea, input").first.fill(typed)
        await opened.get_by_role("button").last.click()
