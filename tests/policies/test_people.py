"""The people file: who is recognised, who is in which group, and what a wrong file says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policies.people import Directory, Identity, PeopleError

EXAMPLE = Path(__file__).parents[2] / "policies" / "people.example.yaml"

SMALL = """
people:
  - id: ada
    name: Ada Lovelace
    email: ada@example.com
    roles: [employee]
    groups: [support]
    slack: [T1/U1]
    teams: [TENANT-A/USER-A]
  - id: grace
    name: Grace Hopper
    groups: [leads]
    slack: [T1/U2]
groups:
  managers: {includes: [leads]}
  everyone: {includes: [managers, support]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "people.yaml"
    path.write_text(SMALL)
    return path


def write_later(path: Path, text: str) -> None:
    """Change the file and push its mtime on, as an edit some time later would."""
    before = path.stat().st_mtime_ns
    path.write_text(text)
    os.utime(path, ns=(before + 1_000_000_000, before + 1_000_000_000))


def test_a_person_is_resolved_by_each_of_their_accounts(file: Path) -> None:
    directory = Directory.load(file)
    ada = directory.person("ada")
    assert ada is not None
    assert ada.identities == (Identity("slack", "T1", "U1"), Identity("teams", "tenant-a", "user-a"))
    assert directory.resolve("slack", "T1", "U1") == ada
    assert directory.resolve("teams", "tenant-a", "user-a") == ada


def test_teams_ids_match_whatever_their_case_and_slack_ids_do_not(file: Path) -> None:
    directory = Directory.load(file)
    assert directory.resolve("teams", "Tenant-A", "User-A") == directory.person("ada")
    assert directory.resolve("slack", "t1", "u1") is None


@pytest.mark.parametrize(
    ("surface", "tenant", "user"),
    [
        ("slack", "T2", "U1"),
        ("slack", "T1", "U9"),
        ("teams", "T1", "U1"),
        ("slack", "T1", "Ada Lovelace"),
        ("slack", "T1", "ada@example.com"),
        ("slack", "T1", "ada"),
        ("slack", "", ""),
    ],
)
def test_a_name_an_address_or_another_tenants_id_resolves_to_nobody(
    file: Path, surface: str, tenant: str, user: str
) -> None:
    assert Directory.load(file).resolve(surface, tenant, user) is None


def test_people_who_share_a_name_and_an_address_are_still_two_people(file: Path) -> None:
    twin = "  - {id: twin, name: Ada Lovelace, email: ada@example.com, slack: [T1/U7]}\ngroups:"
    file.write_text(SMALL.replace("groups:\n  managers", f"{twin}\n  managers"))
    twin_person = Directory.load(file).resolve("slack", "T1", "U7")
    assert twin_person is not None
    assert twin_person.id == "twin"
    assert twin_person.groups == frozenset()


def test_nested_groups_count_as_membership(file: Path) -> None:
    directory = Directory.load(file)
    ada, grace = directory.person("ada"), directory.person("grace")
    assert ada is not None
    assert grace is not None
    assert grace.groups == {"leads", "managers", "everyone"}
    assert ada.groups == {"support", "everyone"}
    assert directory.members("managers") == (grace,)
    assert directory.members("everyone") == (ada, grace)


def test_an_unknown_group_has_no_members(file: Path) -> None:
    assert Directory.load(file).members("wizards") == ()


def test_a_group_that_includes_nobody_has_no_members(file: Path) -> None:
    file.write_text(SMALL + "  vacant: {}\n")
    assert Directory.load(file).members("vacant") == ()


def test_somebody_deactivated_is_recognised_but_no_member_of_anything(file: Path) -> None:
    file.write_text(SMALL.replace("    groups: [leads]", "    groups: [leads]\n    active: false"))
    directory = Directory.load(file)
    grace = directory.resolve("slack", "T1", "U2")
    assert grace is not None
    assert not grace.active
    assert directory.members("leads") == ()
    assert directory.members("managers") == ()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("[T1/U2]", "[T1/U1]", "people.grace.slack: T1/U1 already belongs to ada"),
        (
            "    slack: [T1/U2]",
            "    teams: [tenant-a/USER-a]",
            "people.grace.teams: tenant-a/user-a already belongs to",
        ),
        ("id: grace", "id: ada", "people.ada.id: two people have this id"),
        ("id: grace", "id: 7", "people[1].id: Input should be a valid string"),
        ("name: Grace Hopper", "nome: Grace Hopper", "people.grace.name: Field required"),
        ("email: ada@example.com", "activ: false", "people.ada.activ: Extra inputs are not permitted"),
        ("email: ada@example.com", "active: 'no'", "people.ada.active: Input should be a valid boolean"),
        ("[T1/U1]", "[U1]", "people.ada.slack[0]: String should match"),
        ("[T1/U1]", "[T1/U1/U2]", "people.ada.slack[0]: String should match"),
        ("includes: [leads]", "includes: [leeds]", "groups.managers.includes: there is no group leeds"),
        ("includes: [leads]", "includes: [everyone]", "goes round in a circle (managers > everyone > managers)"),
        ("includes: [leads]", "includes: [managers]", "goes round in a circle (managers > managers)"),
        ("includes: [leads]", "include: [leads]", "groups.managers.include: Extra inputs"),
        ("    groups: [leads]", "    active: false\n    active: true", "active is given twice"),
        ("groups:\n  managers", "groupes:\n  managers", "groupes: Extra inputs"),
        ("people:", "people: [", "line 3: "),
    ],
)
def test_a_wrong_file_is_refused_with_one_line_naming_file_and_field(
    file: Path, before: str, after: str, told: str
) -> None:
    assert before in SMALL
    file.write_text(SMALL.replace(before, after, 1))
    with pytest.raises(PeopleError) as refused:
        Directory.load(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", ["", "[]", "people: {}", "just words"])
def test_a_file_without_a_list_of_people_is_refused(file: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(PeopleError):
        Directory.load(file)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(PeopleError, match=r"absent\.yaml: cannot be read"):
        Directory.load(tmp_path / "absent.yaml")


def test_refresh_takes_in_a_changed_file_and_says_so(file: Path) -> None:
    directory = Directory.load(file)
    assert not directory.refresh()
    write_later(file, SMALL.replace("[T1/U2]", "[T1/U3]"))
    assert directory.resolve("slack", "T1", "U3") is None
    assert directory.refresh()
    assert directory.resolve("slack", "T1", "U3") == directory.person("grace")
    assert directory.resolve("slack", "T1", "U2") is None
    assert not directory.refresh()


def test_a_broken_edit_is_told_at_every_refresh_and_leaves_the_known_people_in_force(file: Path) -> None:
    directory = Directory.load(file)
    write_later(file, SMALL.replace("id: grace", "id: ada"))
    for _ in range(2):
        with pytest.raises(PeopleError):
            directory.refresh()
    assert directory.resolve("slack", "T1", "U2") is not None
    write_later(file, SMALL.replace("[T1/U2]", "[T1/U3]"))
    assert directory.refresh()
    assert directory.resolve("slack", "T1", "U2") is None


def test_the_example_file_can_be_used_as_it_is() -> None:
    directory = Directory.load(EXAMPLE)
    assert [person.id for person in directory.members("approvers")] == ["grace", "katherine"]
    assert [person.id for person in directory.members("finance")] == ["alan", "emmy", "katherine"]
    assert len(directory.members("security-admins")) == 3


def test_a_persons_time_zone_is_their_own_or_that_of_the_file_or_utc(file: Path) -> None:
    assert {person.time_zone for person in Directory.load(file).everyone()} == {"UTC"}
    file.write_text(
        SMALL.replace("people:", "time_zone: Europe/Berlin\npeople:", 1).replace(
            "groups: [leads]", "groups: [leads]\n    time_zone: America/New_York"
        )
    )
    assert [(person.id, person.time_zone) for person in Directory.load(file).everyone()] == [
        ("ada", "Europe/Berlin"),
        ("grace", "America/New_York"),
    ]


@pytest.mark.parametrize("zone", ["Berlin", "Europe", "../../etc/passwd", "/etc/localtime", "CEST", "''", "2"])
def test_a_time_zone_that_does_not_exist_is_refused_in_one_line(file: Path, zone: str) -> None:
    file.write_text(SMALL.replace("groups: [leads]", f"groups: [leads]\n    time_zone: {zone}"))
    with pytest.raises(PeopleError) as refused:
        Directory.load(file)
    assert str(refused.value).startswith(f"{file}: people.grace.time_zone: ")
    assert "\n" not in str(refused.value)
    file.write_text(f"time_zone: {zone}\n{SMALL}")
    with pytest.raises(PeopleError, match=r"people\.yaml: time_zone: "):
        Directory.load(file)


def test_everyone_is_those_who_are_active_and_those_who_left_are_still_known() -> None:
    directory = Directory.load(EXAMPLE)
    active = [person.id for person in directory.everyone()]
    assert "charles" not in active
    assert sorted([*active, "charles"]) == [person.id for person in directory.known()]
