"""The test command on a small tree of its own, with the real tools."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bot.model_server_environment import FOLDER, PYTHON_VARIABLE
from bot.test_command import find_browser, run_tests

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.fixture
def server_tree(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with our own doorkeeper of the tests that need a model server, and one such test."""
    folder = tree / "tests" / "model_server"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "model_server" / "conftest.py", folder)
    (folder / "test_server.py").write_text(
        f"import os\n\n\ndef test_with_one() -> None:\n    assert os.environ['{PYTHON_VARIABLE}'] == '/some/python'\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    return tree


def test_tests_that_need_a_model_server_are_skipped_a_file_at_a_time_where_there_is_none(
    server_tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_tests(("-rs", *QUICK), server_tree)
    said = capfd.readouterr().out.strip().splitlines()
    assert "1 passed, 1 skipped" in said[-1]
    assert any("./countersign test --model-server" in line for line in said)


def test_with_a_model_server_its_tests_run_and_no_others(
    server_tree: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, "/some/python")
    assert run_tests(("--model-server", *QUICK), server_tree) == 0
    said = capfd.readouterr().out.strip().splitlines()
    assert [line for line in said if line.startswith("== ")] == [
        f"== Tests with a model server: pytest tests/model_server {' '.join(QUICK)}"
    ]
    assert "1 passed" in said[-1]


def test_an_environment_that_cannot_be_made_is_one_line(server_tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (server_tree / FOLDER).mkdir(parents=True)
    (server_tree / FOLDER / "letter.txt").write_text("dear")
    (server_tree / "requirements-model-server.lock").write_text("")
    assert run_tests(("--model-server",), server_tree) == 1
    said = capfd.readouterr().err
    assert "has other things in it" in said
    assert said.count("\n") == 1


def test_a_browser_is_found_by_its_usual_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_browser() is None
    (tmp_path / "google-chrome").touch(mode=0o755)
    assert find_browser() == str(tmp_path / "google-chrome")
