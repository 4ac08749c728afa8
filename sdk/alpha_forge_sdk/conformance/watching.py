"""What code does to the world while it runs on this thread: files, sockets, threads, processes, the environment."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any
from unittest import mock

_WRITES = {
    "os.mkdir": "made a directory",
    "os.remove": "removed a file",
    "os.rename": "renamed a file",
    "os.rmdir": "removed a directory",
    "os.truncate": "cut a file",
    "os.link": "linked a file",
    "os.symlink": "linked a file",
    "os.chmod": "changed a file",
    "os.utime": "changed a file",
    "os.putenv": "set an environment variable",
    "os.unsetenv": "unset an environment variable",
    "os.system": "ran a command",
    "os.fork": "started a process",
    "os.posix_spawn": "started a process",
    "subprocess.Popen": "started a process",
    "socket.__new__": "made a socket",
    "socket.connect": "connected a socket",
    "socket.bind": "bound a socket",
    "socket.getaddrinfo": "looked up a host",
    "socket.gethostbyname": "looked up a host",
    "sqlite3.connect": "opened a database",
}
_READS = {
    "os.listdir": "listed a directory",
    "os.scandir": "listed a directory",
    "os.chdir": "changed the directory",
}
_WRITING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Deeds:
    """What was seen. ``lasting`` is never the price of a first use; ``reading`` (files, environment) may be."""

    def __init__(self) -> None:
        self.lasting: list[str] = []
        self.reading: list[str] = []

    @property
    def all(self) -> list[str]:
        return self.lasting + self.reading


_watched: dict[int, Deeds] = {}
"""Thread → what it is seen doing."""


@functools.cache
def _install() -> None:
    # An audit hook can't be taken away again; where nobody watches it costs a look into an empty dict.
    sys.addaudithook(_audit)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not _watched:
        return
    deeds = _watched.get(threading.get_ident())
    if deeds is None:
        return
    if event == "open":
        path, mode, flags = args
        writing = bool(flags & _WRITING_FLAGS) if isinstance(flags, int) else False
        # Descriptors, as of pipes, are no files.
        if not isinstance(path, int) and not _importing():
            (deeds.lasting if writing else deeds.reading).append(f"opened {path!r} (mode {mode or flags!r})")
    elif (told := _WRITES.get(event) or _READS.get(event)) is not None and not _importing():
        shown = f" {args[0]!r}" if args and isinstance(args[0], str | bytes) else ""
        (deeds.lasting if event in _WRITES else deeds.reading).append(f"{told}{shown}")


def _importing() -> bool:
    """True within an import: its files are the interpreter's business."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _noting(
    function: Callable[..., Any], tell: Callable[[Deeds, tuple[Any, ...]], None]
) -> Callable[..., Any]:
    @functools.wraps(function)
    def noted(*args: Any, **kwargs: Any) -> Any:
        deeds = _watched.get(threading.get_ident())
        if deeds is not None and not _importing():
            tell(deeds, args)
        return function(*args, **kwargs)

    return noted


@contextlib.contextmanager
def watched() -> Iterator[Deeds]:
    """Watch this thread. What imports do is left out; other threads are not seen, but their start is."""
    _install()
    deeds = Deeds()
    environ: Any = type(os.environ)
    # The interpreter audits neither of these.
    patches = (
        mock.patch.object(
            environ,
            "__getitem__",
            _noting(
                environ.__getitem__, lambda d, a: d.reading.append(f"read the environment variable {a[1]!r}")
            ),
        ),
        mock.patch.object(
            environ,
            "__iter__",
            _noting(environ.__iter__, lambda d, a: d.reading.append("read the environment")),
        ),
        mock.patch.object(
            threading.Thread,
            "start",
            _noting(
                threading.Thread.start, lambda d, a: d.lasting.append(f"started the thread {a[0].name!r}")
            ),
        ),
        mock.patch.object(os, "stat", _noting(os.stat, lambda d, a: d.reading.append(f"looked at {a[0]!r}"))),
    )
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        _watched[threading.get_ident()] = deeds
        try:
            yield deeds
        finally:
            del _watched[threading.get_ident()]
