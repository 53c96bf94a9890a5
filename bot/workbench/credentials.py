"""What `up` makes at the first start, so that everything works with nothing configured: secrets of the local
platforms, and a people file with the workbench's people in it.
"""

from __future__ import annotations

import json
import os
import secrets
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bot.settings import SettingsError, WorkbenchCredentials

SLACK_TEAM = "T0WORKBENCH"
EMULATOR_TENANT = "00000000-0000-0000-0000-0000000000001"
"""The tenant and, below, two people of Microsoft's local Teams client as it comes; it signs nothing, so its activities
are taken from this machine only, and only while no app id is set."""
TEAMS_TENANT = "5f0b5b5e-3d5c-4c53-9f5e-0c0de0000001"


@dataclass(frozen=True, slots=True)
class WorkbenchPerson:
    """Somebody the workbench can be used as."""

    id: str
    name: str
    email: str
    groups: tuple[str, ...]
    slack: str
    teams: str
    emulator: str


PEOPLE = (
    WorkbenchPerson(
        "rosa",
        "Rosa Blum",
        "rosa@example.com",
        ("support",),
        "U0ROSA",
        "5f0b5b5e-3d5c-4c53-9f5e-0c0de0000011",
        "00000000-0000-0000-0000-0000000000020",
    ),
    WorkbenchPerson(
        "amir",
        "Amir Haddad",
        "amir@example.com",
        ("support", "approvers", "finance", "security-admins"),
        "U0AMIR",
        "5f0b5b5e-3d5c-4c53-9f5e-0c0de0000012",
        "00000000-0000-0000-0000-0000000000021",
    ),
)


def load_or_create_credentials(data: Path) -> WorkbenchCredentials:
    """The credentials in the data folder; made, readable by the owner only, when there are none."""
    path = data / "workbench" / "credentials.json"
    if path.exists():
        try:
            return WorkbenchCredentials(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise SettingsError(f"{path} cannot be read; delete it and a new one is made") from error
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    made = WorkbenchCredentials(
        slack_signing_secret=secrets.token_hex(32),
        slack_bot_token=f"xoxb-{secrets.token_hex(24)}",
        slack_team=SLACK_TEAM,
        slack_bot_user="U0COUNTERSIGN",
        teams_app_id=str(uuid.uuid4()),
        teams_app_password=secrets.token_urlsafe(32),
        teams_tenant=TEAMS_TENANT,
        teams_private_key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_private(path, json.dumps(asdict(made)))
    return made


def ensure_people_file(path: Path) -> None:
    """Write a people file with the workbench's people when there is none."""
    if path.exists():
        return
    people = [
        {
            "id": person.id,
            "name": person.name,
            "email": person.email,
            "roles": ["employee"],
            "groups": list(person.groups),
            "slack": [f"{SLACK_TEAM}/{person.slack}"],
            "teams": [f"{TEAMS_TENANT}/{person.teams}", f"{EMULATOR_TENANT}/{person.emulator}"],
        }
        for person in PEOPLE
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    heading = "# Who may use Countersign, and as what. See policies/people.example.yaml. Edits are taken up at once.\n"
    _write_private(path, heading + yaml.safe_dump({"time_zone": _own_zone(), "people": people}, sort_keys=False))


def _own_zone() -> str:
    """The IANA name of this machine's time zone, from `TZ` or where `/etc/localtime` points; UTC where neither says."""
    name = os.environ.get("TZ", "").removeprefix(":") or os.path.realpath("/etc/localtime").partition("zoneinfo/")[2]
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "UTC"


def _write_private(path: Path, content: str) -> None:
    waiting = path.with_suffix(f".{os.getpid()}.new")
    descriptor = os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    waiting.replace(path)
