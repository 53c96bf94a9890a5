"""The environment `./countersign` makes for itself: a virtual environment, its packages and the embedding model.

A stage is done when its stamp, written last and atomically, carries the hash of what went in. So an interrupted set-up
goes on where it stopped, and a changed lock is installed at the next start. Standard library only.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bot.progress import Progress

TORCH = "torch==2.13.0"
"""Installed alone and first, so that pip takes a CPU build where it can find one; the lock leaves it out."""

MODEL_FOLDER = Path(".countersign", "models", "minilm")
PRODUCT_FOLDERS = ("records", "policies", "inference", "actions", "handlers", "bot")
PIP_VARIABLES_THAT_REDIRECT = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_NO_COMPILE", "PIP_DRY_RUN", "PIP_REPORT")

ACCELERATOR_PACKAGES = """
import json, sys
from pip._vendor.packaging.requirements import Requirement
for item in json.load(open(sys.argv[1]))["install"]:
    for text in item["metadata"].get("requires_dist", []):
        requirement = Requirement(text)
        if requirement.name.lower().startswith(("nvidia", "cuda", "triton")):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                print(requirement.name)
"""
"""Prints which CUDA packages the build in a pip report needs here; run by the environment's Python, which has pip."""


class SetupError(Exception):
    """The environment can't be made; the message says why and what to do, in one line."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the environment that is either wholly there or not."""

    name: str
    fingerprint: Callable[[], str]
    """Hash of everything the stage is made from."""
    steps: int
    run: Callable[[Progress], None]


