"""The command line: `countersign <command>`. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bot.commands import bench, decisions, embed, model, train
from bot.commands.registry import CommandFailed, Run

if TYPE_CHECKING:
    from records.database import Database

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. What the operator can mend is one line on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["test"] and not {"-h", "--help"} & set(given):
        # What follows is pytest's, and argparse would refuse the options it does not know.
        given.insert(1, "--")
    parsed = _parser().parse_args(given)
    try:
        return int(parsed.run(parsed))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has had enough; nothing may be written when Python flushes at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.filename is None:
            raise
        print(f"countersign: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except Exception as error:
        if type(error).__name__ not in _FOR_OPERATORS:
            raise
        print(f"countersign: {error}", file=sys.stderr)
        return 2


# By name, so that a command need not import the modules of the others.
_FOR_OPERATORS = frozenset(
    {"CommandFailed", "SettingsError", "PeopleError", "RulesError", "KeyUnusable", "DatabaseUnavailable", "AuditBroken",
     "RedisServerError", "PreparationFailed"}
)  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="countersign", description="An AI work assistant for Slack and Teams.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, run: Run | None, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    for name, run, text in (
        ("up", _up, "start everything on this machine"),
        ("serve", _serve, "the web process alone"),
        ("work", _work, "a worker process alone"),
        ("migrate", _migrate, "bring the database to the newest schema"),
        ("doctor", _doctor, "say what is configured and what can be reached"),
        ("catalogue", _catalogue, "list every action: its class, owner and rules' answer"),
    ):
        command = add(name, run, text)
        command.add_argument("--data", type=Path, help="folder of everything that must survive a restart")
        if name in ("up", "serve"):
            command.add_argument("--port", type=int, help="port to listen on")
    test = add("test", _test, "lint, type-check and test; other arguments go to pytest")
    test.add_argument("--audit", action="store_true", help="check the pinned dependencies for known vulnerabilities")
    server = "run the tests that need a real vLLM server, in an environment made for that (3 GB)"
    test.add_argument("--model-server", action="store_true", help=server)
    test.add_argument("rest", nargs=argparse.REMAINDER)

    audit = add("audit", None, "the audit log").add_subparsers(required=True, metavar="what")
    verify = audit.add_parser("verify", help="check the chain, in the database or in an export")
    verify.add_argument("file", nargs="?", type=Path, help="an export; the database when left out")
    export = audit.add_parser("export", help="write the log as JSON lines")
    export.add_argument("file", nargs="?", type=Path, help="where to; standard output when left out")
    for command, run in ((verify, _audit_verify), (export, _audit_export)):
        command.add_argument("--data", type=Path)
        command.set_defaults(run=run)

    policy = add("policy", None, "the rules").add_subparsers(required=True, metavar="what")
    check = policy.add_parser("check", help="validate the rule files and the people file")
    check.add_argument("--data", type=Path)
    check.set_defaults(run=_policy_check)

    manifest = add("manifest", None, "what to upload to a platform").add_subparsers(required=True, metavar="platform")
    slack = manifest.add_parser("slack", help="print a Slack app manifest")
    teams = manifest.add_parser("teams", help="write a Teams app package")
    teams.add_argument("--out", type=Path, default=Path("countersign-teams.zip"))
    teams.add_argument("--app-id", default=os.environ.get("TEAMS_APP_ID"), help="defaults to TEAMS_APP_ID")
    for command, run in ((slack, _manifest_slack), (teams, _manifest_teams)):
        command.add_argument("--url", default=os.environ.get("COUNTERSIGN_PUBLIC_URL"), help="our public https URL")
        command.set_defaults(run=run)

    for group in (model, bench, train, embed, decisions):
        group.register(add)
    return parser


def _private_files() -> None:
    """Let nobody else on this machine read what the running product writes."""
    os.umask(0o077)


def _up(parsed: argparse.Namespace) -> int:
    from bot.up import up

    _private_files()
    return asyncio.run(up(data=parsed.data, port=parsed.port))


def _serve(parsed: argparse.Namespace) -> int:
    from bot.logs import configure_logs
    from bot.up import load_rules, settings_of
    from bot.web import serve

    _private_files()
    settings = settings_of(parsed.data, parsed.port)
    load_rules(settings)
    configure_logs(settings.log_format, "web")
    return serve(settings)


def _work(parsed: argparse.Namespace) -> int:
    from bot.logs import configure_logs
    from bot.up import check_redis, load_rules, settings_of
    from bot.work import work

    _private_files()
    settings = settings_of(parsed.data, None)
    load_rules(settings)
    # RQ would end with a traceback; whoever runs us starts us again.
    check_redis(settings)
    configure_logs(settings.log_format, "worker")
    return work(settings)


def _migrate(parsed: argparse.Namespace) -> int:
    from bot.up import migrate, settings_of

    _private_files()
    changed = migrate(settings_of(parsed.data, None, redis_needed=False))
    print("The database was brought to the newest schema." if changed else "The database is at the newest schema.")
    return 0


def _doctor(parsed: argparse.Namespace) -> int:
    from bot.doctor import examine
    from bot.up import settings_of

    findings = asyncio.run(examine(settings_of(parsed.data, None, redis_needed=False)))
    for finding in findings:
        print(f"{'ok  ' if finding.good else 'MEND'}  {finding.part:<10} {finding.text}")
    return 0 if all(finding.good for finding in findings) else 1


def _catalogue(parsed: argparse.Namespace) -> int:
    from actions.catalogue import Catalogue
    from actions.connectors.registry import build_connectors
    from bot.up import settings_of

    settings = settings_of(parsed.data, None, redis_needed=False)
    catalogue = Catalogue(build_connectors(settings.data, settings.public_url, samples=False))
    for spec in catalogue.specs():
        print(f"{spec.name} v{spec.version}: {spec.description}")
        print(f"    {spec.action_class}, {spec.reversibility}, repeat: {spec.repeat}, owner: {spec.owner}")
        print(f"    arguments: {', '.join(spec.arguments.model_fields)}")
    return 0


def _test(parsed: argparse.Namespace) -> int:
    from bot.test_command import run_tests

    return run_tests(parsed.rest[1:], ROOT)


def _audit_verify(parsed: argparse.Namespace) -> int:
    from policies import audit

    if parsed.file is not None:
        with parsed.file.open(encoding="utf-8") as lines:
            size, last = audit.verify_lines(lines)
        print(f"The export is whole: {size} entries, the last has hash {last}.")
        return 0
    database = _database(parsed.data)
    try:
        size = database.query(audit.verify)
    finally:
        database.close()
    print(f"The audit log is whole: {size} entries.")
    return 0


def _audit_export(parsed: argparse.Namespace) -> int:
    from policies import audit
    from records.database import Transaction

    _private_files()
    database = _database(parsed.data)
    out = parsed.file.open("w", encoding="utf-8") if parsed.file is not None else sys.stdout

    def write(tx: Transaction) -> int:
        size = 0
        for line in audit.export(tx):
            out.write(line + "\n")
            size += 1
        return size

    try:
        size = database.query(write)
        out.flush()
    finally:
        database.close()
        if parsed.file is not None:
            out.close()
    print(f"Wrote {size} entries.", file=sys.stderr)
    return 0


def _policy_check(parsed: argparse.Namespace) -> int:
    from bot.up import load_rules, settings_of

    rules = load_rules(settings_of(parsed.data, None, redis_needed=False))
    print(f"The rules are sound: {len(rules.ruleset.rules)} rules, digest {rules.digest[:12]}.")
    return 0


def _manifest_slack(parsed: argparse.Namespace) -> int:
    from bot.slack.manifest import slack_manifest

    print(json.dumps(slack_manifest(_public_url(parsed.url)), indent=2))
    return 0


def _manifest_teams(parsed: argparse.Namespace) -> int:
    from bot.teams.manifest import teams_manifest, write_package

    if not parsed.app_id:
        raise CommandFailed("TEAMS_APP_ID is not set; set it or give --app-id, see docs/connect-teams.md")
    write_package(parsed.out, teams_manifest(public_url=_public_url(parsed.url), app_id=parsed.app_id))
    print(f"Wrote {parsed.out}; upload it in Teams under Apps → Manage your apps → Upload an app.")
    return 0


def _public_url(url: str | None) -> str:
    if not url:
        raise CommandFailed("COUNTERSIGN_PUBLIC_URL is not set; set it or give --url, like https://bot.example.com")
    from bot.settings import checked_url

    return checked_url("COUNTERSIGN_PUBLIC_URL", url, ("https",), "https://bot.example.com").rstrip("/")


def _database(data: Path | None) -> Database:
    from bot.up import existing_database, settings_of

    return existing_database(settings_of(data, None, redis_needed=False))


if __name__ == "__main__":
    sys.exit(main())
