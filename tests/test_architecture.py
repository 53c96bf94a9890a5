"""The floors: imports point down, platforms stay in `bot`, and nothing is made but not registered."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import actions.connectors
import handlers.skills
from actions.catalogue import Catalogue
from actions.connectors.registry import build_connectors
from handlers.skills.registry import build_skills
from inference.embeddings import OnnxEmbedder
from inference.triage import Triage

ROOT = Path(__file__).parents[1]
FLOORS = ("records", "policies", "inference", "actions", "handlers", "bot")
"""From the ground up; each may import itself and what is below it."""
ONLY_BOT = ("slack_sdk", "slack_bolt", "botbuilder", "botframework", "starlette", "uvicorn", "fastapi")
"""What speaks to platforms and browsers."""
STANDARD_LIBRARY_ONLY = ("bot/bootstrap.py", "bot/environment.py", "bot/progress.py")
"""Run before anything is installed."""


def modules() -> Iterator[Path]:
    for floor in FLOORS:
        yield from sorted(path for path in (ROOT / floor).rglob("*.py") if "node_modules" not in path.parts)


def imported(path: Path) -> list[tuple[int, str]]:
    """Every module a file imports, wherever in it: in functions, in branches, under TYPE_CHECKING, by name."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join((*base, *filter(None, [node.module])))
            found += [(node.lineno, f"{name}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            argument = node.args[0]
            assert isinstance(argument, ast.Constant), f"{path}:{node.lineno} imports what cannot be read"
            found.append((node.lineno, str(argument.value)))
    return found


MODULES = [str(path.relative_to(ROOT)) for path in modules()]


def test_every_floor_is_looked_at() -> None:
    assert {Path(module).parts[0] for module in MODULES} == set(FLOORS)
    assert len(MODULES) > 80


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_point_down_the_floors_and_nowhere_else(floor: str) -> None:
    above = FLOORS[FLOORS.index(floor) + 1 :]
    wrong = [
        f"{module}:{line} imports {name}"
        for module in MODULES
        if Path(module).parts[0] == floor
        for line, name in imported(ROOT / module)
        if name.split(".")[0] in (*above, "tests", "benchmarks")
    ]
    assert wrong == []


def test_only_the_top_floor_knows_the_platforms_and_http_servers() -> None:
    wrong = [
        f"{module}:{line} imports {name}"
        for module in MODULES
        if Path(module).parts[0] != "bot"
        for line, name in imported(ROOT / module)
        if name.split(".")[0].startswith(ONLY_BOT) or name.split(".")[0].startswith("slack_")
    ]
    assert wrong == []


def test_the_bootstrap_imports_the_standard_library_only() -> None:
    import sys

    allowed = {*sys.stdlib_module_names, "__future__"}
    ours = {name.removesuffix(".py").replace("/", ".") for name in STANDARD_LIBRARY_ONLY}
    wrong = [
        f"{module}:{line} imports {name}"
        for module in STANDARD_LIBRARY_ONLY
        for line, name in imported(ROOT / module)
        if name.split(".")[0] not in allowed and not any(name.startswith(each) for each in ours)
    ]
    assert wrong == []


def test_an_import_that_points_up_is_seen_wherever_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of imports itself: each way to write one."""
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "records" / "inner" / "sample.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "import bot.web as web\n"
        "from handlers import dialog\n"
        "if TYPE_CHECKING:\n    from actions.road import Road\n"
        "def f():\n    import importlib\n    importlib.import_module('bot.app')\n    from .. import schema\n"
        "    from .near import thing\n"
    )
    names = {name for _, name in imported(file)}
    assert names == {
        "bot.web", "handlers.dialog", "actions.road.Road", "importlib", "bot.app", "records.schema",
        "records.inner.near.thing",
    }  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_opened_started_or_read_from_the_environment_on_import(module: str) -> None:
    """No import-time side effects, no global settings: at module level there are only definitions."""
    tree = ast.parse((ROOT / module).read_text())
    forbidden = ("os.environ", "os.getenv", "open", "Database", "create_engine", "redis.", "asyncio.run", "Settings(")
    wrong = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.If):  # TYPE_CHECKING, or `__main__`
            continue
        wrong += [
            f"line {call.lineno}: {ast.unparse(call)[:60]}"
            for call in ast.walk(node)
            if isinstance(call, ast.Call) and ast.unparse(call).startswith(forbidden)
        ]
        wrong += [f"line {node.lineno}: global"] if isinstance(node, ast.Global) else []
    assert wrong == []


@pytest.mark.parametrize("floor", FLOORS)
def test_no_function_keeps_state_in_a_module(floor: str) -> None:
    """`global` is how a module-level singleton is filled in later."""
    wrong = [
        f"{module}:{node.lineno}"
        for module in MODULES
        if Path(module).parts[0] == floor
        for node in ast.walk(ast.parse((ROOT / module).read_text()))
        if isinstance(node, ast.Global)
    ]
    assert wrong == []


def test_every_skill_module_is_in_the_registry(tmp_path: Path) -> None:
    catalogue = Catalogue(build_connectors(tmp_path, "http://127.0.0.1", samples=False))
    skills = build_skills(catalogue, Triage(tmp_path, OnnxEmbedder(tmp_path)))
    registered = {type(skill).__module__ for skill in skills}
    written = {
        f"handlers.skills.{module.name}"
        for module in pkgutil.iter_modules(handlers.skills.__path__)
        if module.name != "registry" and _defines(f"handlers.skills.{module.name}", "answer")
    }
    assert written == registered
    names = [skill.name for skill in skills]
    assert len(set(names)) == len(names)


def test_every_connector_module_is_in_the_registry(tmp_path: Path) -> None:
    connectors = build_connectors(tmp_path, "http://127.0.0.1", samples=False)
    registered = {type(connector).__module__ for connector in connectors}
    written = {
        f"actions.connectors.{module.name}"
        for module in pkgutil.iter_modules(actions.connectors.__path__)
        if module.name != "registry" and _defines(f"actions.connectors.{module.name}", "perform")
    }
    assert written == registered


def test_every_action_has_an_owner_a_title_and_arguments_that_say_what_they_mean(tmp_path: Path) -> None:
    specs = Catalogue(build_connectors(tmp_path, "http://127.0.0.1", samples=False)).specs()
    assert specs
    for spec in specs:
        assert spec.owner, spec.name
        assert spec.title, spec.name
        assert spec.version >= 1, spec.name
        assert spec.name.count(".") == 1, spec.name
        assert spec.timeout.total_seconds() > 0, spec.name
        for name, field in spec.schema().get("properties", {}).items():
            assert field.get("description"), f"{spec.name}: {name}"


def _defines(module: str, method: str) -> bool:
    """Whether a module has a class of its own with this method."""
    loaded = importlib.import_module(module)
    return any(
        inspect.isclass(value) and value.__module__ == module and hasattr(value, method)
        for value in vars(loaded).values()
    )
