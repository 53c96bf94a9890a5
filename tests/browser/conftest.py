"""A headless Chromium from this machine, and a page that fails its test on any error or any request elsewhere."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, ConsoleMessage, Error, Page, Request, async_playwright

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
VIEWPORT = {"width": 1360, "height": 860}
TIMEOUT_MS = 10_000
REFUSED = re.compile(r"status of 409 \(Conflict\)")
"""What Chromium notes when a press is refused; the page tells the person why."""


def chromium_path() -> str | None:
    """The browser to drive: `COUNTERSIGN_CHROMIUM`, or the first one found on the path."""
    chosen = os.environ.get("COUNTERSIGN_CHROMIUM")
    return chosen or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


@dataclass
class Watch:
    """What the page did that no page of ours should do."""

    problems: list[str] = field(default_factory=list)
    expected: list[re.Pattern[str]] = field(default_factory=lambda: [REFUSED])

    def expect(self, pattern: str) -> None:
        """Let console errors pass that match, in a test that causes them."""
        self.expected.append(re.compile(pattern))

    def on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(pattern.search(message.text) for pattern in self.expected):
            self.problems.append(f"console: {message.text}")

    def on_error(self, error: Error) -> None:
        self.problems.append(f"script: {error}")

    def on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob"} and parts.hostname != "127.0.0.1":
            self.problems.append(f"request: {request.url}")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium on this machine: install one, or name it in COUNTERSIGN_CHROMIUM")
    # Chromium's sandbox does not start for the root user, as in most containers.
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else list(FLAGS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, headless=True, args=flags)
        yield browser
        await browser.close()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
async def page(browser: Browser, watch: Watch) -> AsyncIterator[Page]:
    """A page of a fresh browser profile; the test fails on console errors and on requests off this machine."""
    context = await browser.new_context(viewport=VIEWPORT, locale="en-GB", timezone_id="UTC")  # type: ignore[arg-type]
    context.set_default_timeout(TIMEOUT_MS)
    page = await context.new_page()
    page.on("console", watch.on_console)
    page.on("pageerror", watch.on_error)
    page.on("request", watch.on_request)
    yield page
    await context.close()
    assert watch.problems == []
