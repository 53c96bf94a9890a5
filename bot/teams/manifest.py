"""The app package for Teams: `manifest.json` and two icons in a zip, ready to upload.

Schema: https://developer.microsoft.com/json-schemas/teams/v1.19/MicrosoftTeams.schema.json
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

MANIFEST_VERSION = "1.19"
ACCENT = "#3D5A80"
_COLOUR = (0x3D, 0x5A, 0x80, 0xFF)
_WHITE = (0xFF, 0xFF, 0xFF, 0xFF)
_CLEAR = (0, 0, 0, 0)

Pixel = tuple[int, int, int, int]


def teams_manifest(*, public_url: str, app_id: str, version: str = "1.0.0") -> dict[str, Any]:
    """The manifest of an installation reached at `public_url`, for the Microsoft app registration `app_id`.

    Raises ValueError without an app id or for a URL without a host.
    """
    host = urlsplit(public_url).hostname
    if not app_id:
        raise ValueError("the Teams manifest needs the app id of the bot's registration; set TEAMS_APP_ID")
    if not host:
        raise ValueError(
            f"{public_url!r} names no host; set COUNTERSIGN_PUBLIC_URL like https://countersign.example.com"
        )
    # Teams takes only https addresses here, whatever scheme a trial runs on.
    page = f"https://{urlsplit(public_url).netloc}/"
    return {
        "$schema": f"https://developer.microsoft.com/json-schemas/teams/v{MANIFEST_VERSION}/MicrosoftTeams.schema.json",
        "manifestVersion": MANIFEST_VERSION,
        "version": version,
        "id": app_id,
        "developer": {
            "name": "Countersign",
            "websiteUrl": page,
            "privacyUrl": page,
            "termsOfUseUrl": page,
        },
        "name": {"short": "Countersign", "full": "Countersign, your work assistant"},
        "description": {
            "short": "Answers, and acts once the right person has countersigned.",
            "full": (
                "Countersign reads what you write, finds out what you need and acts on the systems you use. "
                "Nothing risky happens until the right person has approved it with a click, and everything is recorded."
            ),
        },
        "icons": {"color": "color.png", "outline": "outline.png"},
        "accentColor": ACCENT,
        "bots": [
            {
                "botId": app_id,
                "scopes": ["personal", "team", "groupChat"],
                "supportsFiles": False,
                "isNotificationOnly": False,
                "commandLists": [
                    {
                        "scopes": ["personal", "team", "groupChat"],
                        "commands": [{"title": "help", "description": "What I can do"}],
                    }
                ],
            }
        ],
        # With these, conversations reach us whole and a thread can be summarised; a bot cannot read history.
        "authorization": {
            "permissions": {
                "resourceSpecific": [
                    {"name": "ChannelMessage.Read.Group", "type": "Application"},
                    {"name": "ChatMessage.Read.Chat", "type": "Application"},
                ]
            }
        },
        "webApplicationInfo": {"id": app_id, "resource": f"api://{host}/{app_id}"},
        "validDomains": [host],
    }


def write_package(path: Path, manifest: dict[str, Any]) -> None:
    """Write the zip that Teams takes as an app; the same manifest makes the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in (
            ("manifest.json", orjson.dumps(manifest, option=orjson.OPT_INDENT_2)),
            ("color.png", colour_icon()),
            ("outline.png", outline_icon()),
        ):
            package.writestr(zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0)), content)


def colour_icon() -> bytes:
    """192 × 192: a white tick over a line, as under a signature."""
    return _png(192, lambda x, y: _WHITE if _signed(x / 192, y / 192) else _COLOUR)


def outline_icon() -> bytes:
    """32 × 32: the same in white on nothing, as Teams asks for."""
    return _png(32, lambda x, y: _WHITE if _signed(x / 32, y / 32) else _CLEAR)


def _signed(x: float, y: float) -> bool:
    """Whether a point of the unit square is ink."""
    short_stroke = 0.24 <= x <= 0.42 and abs(y - (0.46 + (x - 0.24) * 1.0)) <= 0.06
    long_stroke = 0.42 <= x <= 0.78 and abs(y - (0.64 - (x - 0.42) * 1.1)) <= 0.065
    line = 0.20 <= x <= 0.80 and 0.77 <= y <= 0.83
    return short_stroke or long_stroke or line


def _png(size: int, pixel: Callable[[int, int], Pixel]) -> bytes:
    """An RGBA image as PNG (W3C PNG specification, sections 5 and 11)."""
    rows = b"".join(b"\0" + bytes(value for x in range(size) for value in pixel(x, y)) for y in range(size))
    header = struct.pack(">IIBBBBB", size, size, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
