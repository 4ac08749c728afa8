"""Counts events of running code, and kills the process at one of them. The part of `crash` that runs in the child."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

_PURE = {
    "builtins",
    "_json",
    "_struct",
    "_csv",
    "math",
    "time",
    "_operator",
    "itertools",
    "_datetime",
    "datetime",
}
"""Modules whose compiled functions touch nothing outside the process."""

_HARMLESS = {
    "read",
    "readinto",
    "readline",
    "seek",
    "tell",
    "fileno",
    "acquire",
    "release",
    "stat",
    "fstat",
    "lstat",
}
"""Functions that touch the outside and change nothing there, whatever object they belong to."""

_MOST_PLACES = 5000

_active: Counter | None = None


class Counter:
    """Counts events in `watched` code; see `crash.At` for what the fields of `at` mean."""

    def __init__(self, at: dict[str, Any], channel: int) -> None:
        self.events = 0
        self.places: list[tuple[int, str]] = []
        self.watches: bool = at["watched"]
        self._at = at
        self._hits = 0
        self._reports = 0
        self._channel = channel

    def start(self) -> None:
        """Begin to count, in this thread and in those it starts from now on."""
        threading.settrace(self._trace)
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        sys.settrace(self._trace)

    def stop(self) -> None:
        sys.settrace(None)
        sys.setprofile(None)
        threading.settrace(None)
        threading.setprofile(None)

    def report(self, text: str) -> None:
        self.say({"report": text})
        self._reports += 1
        if self._reports == self._at["reports"]:
            _kill()

    def point(self, name: str) -> None:
        if name == self._at["point"]:
            self._hit()

    def say(self, message: dict[str, Any]) -> None:
        """Write one line to the parent, in one piece: nothing of it is lost if the process dies right after."""
        import json

        os.write(self._channel, json.dumps(message).encode() + b"\n")

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            self._count()
        return self._trace

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            if frame.f_code.co_name == self._at["call"]:
                self._hit()
            return
        if event == "return":
            return
        self._count()
        if event == "c_call" and arg.__name__ == self._at["call"]:
            self._hit()
        if event != "c_call" and len(self.places) < _MOST_PLACES and self._changes_outside(arg):
            where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
            self.places.append((self.events, f"after {arg.__name__} at {where}"))

    @staticmethod
    def _changes_outside(function: Any) -> bool:
        if function.__name__ in _HARMLESS:
            return False
        owner = getattr(function, "__self__", None)
        home = getattr(function, "__module__", None) or type(owner).__module__
        return home not in _PURE and function is not sys.settrace and function is not sys.setprofile

    def _count(self) -> None:
        self.events += 1
        if self.events == self._at["event"]:
            _kill()

    def _hit(self) -> None:
        self._hits += 1
        if self._hits == self._at["hits"]:
            _kill()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def activate(counter: Counter) -> None:
    """Make `counter` the one that this module's functions speak to. Called in the child, before the code runs."""
    global _active
    _active = counter


def report(text: str) -> None:
    """Tell the parent process how far the code came; not lost if the process is killed next. No-op elsewhere."""
    if _active is not None:
        _active.report(text)


def crash_point(name: str) -> None:
    """A named place where ``At(point=name)`` kills. Does nothing in any other process."""
    if _active is not None:
        _active.point(name)


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """The code of interest, for ``At(watched=True)``. Does nothing in any other process."""
    counter = _active
    if counter is None or not counter.watches:
        yield
        return
    counter.start()
    try:
        yield
    finally:
        counter.stop()
