"""Microsoft's local Teams client, fetched once and started for each test that talks to it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

ROOT = Path(__file__).parents[2]
# Our side is the same as in the tests of the Teams door.
sys.path.insert(0, str(ROOT / "tests" / "bot" / "teams"))

from playground_client import Playground, PlaygroundMissing, install, running_playground  # noqa: E402
from teams_stack import Stack, new_key_pem, running_stack  # noqa: E402


@pytest.fixture(scope="session")
def client_script() -> Path:
    """The client's command; skips where it cannot be had."""
    try:
        return install(ROOT / ".countersign" / "playground")
    except PlaygroundMissing as missing:
        pytest.skip(str(missing))


@pytest_asyncio.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """Our door and surface without an app id, as somebody tries them out with a local client."""
    async with running_stack(tmp_path, new_key_pem(), emulator=True) as running:
        yield running


@pytest_asyncio.fixture
async def playground(client_script: Path, stack: Stack, tmp_path: Path) -> AsyncIterator[Playground]:
    """The client, talking to the stack."""
    async with running_playground(client_script, f"{stack.url}/api/messages", tmp_path) as running:
        yield running
