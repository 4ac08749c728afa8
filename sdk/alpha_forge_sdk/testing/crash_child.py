"""The child process of `crash.CrashServer`: imports once, forks for every request, tells how each fork ended.

Requests are lines of JSON on stdin, answers lines of JSON on what stdout was at the start.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from alpha_forge_sdk.testing.crash_counter import Counter, activate

_POLL = 0.0005


def main() -> None:
    channel = os.dup(1)
    os.dup2(2, 1)  # what the code prints must not be taken for an answer
    for line in sys.stdin.buffer:
        request = json.loads(line)
        counter = Counter(request["at"], channel)
        for name in request["preload"]:
            # What can't be imported out of turn is imported by the fork that needs it, as before.
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        try:
            function = find(request["target"], request["file"])
        except Exception as error:  # noqa: BLE001 - told to the parent
            counter.say({"missing": f"{request['target']}: {type(error).__name__}: {error}"})
            continue
        counter.say({"signal": _forked(function, request, counter)})


def find(target: str, file: str) -> Any:
    """What ``module:attribute.path`` names; `file` is where the module is if it can't be imported by name."""
    name, _, path = target.partition(":")
    try:
        found: Any = importlib.import_module(name)
    except ImportError:
        if not file:
            raise
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise
        found = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _forked(function: Callable[..., Any], request: dict[str, Any], counter: Counter) -> int:
    """Run it in a fork. → the signal that the fork died of, 0 if it ended."""
    pid = os.fork()
    if pid == 0:
        # Whatever happens: a fork must never come back into the loop of its parent.
        try:
            _run(function, request, counter)
        finally:
            os._exit(0)
    deadline = time.monotonic() + (request["at"]["seconds"] or float("inf"))
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(_POLL)


def _run(function: Callable[..., Any], request: dict[str, Any], counter: Counter) -> None:
    activate(counter)
    error = ""
    known = set(sys.modules)
    try:
        if not counter.watches:
            counter.start()
        function(*request["args"])
    except BaseException as raised:  # noqa: BLE001 - told to the parent
        error = f"{type(raised).__name__}: {raised}"
    finally:
        counter.stop()
    # In the order in which they came: a package before its modules.
    imported = [name for name in sys.modules if name not in known]
    summary = {"events": counter.events, "places": counter.places, "error": error, "imported": imported}
    counter.say({"summary": summary})


if __name__ == "__main__":
    main()
