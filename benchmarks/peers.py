"""Contenders in processes of their own: most need libraries that live in the environment of ``make bench-peers``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from benchmarks.timing import Turn

ROOT = Path(__file__).resolve().parents[1]
PEERS_PYTHON = ROOT / "benchmarks" / ".peers" / "bin" / "python"


class Peer:
    """A child that serves turns. ``hello`` is what it said first."""

    def __init__(self, stdin: IO[str], stdout: IO[str]) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self.hello: Any = json.loads(stdout.readline())

    def turn(self, name: str) -> Turn:
        """A turn of the contender `name`, timed by the child itself."""

        def work() -> float:
            self._stdin.write(name + "\n")
            self._stdin.flush()
            return float(self._stdout.readline())

        return work


def installed() -> bool:
    """True if ``make bench-peers`` has been run."""
    return PEERS_PYTHON.exists()


@contextmanager
def peer(module: str, *arguments: object) -> Iterator[Peer]:
    """``benchmarks.<module>`` in the peers' environment; it ends with the block."""
    command = [str(PEERS_PYTHON), "-m", f"benchmarks.{module}", *map(str, arguments)]
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    stdin, stdout = child.stdin, child.stdout
    assert stdin is not None
    assert stdout is not None
    try:
        yield Peer(stdin, stdout)
    finally:
        stdin.close()
        stdout.close()
        child.wait()


def once(module: str, *arguments: object, outside: bool = False) -> Any:
    """What ``benchmarks.<module>`` prints as its last line, a JSON value. Raises CalledProcessError."""
    python = str(PEERS_PYTHON) if outside else sys.executable
    command = [python, "-m", f"benchmarks.{module}", *map(str, arguments)]
    answer = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(answer.stdout.splitlines()[-1])
