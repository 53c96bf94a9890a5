"""`countersign up` as a user starts it: real processes, a real folder, and the workbench's own HTTP interface."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.bot.up_process import CHILDREN, Up, command, until

CANARY = "quagga7731"
"""A word that is in no code of ours, so that it can only come from somebody's message."""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One `up` for all tests that leave it running."""
    with Up(tmp_path_factory.mktemp("up") / "data") as running:
        yield running


def create_ticket(up: Up, title: str) -> None:
    """Have a ticket created, which takes the web process, the database and the worker."""
    until(lambda: _answers(up), what="the web process")
    up.say(f"@Countersign create a ticket: {title}")
    until(lambda: "Done: Create a ticket" in up.channel().rpartition(f"create a ticket: {title}")[2], what="the ticket")


def _answers(up: Up) -> bool:
    try:
        return up.client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_it_says_one_line_and_that_line_is_the_address(up: Up) -> None:
    assert up.said().splitlines()[0] == up.url
    assert up.client.get("/").text.startswith("<!doctype html>")
    assert up.client.get("/readyz").json() == {
        "ready": True,
        "database": "ok",
        "redis": "ok",
        "model": "offline engine",
    }


def test_a_second_one_on_the_same_folder_is_told_so_in_one_line(up: Up) -> None:
    second = command("up", "--data", str(up.data), "--port", "1024")
    assert second.returncode == 1
    (line,) = second.stderr.splitlines()
    assert line.startswith(f"countersign: Countersign already runs on {up.data} (process ")


def test_a_taken_port_is_told_in_one_line(up: Up, tmp_path: Path) -> None:
    second = command("up", "--data", str(tmp_path), "--port", str(up.port))
    assert second.returncode == 1
    (line,) = second.stderr.splitlines()
    assert line.startswith(f"countersign: Port {up.port} is taken")


@pytest.mark.parametrize("name", CHILDREN)
def test_a_killed_process_is_started_again_and_the_next_request_works(up: Up, name: str) -> None:
    killed = up.child(name)
    up.kill(name)
    until(lambda: f"{name} stopped (SIGKILL); starting it again" in up.said(), what="the report")
    assert up.child(name) != killed
    create_ticket(up, f"after {name} was killed")


def test_what_it_writes_is_for_its_owner_alone(up: Up) -> None:
    folders = [up.data, *(path for path in up.data.rglob("*") if path.is_dir() and path.parent == up.data)]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}
    database = up.data / "countersign.db"
    assert stat.S_IMODE(database.stat().st_mode) == 0o600


def test_the_logs_hold_nothing_that_people_wrote_and_nothing_that_opens_doors(up: Up) -> None:
    create_ticket(up, f"the {CANARY} is loose")
    up.say(f"@Countersign what do you think of the {CANARY}?", platform="teams")
    until(lambda: "Here is what I can do" in up.channel(platform="teams"), what="the answer")
    logs = up.logs()
    assert '"event": "execution_ended"' in logs
    assert CANARY not in logs
    credentials = json.loads((up.data / "workbench" / "credentials.json").read_text())
    for name in ("slack_signing_secret", "slack_bot_token", "teams_app_password"):
        assert credentials[name] not in logs
    assert (up.data / "key").read_text().strip() not in logs


def test_a_clean_stop_says_so_and_leaves_no_process_behind(tmp_path: Path) -> None:
    with Up(tmp_path / "data") as up:
        create_ticket(up, "the last one")
        children = up.children()
        assert len(children) >= len(CHILDREN)
        assert up.stop(signal.SIGINT) == 0
        assert not [pid for pid in children if _runs(pid)]
        assert "Traceback" not in up.logs()
        assert up.said().splitlines() == [up.url, "Stopping; Ctrl-C again kills at once."]


def test_an_unreachable_redis_is_one_line_without_its_password(tmp_path: Path) -> None:
    done = command("up", "--data", str(tmp_path), REDIS_URL="redis://:hunter2@127.0.0.1:1/0")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("countersign: REDIS_URL does not work: redis://:***@127.0.0.1:1/0 does not answer")


def test_an_unreachable_model_is_mentioned_and_the_offline_engine_answers(tmp_path: Path) -> None:
    with Up(tmp_path / "data", {"VLLM_BASE_URL": "http://127.0.0.1:1", "VLLM_MODEL": "some-model"}) as up:
        first, second = up.said().splitlines()
        assert first.startswith("VLLM_BASE_URL http://127.0.0.1:1 does not answer")
        assert second == up.url
        up.say("@Countersign help")
        until(lambda: "Ask in plain words" in up.channel(), what="the answer")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
