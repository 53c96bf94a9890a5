"""Every connector of the product: one line each."""

from __future__ import annotations

from pathlib import Path

from actions.catalogue import Connector
from actions.connectors.sandbox_ticketing import SandboxTicketing


def build_connectors(data: Path, public_url: str, *, samples: bool) -> list[Connector]:
    """The connectors of one installation; each keeps what it must under `data`."""
    return [
        SandboxTicketing(data / "sandbox" / "ticketing.db", public_url, samples=samples),
    ]
