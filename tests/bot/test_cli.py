"""The command line on a folder that a real `up` has left, and what it says where something is wrong."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bot.doctor import Finding, examine
from bot.settings import Settings, SlackSettings, TeamsSettings, load_settings
from tests.bot.up_process import ROOT, Up, clean_environment, command, until

APP_ID = "11111111-1111-4111-8111-111111111111"


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of an installation that did something and was stopped."""
    folder = tmp_path_factory.mktemp("used") / "data"
    with Up(folder) as up:
        up.say("@Countersign create a ticket: the gate squeaks")
        until(lambda: "Done: Create a ticket" in up.channel(), what="the ticket")
    return folder


@pytest.fixture
def data(used: Path, tmp_path: Path) -> Path:
    """A copy of it, to do with as one likes."""
    return shutil.copytree(used, tmp_path / "data", ignore=shutil.ignore_patterns("redis"))


def test_the_audit_log_is_exported_and_both_are_verified(data: Path, tmp_path: Path) -> None:
    export = tmp_path / "audit.jsonl"
    verified = command("audit", "verify", "--data", str(data))
    assert verified.returncode == 0
    size = len(command("audit", "export", "--data", str(data)).stdout.splitlines())
    assert size > 0
    assert verified.stdout == f"The audit log is whole: {size} entries.\n"
    assert command("audit", "export", str(export), "--data", str(data)).stderr == f"Wrote {size} entries.\n"
    of_the_export = command("audit", "verify", str(export))
    assert of_the_export.returncode == 0
    assert of_the_export.stdout.startswith(f"The export is whole: {size} entries, the last has hash ")


def test_an_export_with_a_changed_entry_is_not_whole(data: Path, tmp_path: Path) -> None:
    lines = command("audit", "export", "--data", str(data)).stdout.splitlines()
    changed = tmp_path / "changed.jsonl"
    changed.write_text("\n".join([lines[0].replace("rosa", "amir"), *lines[1:]]) + "\n")
    done = command("audit", "verify", str(changed))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_an_export_into_a_pipe_that_closes_ends_quietly(data: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bot.cli", "audit", "export", "--data", str(data)],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141


def test_an_entry_that_is_gone_from_the_database_is_noticed(data: Path) -> None:
    with sqlite3.connect(data / "countersign.db") as connection:
        assert connection.execute("DELETE FROM audit WHERE sequence = 2").rowcount == 1
    connection.close()
    done = command("audit", "verify", "--data", str(data))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_the_other_commands_work_on_the_folder(data: Path) -> None:
    assert command("migrate", "--data", str(data)).stdout == "The database is at the newest schema.\n"
    checked = command("policy", "check", "--data", str(data))
    assert checked.stdout.startswith("The rules are sound: ")
    listed = command("catalogue", "--data", str(data)).stdout
    assert "ticketing.close v1" in listed
    assert "destructive, compensable" in listed
    healthy = command("doctor", "--data", str(data))
    assert healthy.returncode == 0, healthy.stdout
    assert {line[:4] for line in healthy.stdout.splitlines()} == {"ok  "}


def test_migrate_makes_the_database_of_a_new_installation(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    done = command("migrate", "--data", str(folder))
    assert done.stdout == "The database was brought to the newest schema.\n"
    assert command("audit", "verify", "--data", str(folder)).stdout == "The audit log is whole: 0 entries.\n"


def test_the_slack_manifest_names_our_public_addresses() -> None:
    manifest = json.loads(command("manifest", "slack", "--url", "https://bot.example.com/").stdout)
    settings = manifest["settings"]
    assert settings["event_subscriptions"]["request_url"] == "https://bot.example.com/slack/events"
    assert settings["interactivity"]["request_url"] == "https://bot.example.com/slack/events"


def test_the_teams_package_is_written(tmp_path: Path) -> None:
    package = tmp_path / "countersign.zip"
    done = command("manifest", "teams", "--url", "https://bot.example.com", "--app-id", APP_ID, "--out", str(package))
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(package) as written:
        manifest = json.loads(written.read("manifest.json"))
        assert {manifest["icons"]["color"], manifest["icons"]["outline"]} <= set(written.namelist())
    assert manifest["bots"][0]["botId"] == APP_ID


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (("up",), {"REDIS_URL": "bogus"}, "REDIS_URL is 'bogus'"),
        (("up",), {"DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x"}, "DATABASE_URL does not work"),
        (("up",), {"VLLM_BASE_URL": "http://127.0.0.1:1"}, "VLLM_MODEL is not set"),
        (("up", "--port", "99999"), {}, "--port is 99999"),
        (("up",), {"SLACK_BOT_TOKEN": "xoxb-hunter2"}, "SLACK_SIGNING_SECRET is not set"),
        (("up",), {"TEAMS_APP_ID": APP_ID}, "TEAMS_APP_PASSWORD is not set"),
        (("up",), {"COUNTERSIGN_KEY": "hunter2"}, "COUNTERSIGN_KEY is not 64 hexadecimal digits"),
        (("up",), {"COUNTERSIGN_PEOPLE": "nowhere.yaml"}, "there is no people file nowhere.yaml"),
        (("up",), {"COUNTERSIGN_HOST": "192.0.2.1"}, "COUNTERSIGN_HOST is '192.0.2.1'; `up` needs 127.0.0.1"),
        (("serve",), {}, "REDIS_URL is not set"),
        (("work",), {}, "REDIS_URL is not set"),
        (("serve",), {"REDIS_URL": "redis://127.0.0.1:1/0"}, "there is no people file"),
        (("audit", "verify"), {}, "there is no database in"),
        (("audit", "export"), {}, "there is no database in"),
        (("audit", "verify", "nowhere.jsonl"), {}, "nowhere.jsonl: No such file or directory"),
        (("policy", "check"), {}, "there is no people file"),
        (("manifest", "slack"), {}, "COUNTERSIGN_PUBLIC_URL is not set"),
        (("manifest", "slack", "--url", "http://bot.example.com"), {}, "COUNTERSIGN_PUBLIC_URL is"),
        (("manifest", "teams", "--url", "https://bot.example.com"), {}, "TEAMS_APP_ID is not set"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], variables: dict[str, str], said: str, tmp_path: Path
) -> None:
    done = command(*arguments, cwd=tmp_path, **{"COUNTERSIGN_DATA": str(tmp_path / "data"), **variables})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"countersign: {said}")
    assert "hunter2" not in line
    assert done.stdout == ""


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = command("up", "--data", str(tmp_path / "file" / "data"))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "Not a directory" in line


