"""Loading rule files: what is refused at start, and what the digest covers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from policies.people import Directory
from policies.rules import Rules, RulesError
from policies.ruleset import RuleSet

POLICIES = Path(__file__).parents[2] / "policies"

APPROVAL = """
@id("local") @effect("approval") @group("finance") @n("2") @reason("Finance looks at this.")
forbid (principal, action == Action::"run", resource)
when { resource.connector == "bank" }
unless { context.signed.contains("local") };
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(POLICIES / "rules", tmp_path / "rules")
    return tmp_path / "rules"


@pytest.fixture
def directory() -> Directory:
    return Directory.load(POLICIES / "people.example.yaml")


def test_the_shipped_rules_load_with_the_example_people(folder: Path, directory: Directory) -> None:
    (folder / "local.cedar").write_text(APPROVAL)
    rules = Rules.load(folder, directory)
    local = next(rule for rule in rules.ruleset.rules if rule.id == "local")
    assert (local.group, local.n, local.file) == ("finance", 2, "local.cedar")
    assert local.reason == "Finance looks at this."


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('@n("2")', '@n("0")', "local: an approval rule needs @n"),
        ('@n("2")', '@n("-1")', "local: an approval rule needs @n"),
        ('@n("2")', '@n("two")', "local: an approval rule needs @n"),
        ('@n("2")', "", "local: an approval rule needs @n"),
        ('@n("2")', "@n", "local: an approval rule needs @n"),
        ('@group("finance")', "", "local: an approval rule needs a @group"),
        ('@group("finance")', '@group("")', "local: an approval rule needs a @group"),
        ('@group("finance")', '@group("wizards")', "local: nobody active is in group wizards"),
        ('@effect("approval")', '@effect("aproval")', "local: @effect is 'aproval'"),
        ('@effect("approval")', "", "local: @group belongs to rules with"),
        ('@effect("approval")', '@effect("confirmation")', "local: @group belongs to rules with"),
        ('@effect("approval") @group("finance") @n("2")', "", "local: context.signed may only be asked"),
        ('@reason("Finance looks at this.")', "", "local: needs a @reason"),
        ('@reason("Finance looks at this.")', '@reason(" ")', "local: needs a @reason"),
        ('@id("local")', "", "rule 1: needs an @id"),
        ('@id("local")', '@id("Local Rule")', "needs an @id of lower-case letters"),
        ('@id("local")', '@id("engine")', "engine: this id is reserved"),
        ('@reason("Fin', '@severity("high") @reason("Fin', "local: @severity means nothing here"),
        ('unless { context.signed.contains("local") }', "", "local: needs to end in unless"),
        ('contains("local")', 'contains("money-needs-finance")', "local: needs to end in unless"),
        (
            'when { resource.connector == "bank" }',
            'when { !context.signed.contains("money-needs-finance") }',
            "local: ",
        ),
        ("forbid", "permit", "local: @effect belongs to a forbid"),
        ("resource.connector", "resource.conector", "local: for policy"),
        ('Action::"run"', 'Action::"runn"', "local: for policy"),
        ("forbid (principal,", "forbid (principal == ?principal,", "holds a template"),
        ("forbid (", "forbid ", "local.cedar: unexpected token"),
    ],
)
def test_a_wrong_rule_is_refused_with_one_line_naming_file_and_rule(
    folder: Path, directory: Directory, before: str, after: str, told: str
) -> None:
    assert before in APPROVAL
    (folder / "local.cedar").write_text(APPROVAL.replace(before, after, 1))
    with pytest.raises(RulesError) as refused:
        Rules.load(folder, directory)
    assert str(refused.value).startswith(str(folder / "local.cedar"))
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_id_may_be_used_once_over_all_files(folder: Path, directory: Directory) -> None:
    (folder / "local.cedar").write_text(APPROVAL.replace("local", "guest"))
    with pytest.raises(RulesError, match=r"guest: this id is taken by a rule in (local|never)\.cedar"):
        Rules.load(folder, directory)


def test_a_group_with_nobody_active_in_it_is_refused(folder: Path, tmp_path: Path) -> None:
    people = (POLICIES / "people.example.yaml").read_text().replace("groups: [support-leads", "groups: [support")
    path = tmp_path / "people.yaml"
    path.write_text(people.replace("includes: [support-leads]", "includes: []"))
    with pytest.raises(RulesError, match="nobody active is in group approvers"):
        Rules.load(folder, Directory.load(path))


@pytest.mark.parametrize("missing", ["schema.cedarschema", "*.cedar"])
def test_a_folder_without_schema_or_rules_is_refused(folder: Path, directory: Directory, missing: str) -> None:
    for path in folder.glob(missing):
        path.unlink()
    with pytest.raises(RulesError):
        Rules.load(folder, directory)


def test_a_broken_schema_is_refused_by_name(folder: Path, directory: Directory) -> None:
    (folder / "schema.cedarschema").write_text("entity Person in;")
    with pytest.raises(RulesError, match=r"schema\.cedarschema: "):
        Rules.load(folder, directory)


def test_the_digest_changes_with_any_file_and_with_nothing_else(folder: Path) -> None:
    digests = {RuleSet.load(folder).digest, RuleSet.load(folder).digest}
    assert len(digests) == 1
    files = sorted(folder.iterdir())
    for path in files:
        path.write_text(path.read_text() + "\n")
        digests.add(RuleSet.load(folder).digest)
    changed = len(digests)
    assert changed == 1 + len(files)
    (folder / "never.cedar").rename(folder / "always-never.cedar")
    digests.add(RuleSet.load(folder).digest)
    assert len(digests) == changed + 1
    (folder / "notes.txt").write_text("not a rule")
    digests.add(RuleSet.load(folder).digest)
    assert len(digests) == changed + 1
