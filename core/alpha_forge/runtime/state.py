"""The state directory: what a configuration keeps between runs, and the lock that gives it to one process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from alpha_forge.contracts.errors import AlphaForgeError, UsageError

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")

if sys.platform == "win32":
    import msvcrt

    # Windows' locks are mandatory: one byte far behind the end hinders no reader.
    _FAR = 1 << 62

    def _try_lock(file: BinaryIO) -> None:
        file.seek(_FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _try_lock(file: BinaryIO) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


_TRIES = 4
_PAUSE = 0.05


def _lock(file: BinaryIO) -> None:
    """Take the lock, past whoever only looks whether it is held. Raises OSError if it stays with another."""
    for _ in range(_TRIES - 1):
        with contextlib.suppress(BlockingIOError, PermissionError):
            _try_lock(file)
            return
        time.sleep(_PAUSE)
    _try_lock(file)


def file_stem(name: str) -> str:
    """A configuration's name as the beginning of file names; two names never give the same one."""
    safe = _UNSAFE.sub("_", name)
    if safe == name and len(name) <= 100 and not name.startswith("."):
        return name
    return f"{safe[:80].lstrip('.')}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


class StateDirectory:
    """The files of one configuration under one directory, ``DIRECTORY/NAME.…``.

    As a context manager it holds the lock ``DIRECTORY/NAME.lock``: a second process with the same directory and name
    is refused. The system lets the lock go when the process ends, however that comes, so no lock is ever stale. The
    directory must be on a disk of this machine: neither the lock nor SQLite's shared memory is safe over a network.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name
        self._stem = file_stem(name)
        self._lock: BinaryIO | None = None

    def path(self, suffix: str) -> Path:
        """``DIRECTORY/NAME.suffix``."""
        return self.directory / f"{self._stem}.{suffix}"

    def __enter__(self) -> StateDirectory:
        """Make the directory and take the lock.

        Raises UsageError AF6040 if another process has it, AF6041 if the directory can't be made or written.
        """
        path = self.path("lock")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)
        except OSError as error:
            raise unusable(self.directory, error) from error
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            holder = _holder(file)
            file.close()
            raise UsageError(
                "AF6040",
                f"'{self.name}' already runs on the state directory {self.directory}: {holder}, holds {path.name}",
                "end that run first, or give this one a directory of its own with --state DIR",
            ) from None
        except OSError as error:
            file.close()
            raise unusable(self.directory, error) from error
        me = {"pid": os.getpid(), "host": socket.gethostname(), "started": _now()}
        with contextlib.suppress(OSError):  # a full disk: the lock holds, only its text is missing
            file.truncate(0)
            file.seek(0)
            file.write(json.dumps(me).encode() + b"\n")
        self._lock = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            # The file stays: taking it away would let two processes lock two files of one name.
            self._lock.close()
            self._lock = None

    def holder(self) -> str | None:
        """Who holds the lock at this moment, in words; None if nobody does."""
        try:
            file = open(self.path("lock"), "r+b", buffering=0)  # noqa: SIM115 - closed below
        except OSError:
            return None
        with file:
            try:
                _try_lock(file)
            except OSError:
                return _holder(file)
        return None


def unusable(directory: Path, error: OSError) -> AlphaForgeError:
    """The error for a state directory that can't be made or written."""
    return UsageError(
        "AF6041",
        f"the state directory {directory} can't be used: {error.strerror or error}",
        "give --state DIR a directory that this user can make and write to",
    )


def _holder(file: BinaryIO) -> str:
    """``process 12 on host since …``, as the lock file says."""
    try:
        file.seek(0)
        said = json.loads(file.read(4096))
        return f"process {int(said['pid'])} on {said['host']}, running since {said['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