def test_an_unreadable_people_file_is_one_line_that_names_the_place(data: Path) -> None:
    (data / "people.yaml").write_text("people:\n- id: rosa\n  name: Rosa\n  grops: [support]\n")
    for arguments in (("up",), ("policy", "check")):
        done = command(*arguments, "--data", str(data))
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "people.yaml: people.rosa.grops" in line


def test_the_doctor_names_what_has_to_be_mended_and_says_so_by_its_exit_code(data: Path) -> None:
    (data / "people.yaml").unlink()
    done = command("doctor", "--data", str(data), REDIS_URL="redis://:hunter2@127.0.0.1:1/0")
    assert done.returncode == 1
    mend = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("MEND")]
    assert mend == ["redis", "rules"]
    assert "hunter2" not in done.stdout


@pytest.fixture
async def platforms() -> AsyncIterator[TestServer]:
    """A Slack that knows one token, a token service that knows one password, a model server with one model."""

    async def auth_test(request: web.Request) -> web.Response:
        if request.headers["Authorization"] == "Bearer xoxb-good":
            return web.json_response({"ok": True, "team_id": "T1"})
        return web.json_response({"ok": False, "error": "invalid_auth"})

    async def token(request: web.Request) -> web.Response:
        if (await request.post())["client_secret"] == "good":
            return web.json_response({"access_token": "t", "expires_in": 3600})
        return web.json_response({"error": "invalid_client"}, status=401)

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "tiny"}]})

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/api/auth.test", auth_test)
    app.router.add_post("/token", token)
    server = TestServer(app)
    await server.start_server()
    yield server
    await server.close()


@pytest.fixture
def connected(platforms: TestServer, data: Path) -> Settings:
    """Settings with a Slack and a Teams app, both at the doubles."""
    settings = load_settings({"REDIS_URL": "unix:///not-used"}, data=data)
    return replace(
        settings,
        slack=SlackSettings("secret", "xoxb-good", str(platforms.make_url("/api/")), False, frozenset({"T1"})),
        teams=TeamsSettings(
            APP_ID, "good", "tenant", "", str(platforms.make_url("/token")), (), local=False, emulator=False
        ),
    )


Change = Callable[[Settings], Settings]


def _slack(**changes: object) -> Change:
    return lambda settings: replace(settings, slack=replace(settings.slack, **changes))  # type: ignore[type-var]


def _teams(**changes: object) -> Change:
    return lambda settings: replace(settings, teams=replace(settings.teams, **changes))  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("change", "part", "good", "said"),
    [
        (_slack(), "Slack", True, "for workspace T1"),
        (_slack(bot_token="xoxb-bad"), "Slack", False, "does not take SLACK_BOT_TOKEN (invalid_auth)"),
        (_slack(team_allow_list=frozenset({"T2"})), "Slack", False, "workspace T1; add it to SLACK_TEAM_IDS"),
        (_slack(api_url="http://127.0.0.1:1/"), "Slack", False, "ClientConnectorError"),
        (_teams(), "Teams", True, "for tenant tenant"),
        (_teams(app_password="bad"), "Teams", False, "the token service answered 401"),
        (_teams(token_url="http://127.0.0.1:1/"), "Teams", False, "does not answer"),
    ],
)
async def test_the_doctor_asks_the_platforms(
    connected: Settings, change: Change, part: str, good: bool, said: str
) -> None:
    finding = _of(part, await examine(change(connected)))
    assert finding.good is good
    assert said in finding.text


async def test_the_doctor_asks_the_model_server_what_it_serves(platforms: TestServer, data: Path) -> None:
    for path, name, good in (("/v1", "tiny", True), ("", "tiny", True), ("", "another", False), ("/x", "tiny", False)):
        url = str(platforms.make_url(path or "/"))
        variables = {"REDIS_URL": "unix:///not-used", "VLLM_BASE_URL": url, "VLLM_MODEL": name}
        finding = _of("model", await examine(load_settings(variables, data=data)))
        assert finding.good is good, finding


def _of(part: str, findings: list[Finding]) -> Finding:
    return next(finding for finding in findings if finding.part == part)
