"""The bootstrap for real, on a small product of its own: real virtual environments and pip, wheels made on the spot."""

from __future__ import annotations

import ast
import ensurepip
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.environment import last_words, locked_entry

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120
"""After which a set-up of the small product is taken to hang."""

COMMAND = """
import sys
import small
print("small", small.VERSION, "does", sys.argv[1:])
sys.exit(7)
"""
PREPARE = """
import pathlib, sys
pathlib.Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
print("model prepared")
"""
PREPARE_AND_WAIT = """
import signal
print("model begun", flush=True)
signal.pause()
"""


@dataclass(frozen=True)
class Product:
    """A checkout that is like ours, with two small packages for its locked set and its torch."""

    root: Path
    wheels: Path

    def lock(self, version: str) -> None:
        """Write the lock: pip as this Python bundles it, and one package of our own."""
        wheel = make_wheel(self.wheels, "small", version, f"VERSION = {version!r}\n")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        pip = f"pip=={ensurepip.version()} \\\n    --hash=sha256:{'0' * 64}\n"
        (self.root / "requirements.lock").write_text(f"{pip}small=={version} \\\n    --hash=sha256:{digest}\n")

    def torch(self, *requirements: str) -> None:
        """Offer a torch that requires these."""
        make_wheel(self.wheels, "torch", "2.13.0", "", requirements)

    def variables(self) -> dict[str, str]:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON", "COUNTERSIGN"))
        }
        return {**kept, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "PIP_CONFIG_FILE": os.devnull}

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.root / "countersign"), *arguments],
            cwd="/",
            env={**self.variables(), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Should the tests themselves run in a shell's background, where SIGINT is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """Return the exit code, the output and what it said of itself."""
        process = self.start(*arguments, **variables)
        output, said = process.communicate(timeout=SECONDS)
        return process.returncode, output, said

    @property
    def site_packages(self) -> Path:
        return next((self.root / ".venv" / "lib").glob("python3*")) / "site-packages"


def make_wheel(folder: Path, name: str, version: str, source: str, requirements: tuple[str, ...] = ()) -> Path:
    """Write a wheel with one module (the binary distribution format of packaging.python.org)."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    information = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requirements)
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", source)
        wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        wheel.writestr(
            f"{information}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{information}/RECORD", f"{name}.py,,\n{information}/METADATA,,\n{information}/WHEEL,,\n")
    return path


def make_product(folder: Path) -> Product:
    product = Product(root=folder / "countersign", wheels=folder / "wheels")
    (product.root / "bot").mkdir(parents=True)
    (product.root / "inference").mkdir()
    product.wheels.mkdir()
    shutil.copy(ROOT / "countersign", product.root)
    for name in ("__init__.py", "bootstrap.py", "environment.py", "progress.py"):
        shutil.copy(ROOT / "bot" / name, product.root / "bot")
    (product.root / "bot" / "cli.py").write_text(COMMAND)
    (product.root / "inference" / "prepare.py").write_text(PREPARE)
    product.torch("sympy", "nvidia-cudnn; platform_system == 'Nowhere'", "triton; extra == 'fast'")
    product.lock("1.0")
    return product


@pytest.fixture
def product(tmp_path: Path) -> Product:
    return make_product(tmp_path)


@pytest.fixture(scope="module")
def first_use(tmp_path_factory: pytest.TempPathFactory) -> tuple[Product, tuple[int, str, str]]:
    product = make_product(tmp_path_factory.mktemp("set-up"))
    return product, product.run("doctor", "--short")


@pytest.fixture
def set_up(first_use: tuple[Product, tuple[int, str, str]]) -> Product:
    return first_use[0]


@pytest.mark.parametrize("arguments", [(), ("--help",), ("help",)])
def test_help_needs_no_set_up(product: Product, arguments: tuple[str, ...]) -> None:
    code, output, said = product.run(*arguments)
    assert (code, said) == (0, "")
    assert "./countersign <command>" in output
    assert not (product.root / ".venv").exists()


def test_a_python_too_old_gets_one_line_and_no_traceback() -> None:
    source = (ROOT / "countersign").read_text()
    ast.parse(source, feature_version=(3, 4))
    pretend = f"import sys; sys.version_info = (3, 9, 2); exec(compile({source!r}, 'countersign', 'exec'))"
    done = subprocess.run([sys.executable, "-c", pretend, "up"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Countersign needs Python 3.11 or newer, and this is Python 3.9.")
    assert done.stderr.count("\n") == 1


def test_the_first_use_sets_up_and_becomes_the_command_from_any_folder(
    first_use: tuple[Product, tuple[int, str, str]],
) -> None:
    product, (code, output, said) = first_use
    assert (code, output) == (7, "small 1.0 does ['doctor', '--short']\n")
    assert [line for line in said.splitlines() if line.startswith("[")] == [
        "[1/5] Python environment",
        "[2/5] pip",
        "[3/5] PyTorch, CPU build (torch==2.13.0)",
        "[4/5] Packages",
        "[5/5] Embedding model",
    ]
    assert (product.root / ".countersign" / "models" / "minilm").is_dir()


def test_the_next_start_does_nothing_but_the_command(set_up: Product) -> None:
    before = (set_up.root / ".venv" / "countersign-setup.log").stat().st_mtime_ns
    assert set_up.run("doctor") == (7, "small 1.0 does ['doctor']\n", "")
    assert (set_up.root / ".venv" / "countersign-setup.log").stat().st_mtime_ns == before


def test_a_changed_lock_is_installed_at_the_next_start(set_up: Product) -> None:
    set_up.lock("1.1")
    code, output, _ = set_up.run("doctor")
    assert (code, output) == (7, "small 1.1 does ['doctor']\n")
    set_up.lock("1.0")
    assert set_up.run("doctor")[1] == "small 1.0 does ['doctor']\n"


def test_a_file_that_is_not_the_locked_one_is_refused(set_up: Product) -> None:
    lock = set_up.root / "requirements.lock"
    kept = lock.read_text()
    make_wheel(set_up.wheels, "small", "2.0", "print('not what was locked')\n")
    lock.write_text(kept.replace("small==1.0", "small==2.0"))
    code, output, said = set_up.run("doctor")
    lock.write_text(kept)
    assert (code, output) == (1, "")
    assert "DO NOT MATCH THE HASHES" in said


def test_a_package_that_was_half_installed_is_installed_again(set_up: Product) -> None:
    information = next(set_up.site_packages.glob("small-*.dist-info"))
    (information / "INSTALLER").unlink()
    (set_up.site_packages / "small.py").unlink()
    (set_up.root / ".venv" / "countersign-packages.stamp").unlink()
    assert set_up.run("doctor")[1] == "small 1.0 does ['doctor']\n"


def test_an_environment_without_its_python_is_made_anew(set_up: Product) -> None:
    (set_up.root / ".venv" / "bin" / "python").unlink()
    code, output, said = set_up.run("doctor")
    assert (code, output) == (7, "small 1.0 does ['doctor']\n"), said


def test_a_model_folder_that_is_gone_is_prepared_again_and_nothing_else(set_up: Product) -> None:
    shutil.rmtree(set_up.root / ".countersign")
    _, _, said = set_up.run("doctor")
    assert "[1/1] Embedding model" in said
    assert (set_up.root / ".countersign" / "models" / "minilm").is_dir()


def test_a_second_start_waits_for_the_set_up_under_way(set_up: Product) -> None:
    (set_up.root / ".venv" / "countersign-model.stamp").unlink()
    with (set_up.root / ".venv" / "countersign.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = set_up.start("doctor")
        assert process.stderr is not None
        assert process.stderr.readline() == "Another set-up of this folder is under way; waiting for it.\n"
    output, said = process.communicate(timeout=SECONDS)
    assert "[1/1] Embedding model" in said
    assert output == "small 1.0 does ['doctor']\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_set_up_leaves_no_process_and_goes_on_at_the_next_start(
    set_up: Product, number: signal.Signals, code: int
) -> None:
    (set_up.root / "inference" / "prepare.py").write_text(PREPARE_AND_WAIT)
    process = set_up.start("doctor")
    assert process.stderr is not None
    while "model begun" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(number)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == code
    assert "Traceback" not in said
    if number == signal.SIGINT:
        assert said.splitlines()[-1] == "Set-up was interrupted; run the same command again to go on."
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    (set_up.root / "inference" / "prepare.py").write_text(PREPARE)
    assert set_up.run("doctor")[0] == 7


def test_a_torch_that_needs_cuda_packages_is_not_installed(product: Product) -> None:
    product.torch("sympy", "nvidia-cudnn", "triton; python_version >= '3'")
    code, _, said = product.run("doctor")
    assert code == 1
    last = said.splitlines()[-1]
    assert "needs 2 CUDA packages" in last
    assert "PIP_EXTRA_INDEX_URL" in last
    assert "PIP_FIND_LINKS" in last
    assert not list(product.site_packages.glob("torch*"))


def test_a_folder_with_other_things_in_it_is_left_alone(product: Product, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    code, _, said = product.run("doctor", COUNTERSIGN_ENV=str(tmp_path / "mine"))
    assert code == 1
    assert said.startswith(f"countersign: {tmp_path / 'mine'} has other things in it")
    assert [entry.name for entry in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_a_locked_entry_comes_with_its_hashes_and_nothing_else() -> None:
    first = "a==1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:01\n"
    second = "b==2 ; sys_platform == 'x' \\\n    --hash=sha256:02\n"
    lock = f"{first}    # via b\n{second}"
    assert locked_entry(lock, "a") == first
    assert locked_entry(lock, "b") == second


def test_the_last_error_is_the_reason_given() -> None:
    assert last_words(["Collecting a", "ERROR: no such thing", "  hint", ""]) == "ERROR: no such thing"
    assert last_words(["Collecting a", "gone"]) == "gone"
    assert last_words([]) == "it said nothing"


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_the_locks_are_hashed_whole_and_free_of_cuda_and_of_addresses(name: str) -> None:
    lock = (ROOT / name).read_text()
    names = re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)
    assert len(names) > 20
    assert all("--hash=sha256:" in locked_entry(lock, package) for package in names)
    assert [package for package in names if package.startswith(("torch", "nvidia", "cuda", "triton"))] == []
    assert "://" not in lock
    assert not re.search(r"^\s*--(index|extra|find|trusted)", lock, re.MULTILINE)


def test_what_torch_itself_needs_is_locked_with_the_rest() -> None:
    names = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {"filelock", "fsspec", "jinja2", "networkx", "pip", "setuptools", "sympy", "typing-extensions"} <= names
