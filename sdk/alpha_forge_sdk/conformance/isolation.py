"""Foreign code in a child process with a deadline: what hangs, exits or crashes there takes nobody along."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import IO, Any

from alpha_forge.registry import BLOCK_VARIABLE

_BOOT = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from alpha_forge_sdk.conformance.child import main
main(sys.argv[2], json.loads(sys.argv[3]))
"""
_LAST_LINES = 5


class Late(Exception):
    """The child said nothing within the deadline."""


class Ended(Exception):
    """The child ended without a last word. The text says how, and what it wrote at the end."""


class Child:
    """A Python process that runs one task of `child` and tells of it message by message.

    It imports from the same path as this process, gets no stdin, and what its plugins print is kept away from the
    results. Leaving the context kills it with everything that it started.
    """

    def __init__(self, task: str, argument: Mapping[str, Any], *, block: Iterable[str] = ()) -> None:
        blocked = ",".join(filter(None, (os.environ.get(BLOCK_VARIABLE, ""), *block)))
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(sys.path), task, json.dumps(argument)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, BLOCK_VARIABLE: blocked},
            # A session of its own, so that whatever it starts can be ended with it.
            start_new_session=True,
        )
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="conformance child", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._messages.put(json.loads(line))
        self._messages.put(None)

    def next(self, seconds: float) -> dict[str, Any]:
        """The next message. Raises `Late` if there is none within `seconds`, `Ended` if there will be none."""
        try:
            message = self._messages.get(timeout=seconds)
        except queue.Empty:
            raise Late from None
        if message is None:
            raise Ended(self._obituary())
        return message

    def _obituary(self) -> str:
        code = self._process.wait()
        how = f"exit code {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                how = signal.Signals(-code).name
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return "\n".join([f"its process ended ({how})", *lines[-_LAST_LINES:]])

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(5)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()
        self._errors.close()
