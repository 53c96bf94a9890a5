"""Who people are: the organisation's own list, read from one YAML file.

A person is recognised by a platform identity only (workspace or tenant id, and user id), never by a name or an
e-mail address: those can be chosen freely by whoever wants to be mistaken for somebody else.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError


class PeopleError(Exception):
    """The people file cannot be used; the message is one line naming the file, the field and what is wrong."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One account of a person on one surface, as the platform's verified envelope names it."""

    surface: str
    """`slack` or `teams`."""
    tenant: str
    """Slack team or enterprise id; Teams tenant id."""
    user: str
    """Slack user id; Teams `aadObjectId`."""

    def __post_init__(self) -> None:
        # Teams ids are GUIDs, which compare without regard to case (RFC 9562, section 4); Slack ids do not.
        if self.surface == "teams":
            object.__setattr__(self, "tenant", self.tenant.lower())
            object.__setattr__(self, "user", self.user.lower())

    def __str__(self) -> str:
        return f"{self.surface}:{self.tenant}/{self.user}"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody the organisation knows."""

    id: str
    """The organisation's own short name for the person; stable, and what votes and audit entries record."""
    name: str
    """For people's eyes only; never used to decide anything."""
    email: str
    """For addressing mail only; never used to recognise anybody."""
    roles: frozenset[str]
    groups: frozenset[str]
    """Every group the person is in, including those that include one of the person's groups."""
    identities: tuple[Identity, ...]
    active: bool
    """False for somebody who left: still recognised, and refused by the rules."""
    time_zone: str = "UTC"
    """IANA name of the zone the person's "tomorrow" and "at nine" are meant in."""


_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise PydanticCustomError(
            "time_zone", "there is no time zone of this name; they look like Europe/Berlin"
        ) from None
    return name


_Zone = Annotated[str, AfterValidator(_known_zone)]
_Account = Annotated[str, StringConstraints(pattern=r"^[^/\s]+/[^/\s]+$")]


class _Entry(BaseModel):
    # An unknown key is refused: a mistyped `activ: false` would otherwise leave somebody active.
    model_config = ConfigDict(extra="forbid", strict=True)


class _PersonEntry(_Entry):
    id: _Name
    name: str = Field(min_length=1)
    email: str = ""
    roles: list[_Name] = []
    groups: list[_Name] = []
    slack: list[_Account] = []
    teams: list[_Account] = []
    active: bool = True
    time_zone: _Zone | None = None


class _GroupEntry(_Entry):
    includes: list[_Name] = []


class _PeopleFile(_Entry):
    people: list[_PersonEntry]
    groups: dict[_Name, _GroupEntry] = {}
    time_zone: _Zone = "UTC"


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """One reading of the file. Replaced as a whole, so that a reader never sees half of a change."""

    stamp: tuple[int, int, int]
    people: Mapping[str, Person]
    by_identity: Mapping[Identity, Person]
    by_group: Mapping[str, tuple[Person, ...]]


