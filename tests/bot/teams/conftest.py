"""A running Teams side for every test of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from teams_stack import Stack, new_key_pem, running_stack


@pytest.fixture(scope="session")
def key_pem() -> bytes:
    """The local Teams' signing key."""
    return new_key_pem()


@pytest_asyncio.fixture
async def stack(tmp_path: Path, key_pem: bytes) -> AsyncIterator[Stack]:
    """Our door and surface, with a local Teams for a peer."""
    async with running_stack(tmp_path, key_pem) as running:
        yield running
