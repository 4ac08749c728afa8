"""Kills code with SIGKILL at a chosen point, in a child process: what is left behind is what a crash leaves behind.

>>> from alpha_forge_sdk.testing.crash import At, crash_at
>>> crash = crash_at("acme.store:write_rows", "rows.bin", 100, at=At(call="fsync", hits=2))   # doctest: +SKIP
>>> crash.killed, crash.reports                                                                # doctest: +SKIP
(True, ('10 rows written',))

The code that is killed needs no preparation. It may call `report` to tell how far it came, `watched` to say which part
is of interest, and `crash_point` to name places. POSIX only: the child forks.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alpha_forge_sdk.testing.crash_counter import crash_point, report, watched

__all__ = [
    "At",
    "Crash",
    "CrashServer",
    "CrashTimeout",
    "Place",
    "crash_at",
    "crash_point",
    "report",
    "watched",
]

SUPPORTED = hasattr(os, "fork")
"""False on Windows, where a process can't be forked."""


@dataclass(frozen=True, slots=True)
class At:
    """Where to kill: one of the fields (``call`` and ``point`` with ``hits``), or none to let it run to its end."""

    event: int = 0
    """At the n-th event: a line of Python, or a call of a compiled function or its return, in any thread. The same
    code on the same data has the same events: `Crash.events` of a run to the end tells how many."""
    call: str = ""
    """On entry of a function of this name, Python or compiled: ``fsync``, ``write``, ``execute``, ``emit_batch``."""
    point: str = ""
    """At ``crash_point(name)``."""
    hits: int = 1
    """For ``call`` and ``point``: at which time."""
    watched: bool = False
    """``event`` and ``call`` count in `watched` blocks only."""
    reports: int = 0
    """Right after the n-th `report`."""
    seconds: float = 0.0
    """So long after the function was called: hits a different place each time."""


@dataclass(frozen=True, slots=True)
class Place:
    """An event at which the outside may have changed: the return of a compiled function that does I/O."""

    event: int
    where: str
    """For people: ``after write at paths.py:231``."""


@dataclass(frozen=True, slots=True)
class Crash:
    """How it ended. ``error`` is the exception if the function raised one, ``events`` is 0 if it was killed."""

    killed: bool
    reports: tuple[str, ...]
    events: int = 0
    places: tuple[Place, ...] = ()
    error: str = ""


class CrashTimeout(Exception):
    """The child neither ended nor was killed within the time given; it is killed now."""


class CrashServer:
    """A child process that imports once and forks for every run, so that a run costs milliseconds. A context manager.

    What a run that came to its end had imported is there for the later ones: neither its time nor its events are
    counted again. The child has this process's ``sys.path``, working directory and environment; it is
    single-threaded, so that its forks are sound whatever threads this process has.
    """

    def __init__(self) -> None:
        if not SUPPORTED:
            raise OSError("crash_at needs fork(): it works on POSIX systems only")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
        self._child = subprocess.Popen(
            [sys.executable, "-m", "alpha_forge_sdk.testing.crash_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            start_new_session=True,  # so that the child and its forks can be killed together
        )
        self._unread = b""
        self._preload: list[str] = []

    def __enter__(self) -> CrashServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """False after `close`, after a timeout, or if the child broke down."""
        return self._child.poll() is None

    def close(self) -> None:
        """Kill the child and what it started. Idempotent."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def run(
        self, target: str, *args: Any, at: At | None = None, timeout: float = 60.0, file: str = ""
    ) -> Crash:
        """Call ``module:function`` with `args` (what JSON can hold) in a fresh fork, and kill it at `at`.

        `file` is where the module is if it can't be imported by name (a test module). Raises CrashTimeout after
        `timeout` seconds, RuntimeError if the function can't be found or the child broke down.
        """
        request = {
            "target": target,
            "file": file,
            "args": args,
            "at": asdict(at or At()),
            "preload": self._preload,
        }
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()
        except OSError as error:
            raise RuntimeError(f"the child process is gone: {self._last_words()}") from error
        reports: list[str] = []
        summary: dict[str, Any] = {}
        for message in self._messages(time.monotonic() + timeout):
            if "report" in message:
                reports.append(message["report"])
            elif "summary" in message:
                summary = message["summary"]
                self._preload = summary["imported"]
            elif "missing" in message:
                raise RuntimeError(message["missing"])
            else:
                return self._outcome(message["signal"], reports, summary)
        raise RuntimeError(f"the child process broke down: {self._last_words()}")

    @staticmethod
    def _outcome(signalled: int, reports: list[str], summary: dict[str, Any]) -> Crash:
        if summary:
            places = tuple(Place(*place) for place in summary["places"])
            return Crash(False, tuple(reports), summary["events"], places, summary["error"])
        if signalled == signal.SIGKILL:
            return Crash(True, tuple(reports))
        how = f"died of signal {signalled}" if signalled else "ended the process itself"
        return Crash(False, tuple(reports), error=how)

    def _messages(self, deadline: float) -> Iterator[dict[str, Any]]:
        assert self._child.stdout is not None
        fd = self._child.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            while True:
                line, found, rest = self._unread.partition(b"\n")
                if found:
                    self._unread = rest
                    yield json.loads(line)
                    continue
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    words = self._last_words()
                    self.close()
                    raise CrashTimeout(f"the child did not end in time: {words}")
                data = os.read(fd, 65_536)
                if not data:
                    return
                self._unread += data

    def _last_words(self) -> str:
        """The end of what the child wrote to stderr."""
        if self._errors.closed:
            return "it was killed"
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 2000))
        return self._errors.read().decode(errors="replace").strip() or "it said nothing"


def crash_at(target: str, *args: Any, at: At, timeout: float = 60.0) -> Crash:
    """Run ``module:function`` with `args` in a child process and kill it with SIGKILL at `at`; see `CrashServer.run`.

    A `CrashServer` makes many runs in the time of one.
    """
    module = sys.modules.get(target.partition(":")[0])
    file = getattr(module, "__file__", None)
    with CrashServer() as server:
        return server.run(
            target, *args, at=at, timeout=timeout, file=str(Path(file).resolve()) if file else ""
        )
