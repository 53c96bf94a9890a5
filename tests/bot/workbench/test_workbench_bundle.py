"""The committed page is built from the committed sources, and a browser keeps it only as long as it is right."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

import bot.workbench
from bot.workbench.bundle import STATIC, load_bundle
from bot.workbench.page import Workbench
from tests.bot.workbench.double import DoubleTrace

FRONTEND = Path(bot.workbench.__file__).parent / "frontend"
MANIFEST = json.loads((STATIC / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = Starlette(routes=Workbench([], DoubleTrace().read).routes())
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost")


def source_digest() -> str:
    """The same sum as in the build script."""
    paths = [FRONTEND / name for name in ("index.html", "build.mjs", "package.json", "package-lock.json")]
    paths += [FRONTEND / "tsconfig.json", *(path for path in (FRONTEND / "src").rglob("*") if path.is_file())]
    digest = sha256()
    for path in sorted(paths, key=lambda path: path.relative_to(FRONTEND).as_posix()):
        digest.update(path.relative_to(FRONTEND).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def test_the_committed_page_was_built_from_the_committed_sources() -> None:
    assert MANIFEST["sources"] == source_digest(), "run bot/workbench/frontend/build.sh and commit bot/workbench/static"


def test_the_folder_holds_what_the_manifest_lists_and_nothing_else() -> None:
    assert sorted(path.name for path in STATIC.iterdir()) == sorted([*MANIFEST["files"], "manifest.json"])


def test_names_carry_the_digest_of_what_is_in_the_file() -> None:
    named = [name for name in MANIFEST["files"] if name.rpartition(".")[2] in {"js", "css", "svg"}]
    assert len(named) == 3
    for name in named:
        assert sha256((STATIC / name).read_bytes()).hexdigest()[:12] in name


def test_the_page_is_small_enough_to_commit() -> None:
    assert sum((STATIC / name).stat().st_size for name in MANIFEST["files"]) < 1_500_000


def test_the_page_asks_for_nothing_from_elsewhere_and_runs_no_inline_script() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert "//" not in page
    assert "<script>" not in page
    style = "".join((STATIC / name).read_text(encoding="utf-8") for name in MANIFEST["files"] if name.endswith(".css"))
    assert "@import" not in style
    assert "url(http" not in style


def test_the_lock_file_names_no_place_to_download_from() -> None:
    assert '"resolved"' not in (FRONTEND / "package-lock.json").read_text(encoding="utf-8")


def test_licences_of_the_packages_in_the_page_are_shipped_with_it() -> None:
    licences = (STATIC / "THIRD-PARTY-LICENCES.txt").read_text(encoding="utf-8")
    for package in ("react", "react-dom", "adaptivecards", "markdown-it", "slack-blocks-to-jsx"):
        assert f"\n{package} " in licences


async def test_files_named_by_content_are_kept_and_the_page_is_asked_for_again(client: httpx.AsyncClient) -> None:
    for name, file in load_bundle().items():
        answer = await client.get(f"/workbench/static/{name}")
        assert answer.status_code == 200
        assert answer.content == file.content
        named_by_content = name.rpartition(".")[2] in {"js", "css", "svg"}
        assert ("immutable" in answer.headers["cache-control"]) is named_by_content
    page = await client.get("/")
    assert page.headers["cache-control"] == "no-cache"
    again = await client.get("/", headers={"if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["manifest.json", "..%2fpage.py", "%2e%2e/page.py", "nothing.js"])
async def test_only_files_of_the_page_are_served(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/workbench/static/{name}")).status_code == 404
