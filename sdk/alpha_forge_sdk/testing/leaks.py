"""What a process holds: threads, open files and sockets, child processes; and what is more of it than before."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FILES = Path("/proc/self/fd")
_POLL = 0.02


@dataclass(frozen=True, slots=True)
class Holdings:
    """What this process holds at one moment, each thing as (identity, description).

    Files, sockets and children are known where the system has ``/proc`` (Linux); elsewhere threads only.
    """

    threads: frozenset[tuple[int, str]]
    files: frozenset[tuple[str, str]]
    children: frozenset[tuple[int, str]]

    @staticmethod
    def now() -> Holdings:
        """Take stock."""
        return Holdings(
            frozenset((t.ident or 0, t.name) for t in threading.enumerate()),
            frozenset(_open_files()),
            frozenset(_children()),
        )

    def beyond(self, before: Holdings) -> list[str]:
        """What is held now and was not before, one line each, in a stable order."""
        return [
            *(f"thread '{name}'" for _, name in sorted(self.threads - before.threads)),
            *(f"open {target} (descriptor {fd})" for fd, target in sorted(self.files - before.files)),
            *(f"child process {pid} {name}" for pid, name in sorted(self.children - before.children)),
        ]


def _open_files() -> Iterator[tuple[str, str]]:
    """(descriptor, target) of what is open: files by path, sockets and pipes by their inode."""
    if not _FILES.is_dir():
        return
    for fd in os.listdir(_FILES):
        # The descriptor that lists the directory is gone again by now.
        with contextlib.suppress(OSError):
            target = os.readlink(_FILES / fd)
            if not target.startswith("/proc/"):
                yield fd, target


def _children() -> Iterator[tuple[int, str]]:
    """(pid, name) of children that live; those that have ended and wait to be reaped are left out."""
    for tasks in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for pid in tasks.read_text().split():
                with contextlib.suppress(OSError):
                    name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
                    if not rest.split()[0].startswith("Z"):
                        yield int(pid), name.partition("(")[2]


def leaked(before: Holdings, grace: float = 1.0) -> list[str]:
    """What is still held beyond `before` after at most `grace` seconds, in which threads may end by themselves."""
    deadline = time.monotonic() + grace
    while True:
        gc.collect()
        found = Holdings.now().beyond(before)
        if not found or time.monotonic() >= deadline:
            return found
        time.sleep(_POLL)


@contextlib.contextmanager
def no_leaks(grace: float = 1.0) -> Iterator[None]:
    """Fail with an AssertionError that names each thing if the block leaves a thread, file, socket or child behind.

    Run what you test once before: libraries open things once a process and keep them, which is no leak.
    """
    before = Holdings.now()
    yield
    found = leaked(before, grace)
    if found:
        raise AssertionError(f"left behind: {'; '.join(found)}")