class Directory:
    """The people file, in memory.

    directory = Directory.load(settings.people_file)
    person = directory.resolve(sender.surface, sender.tenant, sender.user)
    """

    def __init__(self, path: Path, snapshot: _Snapshot) -> None:
        self._path = path
        self._snapshot = snapshot

    @classmethod
    def load(cls, path: Path) -> Directory:
        """Read and check the file. Blocks on the disk.

        Raises PeopleError when the file is missing or wrong.
        """
        return cls(path, _read(path))

    def refresh(self) -> bool:
        """Read the file again if it has changed since; true when it had. Blocks on the disk.

        Raises PeopleError when the changed file cannot be used: the people known before stay in force, and each
        further call raises again until the file is mended.
        """
        if _stamp(self._path) == self._snapshot.stamp:
            return False
        self._snapshot = _read(self._path)
        return True

    def resolve(self, surface: str, tenant: str, user: str) -> Person | None:
        """Return whose account this is (deactivated people included), or None for a stranger."""
        return self._snapshot.by_identity.get(Identity(surface, tenant, user))

    def person(self, person_id: str) -> Person | None:
        return self._snapshot.people.get(person_id)

    def everyone(self) -> tuple[Person, ...]:
        """Return the people who are active, by id."""
        return tuple(person for person in self._snapshot.people.values() if person.active)

    def known(self) -> tuple[Person, ...]:
        """Return all people, deactivated ones included, by id."""
        return tuple(self._snapshot.people.values())

    def members(self, group: str) -> tuple[Person, ...]:
        """Return the active people of a group and of the groups it includes, by id; nobody for an unknown group."""
        return self._snapshot.by_group.get(group, ())


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes when the file does: its mtime; size and inode catch two edits within one tick of the clock."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise PeopleError(f"{path}: cannot be read ({error.strerror})") from error
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> _Snapshot:
    # Stamped before reading: an edit in between is then seen by the next refresh, never missed.
    stamp = _stamp(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise PeopleError(f"{path}: cannot be read ({error.__class__.__name__})") from error
    except yaml.YAMLError as error:
        raise PeopleError(f"{path}: {_yaml_problem(error)}") from error
    try:
        entries = _PeopleFile.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise PeopleError(f"{path}: {_field(first['loc'], content)}: {first['msg']}") from error

    including = _including(path, entries)
    people: dict[str, Person] = {}
    by_identity: dict[Identity, Person] = {}
    by_group: dict[str, list[Person]] = {}
    for entry in sorted(entries.people, key=lambda entry: entry.id):
        person = _person(entry, including, entries.time_zone)
        if person.id in people:
            raise PeopleError(f"{path}: people.{person.id}.id: two people have this id")
        people[person.id] = person
        for identity in person.identities:
            owner = by_identity.setdefault(identity, person)
            if owner is not person:
                raise PeopleError(
                    f"{path}: people.{person.id}.{identity.surface}: "
                    f"{identity.tenant}/{identity.user} already belongs to {owner.id}"
                )
        if person.active:
            for group in person.groups:
                by_group.setdefault(group, []).append(person)
    return _Snapshot(stamp, people, by_identity, {group: tuple(members) for group, members in by_group.items()})


def _person(entry: _PersonEntry, including: Mapping[str, frozenset[str]], time_zone: str) -> Person:
    accounts = [("slack", account) for account in entry.slack] + [("teams", account) for account in entry.teams]
    identities = dict.fromkeys(Identity(surface, *account.split("/")) for surface, account in accounts)
    groups = set(entry.groups).union(*(including.get(group, frozenset()) for group in entry.groups))
    return Person(
        id=entry.id,
        name=entry.name,
        email=entry.email,
        roles=frozenset(entry.roles),
        groups=frozenset(groups),
        identities=tuple(identities),
        active=entry.active,
        time_zone=entry.time_zone or time_zone,
    )


def _including(path: Path, entries: _PeopleFile) -> Mapping[str, frozenset[str]]:
    """Return, for each group, all groups that include it, at any depth.

    Raises PeopleError for a group that includes itself, or one that nobody is in and nothing describes.
    """
    known = {group for person in entries.people for group in person.groups} | entries.groups.keys()
    for name, group in entries.groups.items():
        for included in group.includes:
            if included not in known:
                raise PeopleError(f"{path}: groups.{name}.includes: there is no group {included}")

    including: dict[str, set[str]] = {}

    def descend(name: str, way: tuple[str, ...]) -> None:
        if name in way:
            raise PeopleError(f"{path}: groups.{name}.includes: goes round in a circle ({' > '.join((*way, name))})")
        including.setdefault(name, set()).update(way)
        for included in entries.groups[name].includes if name in entries.groups else ():
            descend(included, (*way, name))

    for name in entries.groups:
        descend(name, ())
    return {name: frozenset(outer) for name, outer in including.items()}


def _field(location: tuple[int | str, ...], content: object) -> str:
    """Name a field as a reader of the file would: `people.ada.slack[0]`, by the person's id where there is one."""
    if not location:
        return "the file"
    name = ""
    for step in location:
        entry: Any = None
        if isinstance(content, list) and isinstance(step, int) and step < len(content):
            entry = content[step]
        elif isinstance(content, dict):
            entry = content.get(step)
        if isinstance(step, int):
            known_as = entry.get("id") if isinstance(entry, dict) else None
            name += f".{known_as}" if isinstance(known_as, str) else f"[{step}]"
        else:
            name += f".{step}" if name else step
        content = entry
    return name


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "is not YAML"
    return f"line {mark.line + 1}: {problem}" if mark is not None else str(problem)


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key given twice, where YAML would silently let the last one win (`active: false` … `active: true`)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(key.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return mapping
