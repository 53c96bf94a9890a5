"""The test command on a small tree of its own, with the real tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.test_command import find_browser, run_tests

QUICK = ("-p", "no:cacheprovider", "-n", "0")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[tool.mypy]\nfiles = ["one.py"]\n')
    (tmp_path / "one.py").write_text("ONE: int = 1\n")
    (tmp_path / "test_one.py").write_text("def test_one() -> None:\n    assert True\n")
    return tmp_path


def test_all_passing_is_0_and_pytest_has_the_last_word(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_tests(QUICK, tree) == 0
    lines = capfd.readouterr().out.strip().splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("== ")] == [
        "== Lint",
        "== Format",
        "== Types",
        "== Tests",
    ]
    assert "1 passed" in lines[-1]


def test_one_failing_check_fails_the_whole_but_the_tests_still_run(
    tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tree / "one.py").write_text("import os\n")
    assert run_tests(QUICK, tree) != 0
    assert "1 passed" in capfd.readouterr().out.strip().splitlines()[-1]


def test_a_failing_test_fails_the_whole(tree: Path) -> None:
    (tree / "test_one.py").write_text("def test_one() -> None:\n    assert not True\n")
    assert run_tests(QUICK, tree) != 0


def test_a_browser_is_found_by_its_usual_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_browser() is None
    (tmp_path / "google-chrome").touch(mode=0o755)
    assert find_browser() == str(tmp_path / "google-chrome")
