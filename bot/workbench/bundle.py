"""The built page: files read once from `static/`, served by their names in the build's own list.

Every file but the page itself has a digest of its content in its name, so a browser may keep it for good.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

STATIC = Path(__file__).parent / "static"
PAGE = "index.html"

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class BuiltFile:
    """One file of the build, ready to send."""

    content: bytes
    media_type: str
    etag: str
    cache_control: str


def load_bundle(folder: Path = STATIC) -> Mapping[str, BuiltFile]:
    """Read the files named in the build's `manifest.json`.

    Raises FileNotFoundError when the page was never built (`bot/workbench/frontend/build.sh`).
    """
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return {name: _built_file(folder / name) for name in manifest["files"]}


def serve(file: BuiltFile, request: Request) -> Response:
    """Answer with a built file, or 304 when the browser has it."""
    headers = {"etag": file.etag, "cache-control": file.cache_control}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


def _built_file(path: Path) -> BuiltFile:
    content = path.read_bytes()
    digest = sha256(content).hexdigest()
    named_by_content = digest[:12] in path.name
    return BuiltFile(
        content=content,
        media_type=_MEDIA_TYPES[path.suffix],
        etag=f'"{digest[:32]}"',
        cache_control="public, max-age=31536000, immutable" if named_by_content else "no-cache",
    )
