"""Packs in an environment of their own, layered on the tests' one: a folder with the installed wheel on the path.

A full virtual environment takes 19 s a pack; this takes two, and what a pack sees is the same: its wheel, its metadata, and
what it depends on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

TOOLS = Path(sys.executable).parent
_LIMIT = 170
_worker = threading.local()


@dataclass
class Step:
    """One command, and what came of it."""

    command: list[str]
    code: int
    output: str

    def __str__(self) -> str:
        return f"{' '.join(map(str, self.command))} → {self.code}\n{self.output[-6000:]}"


@dataclass
class Layer:
    """A pack's project, installed into a folder of its own."""

    project: Path
    root: Path
    steps: dict[str, Step] = field(default_factory=dict)

    @property
    def lib(self) -> Path:
        """Where its wheel is installed."""
        return self.root / "lib"

    def run(self, step: str, *command: object) -> Step:
        """Run a command in the project, with the layer on the path. It is remembered as `step`."""
        words = [str(word) for word in command]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
        environment |= {"PYTHONPATH": str(self.lib), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
        done = subprocess.run(
            words,
            cwd=self.project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT,
        )
        self.steps[step] = Step(words, done.returncode, done.stdout)
        return self.steps[step]

    def install(self) -> None:
        """Build the wheel and install it, both without a network. Raises AssertionError with the output."""
        dist = self.root / "dist"
        built = self.run("build", sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", dist)
        assert built.code == 0, str(built)
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
        options = ("--no-deps", "--no-index", "--no-compile", "--target", self.lib)
        installed = self.run("install", *pip, *options, *sorted(dist.glob("*.whl")))
        assert installed.code == 0, str(installed)

    def test(self, step: str, *options: str) -> Step:
        """The pack's own tests."""
        return self.run(step, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options)

    def lint(self, caches: Path) -> None:
        """ruff's two, and mypy. The cache of mypy is shared by the packs that one thread looks after."""
        self.run("ruff check", TOOLS / "ruff", "check", "--no-cache", ".")
        self.run("ruff format", TOOLS / "ruff", "format", "--no-cache", "--diff", ".")
        cache = caches / f"mypy-{_worker.__dict__.setdefault('number', threading.get_ident())}"
        self.run("mypy", TOOLS / "mypy", "--cache-dir", cache)

    def check_readme(self) -> Step:
        """``alpha_forge check`` of the configuration that the README shows."""
        readme = (self.project / "README.md").read_text("utf-8")
        config = self.root / "config.yaml"
        config.write_text(readme.split("```yaml\n")[1].split("```")[0], "utf-8")
        return self.run("check", TOOLS / "alpha_forge", "check", config)

    def validate(self, *names: str) -> Step:
        """``alpha_forge plugins validate`` of what is installed in the layer."""
        return self.run("validate", TOOLS / "alpha_forge", "plugins", "validate", *names)


GREEN = ("tests", "ruff check", "ruff format", "mypy")
"""Steps that must succeed."""


class Jobs:
    """Works on packs two at a time, while the tests wait for one after the other."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(2)
        self._futures: dict[str, Future[Layer]] = {}

    def submit(self, name: str, work: Callable[[], Layer]) -> None:
        self._futures[name] = self._pool.submit(work)

    def __getitem__(self, name: str) -> Layer:
        """The finished layer. Raises what its work raised."""
        return self._futures[name].result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