class Environment:
    """The folder with Countersign's own Python, made and mended as needed.

    Environment(folder=root / ".venv", root=root).ensure(development=False, progress=Progress(sys.stderr))
    """

    LOCK = "requirements.lock"
    ANNOUNCEMENT = "Setting up Countersign in {folder} (once; about two minutes, 2 GB of disk)"
    ELSEWHERE = "set COUNTERSIGN_ENV to"
    """How an operator chooses another folder, for messages that end in one."""

    def __init__(self, *, folder: Path, root: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self._root = root
        self._lock_file = folder / "countersign.lock"
        self._log = folder / "countersign-setup.log"
        self._lock_descriptor: int | None = None

    def ensure(self, *, development: bool, progress: Progress) -> None:
        """Do what is missing and nothing else; a second start waits for the first.

        Raises SetupError when the environment can't be made, KeyboardInterrupt when someone stops it.
        """
        self._bring_about(lambda: self._missing(development=development), progress)

    def _bring_about(self, missing: Callable[[], list[Stage]], progress: Progress) -> None:
        if not missing():
            return
        with self._only_one(progress):
            stages = missing()
            if not stages:
                return
            progress.line(self.ANNOUNCEMENT.format(folder=self.folder))
            progress.begin(total_steps=sum(stage.steps for stage in stages))
            self._log.write_bytes(b"")
            for stage in stages:
                stage.run(progress)
                self._stamp(stage)
            self._compile_product()
            progress.end()

    def _compile_product(self) -> None:
        if not os.environ.get("PYTHONDONTWRITEBYTECODE"):
            folders = [str(self._root / name) for name in PRODUCT_FOLDERS]
            self._run([str(self.python), "-I", "-m", "compileall", "-q", *folders], "Compiling", lambda _line: None)

    # Stages

    def _missing(self, *, development: bool) -> list[Stage]:
        stages = [Stage("packages", self._packages_fingerprint, 4, self._install_packages)]
        if development:
            stages.append(Stage("development", self._development_fingerprint, 1, self._install_development))
        if self._model_module.exists():
            stages.append(Stage("model", self._model_fingerprint, 1, self._prepare_model))
        missing = [stage for stage in stages if not self._is_done(stage)]
        if missing and missing[0].name == "packages":
            return stages
        return missing

    def _is_done(self, stage: Stage) -> bool:
        if not self.python.exists() or (stage.name == "model" and not (self._root / MODEL_FOLDER).is_dir()):
            return False
        try:
            return self._stamp_file(stage).read_text() == stage.fingerprint()
        except OSError:
            return False

    def _stamp_file(self, stage: Stage) -> Path:
        return self.folder / f"countersign-{stage.name}.stamp"

    def _stamp(self, stage: Stage) -> None:
        partial = self._stamp_file(stage).with_suffix(".partial")
        partial.write_text(stage.fingerprint())
        partial.replace(self._stamp_file(stage))

    def _packages_fingerprint(self) -> str:
        # The path is part of it because a virtual environment that is moved stops working.
        return _hash((self._root / self.LOCK).read_bytes(), TORCH, python_version(self.folder), self.folder)

    def _development_fingerprint(self) -> str:
        return _hash((self._root / "requirements-dev.lock").read_bytes(), self._packages_fingerprint())

    def _model_fingerprint(self) -> str:
        return _hash(self._model_module.read_bytes(), self._packages_fingerprint())

    @property
    def _model_module(self) -> Path:
        return self._root / "inference" / "prepare.py"

    # Steps

    def _install_packages(self, progress: Progress) -> None:
        progress.step("Python environment")
        self._make_virtual_environment()
        self._forget_half_installed()
        progress.step("pip")
        own_pip = self.folder / "countersign-pip.lock"
        own_pip.write_text(locked_entry((self._root / self.LOCK).read_text(), "pip"))
        self._pip(progress, "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(own_pip))
        progress.step(f"PyTorch, CPU build ({TORCH})")
        self._refuse_accelerator_build(progress)
        self._pip(progress, "--no-deps", "--only-binary", ":all:", TORCH)
        self._install_lock(progress, "Packages", self._root / self.LOCK)

    def _install_development(self, progress: Progress) -> None:
        self._forget_half_installed()
        self._install_lock(progress, "Test tools", self._root / "requirements-dev.lock")

    def _install_lock(self, progress: Progress, title: str, lock: Path) -> None:
        progress.step(title, parts=len(re.findall(r"^[\w.-]+==", lock.read_text(), re.MULTILINE)))
        self._pip(progress, "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(lock))

    def _prepare_model(self, progress: Progress) -> None:
        progress.step("Embedding model")
        command = [str(self.python), "-P", "-u", "-m", "inference.prepare", str(self._root / MODEL_FOLDER)]
        self._run(command, "Preparing the embedding model", progress.note, progress)

    def _make_virtual_environment(self) -> None:
        """Make the environment, or make it anew when the one there doesn't work."""
        if self.python.exists() and self._succeeds([str(self.python), "-I", "-c", "import pip"]):
            return
        for entry in self.folder.iterdir():
            if entry in (self._lock_file, self._log):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        self._run([sys.executable, "-I", "-m", "venv", str(self.folder)], "Making the environment", lambda _line: None)

    def _forget_half_installed(self) -> None:
        """Remove what a stopped pip left, so that it installs it again.

        pip writes INSTALLER when a package is complete, and keeps `~name` only while it replaces one.
        """
        for site_packages in self.folder.glob("lib/python3*/site-packages"):
            for entry in site_packages.glob("*.dist-info"):
                if not (entry / "INSTALLER").exists():
                    shutil.rmtree(entry)
            for entry in site_packages.glob("~*"):
                shutil.rmtree(entry, ignore_errors=True)

    def _refuse_accelerator_build(self, progress: Progress) -> None:
        """Ask pip which build it would take, before it takes it."""
        report = self.folder / "countersign-torch.json"
        report.unlink(missing_ok=True)
        self._pip(
            progress, "--no-deps", "--only-binary", ":all:", "--dry-run", "--quiet", "--report", str(report), TORCH
        )
        if not json.loads(report.read_text())["install"]:
            return
        needed = subprocess.run(
            [str(self.python), "-I", "-c", ACCELERATOR_PACKAGES, str(report)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        if needed:
            raise SetupError(
                f"pip would take a build of {TORCH} that needs {len(needed)} CUDA packages (several GB, not used); "
                "set PIP_EXTRA_INDEX_URL to an index of PyTorch's CPU wheels, or PIP_FIND_LINKS to a folder "
                "with one for this Python, and run the same command again."
            )

    # Running things

    def _pip(self, progress: Progress, *arguments: str) -> None:
        def follow(line: str) -> None:
            found = re.match(r"(?:Collecting|Ignoring|Requirement already satisfied:) ([\w.-]+)", line)
            if found:
                progress.advance(found.group(1))
            elif line.startswith("  Downloading "):
                progress.tick(line.strip())
            elif line.startswith("Installing collected packages"):
                progress.note("unpacking")

        command = [str(self.python), "-I", "-u", "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
        self._run([*command, "--progress-bar", "off", "--compile", *arguments], "Installing packages", follow, progress)

    def _run(
        self, command: Sequence[str], what: str, follow: Callable[[str], None], progress: Progress | None = None
    ) -> None:
        """Run one command with its output in the log; raise SetupError with its own last words when it fails."""
        variables = {key: value for key, value in os.environ.items() if key not in PIP_VARIABLES_THAT_REDIRECT}
        variables |= {"PIP_USER": "0", "PYTHONPATH": str(self._root)}
        variables.pop("PYTHONHOME", None)
        # The child holds the lock too: should this process be killed, the next start waits for the child.
        kept = () if self._lock_descriptor is None else (self._lock_descriptor,)
        last: deque[str] = deque(maxlen=50)
        with self._log.open("a") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=variables,
                pass_fds=kept,
            )
            try:
                for line in _lines(child, progress):
                    log.write(line + "\n")
                    last.append(line)
                    follow(line)
                code = child.wait()
            finally:
                if child.poll() is None:
                    child.terminate()
                    child.wait()
        if code != 0:
            raise SetupError(f"{what} failed: {last_words(last)} (the whole log: {self._log})")

    def _succeeds(self, command: Sequence[str]) -> bool:
        return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode == 0

    @contextmanager
    def _only_one(self, progress: Progress) -> Iterator[None]:
        """Hold the folder's lock; the lock file also marks the folder as ours to empty."""
        ours = self._lock_file.exists() or (self.folder / "pyvenv.cfg").exists()
        if not ours and self.folder.is_dir() and any(self.folder.iterdir()):
            raise SetupError(f"{self.folder} has other things in it; {self.ELSEWHERE} a new folder.")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SetupError(
                f"{self.folder} can't be written ({error.strerror}); {self.ELSEWHERE} a folder that can."
            ) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress.line("Another set-up of this folder is under way; waiting for it.")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._lock_descriptor = descriptor
            yield
        finally:
            self._lock_descriptor = None
            os.close(descriptor)


def locked_entry(lock: str, name: str) -> str:
    """Return one package's entry of a lock file, its hashes included."""
    found = re.search(rf"^{re.escape(name)}==.*(?:(?<=\\)\n.*)*", lock, re.MULTILINE)
    if found is None:
        raise SetupError(f"requirements.lock has no entry for {name}; take the file from the repository again.")
    return found.group(0) + "\n"


def python_version(folder: Path) -> str:
    """Return the version a virtual environment says it was made with; empty when it doesn't say."""
    try:
        configuration = (folder / "pyvenv.cfg").read_text()
    except OSError:
        return ""
    found = re.search(r"^version\s*=\s*(\S+)", configuration, re.MULTILINE)
    return found.group(1) if found else ""


def last_words(lines: Sequence[str]) -> str:
    """Return the line that says best why a command failed: its last error, or its last line."""
    errors = [line for line in lines if re.match(r"(ERROR|error|\w*Error)\b", line.strip())]
    said = [line for line in lines if line.strip()]
    return (errors or said or ["it said nothing"])[-1].strip()


def _lines(child: subprocess.Popen[bytes], progress: Progress | None) -> Iterator[str]:
    """Yield the child's lines as they come; the progress line's clock moves while it says nothing."""
    assert child.stdout is not None
    descriptor = child.stdout.fileno()
    rest = b""
    while True:
        if not select.select([descriptor], [], [], 0.5)[0]:
            if progress is not None:
                progress.tick()
            continue
        chunk = os.read(descriptor, 65536)
        if not chunk:
            break
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if rest:
        yield rest.decode(errors="replace")


def _hash(*parts: bytes | str | Path) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
