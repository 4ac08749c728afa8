"""A lock on an open file that other processes, and other handles of this one, respect."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO

from alpha_forge_sdk import RetryLater

_LOG = logging.getLogger(__name__)

_POLL = 0.005
_TOLD_AFTER = 2.0
"""Seconds after which a wait is no longer the ordinary one for another writer's batch."""

if sys.platform == "win32":
    import msvcrt

    # Windows' locks are mandatory and of byte ranges: one byte far behind the end hinders no reader.
    _FAR = 1 << 62

    def _try_lock(file: BinaryIO) -> None:
        file.seek(_FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def _unlock(file: BinaryIO) -> None:
        file.seek(_FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(file: BinaryIO) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: BinaryIO) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)


@contextlib.contextmanager
def exclusive(file: BinaryIO, wait: float) -> Iterator[None]:
    """Hold the lock while the block runs; the system releases it if the process dies.

    Raises RetryLater if another writer holds it for longer than `wait` seconds; a long wait is logged before.
    """
    began = time.monotonic()
    deadline, told = began + wait, False
    while True:
        try:
            _try_lock(file)
            break
        except (BlockingIOError, PermissionError):
            if time.monotonic() >= deadline:
                raise RetryLater(
                    f"another process holds the lock of {file.name} for over {wait:g} s"
                ) from None
            if not told and time.monotonic() - began >= _TOLD_AFTER:
                told = True
                _LOG.warning(
                    "another process holds the lock of %s; waiting up to %g s for it", file.name, wait
                )
            time.sleep(_POLL)
    try:
        yield
    finally:
        _unlock(file)
