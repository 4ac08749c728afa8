"""What code does to the outside, by the interpreter's audit events: files made, connections opened."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_WRITING = os.O_CREAT | os.O_WRONLY | os.O_RDWR


@dataclass(slots=True)
class Deeds:
    """What was seen, in order. ``connections`` are (host, port) of TCP, ``files`` what was opened to write or made,
    ``opened`` whatever was opened."""

    connections: list[tuple[str, int]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    def note(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            sock, address = args
            if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
                self.connections.append((str(address[0]), int(address[1])))
        elif event == "open":
            path, _, flags = args
            if isinstance(path, str | bytes):
                self.opened.append(os.fsdecode(path))
                if isinstance(flags, int) and flags & _WRITING:
                    self.files.append(os.fsdecode(path))
        elif event in ("os.mkdir", "sqlite3.connect"):
            self.files.append(os.fsdecode(args[0]) if isinstance(args[0], str | bytes) else str(args[0]))


_watching: list[Deeds] = []
_hooked = threading.Lock()


def _hook(event: str, args: tuple[Any, ...]) -> None:
    for deeds in _watching:
        deeds.note(event, args)


@contextlib.contextmanager
def watched_deeds() -> Iterator[Deeds]:
    """Note what any thread of this process does while the block runs. Compiled clients may go unseen."""
    # An audit hook can't be taken away again: it is set once a process, and idle costs next to nothing.
    if _hooked.acquire(blocking=False):
        sys.addaudithook(_hook)
    deeds = Deeds()
    _watching.append(deeds)
    try:
        yield deeds
    finally:
        _watching.remove(deeds)


def watched_waits() -> tuple[contextlib.AbstractContextManager[None], list[str]]:
    """A block in which the waiting of its thread is noted, and the list of what was called: sleeps, and connections
    and look-ups of names that wait for an answer. Compiled clients may go unseen."""
    found: list[str] = []

    @contextlib.contextmanager
    def block() -> Iterator[None]:
        owner, sleep = threading.get_ident(), time.sleep
        active = [True]

        def slept(seconds: Any, /) -> None:
            if active[0] and threading.get_ident() == owner and seconds > 0:
                found.append(f"time.sleep({seconds:g})")
            sleep(seconds)

        def hook(event: str, args: tuple[Any, ...]) -> None:
            if not active[0] or threading.get_ident() != owner:
                return
            if event == "socket.connect" and args[0].gettimeout() != 0:
                found.append(f"a socket's connect to {args[1]!r} that waits")
            elif event == "socket.getaddrinfo":
                found.append(f"socket.getaddrinfo({args[0]!r})")

        # An audit hook can't be taken away again; switched off it costs a comparison.
        sys.addaudithook(hook)
        time.sleep = slept
        try:
            yield
        finally:
            active[0] = False
            time.sleep = sleep

    return block(), found


def watched_connects() -> tuple[contextlib.AbstractContextManager[None], Callable[[], list[str]]]:
    """A block in which the connections that its thread makes are noted, and what tells those that are still open, by
    their address. Compiled clients may go unseen."""
    made: list[tuple[weakref.ref[socket.socket], str]] = []

    @contextlib.contextmanager
    def block() -> Iterator[None]:
        owner, active = threading.get_ident(), [True]

        def hook(event: str, args: tuple[Any, ...]) -> None:
            if event == "socket.connect" and active[0] and threading.get_ident() == owner:
                made.append((weakref.ref(args[0]), f"{args[1]!r}"))

        # An audit hook can't be taken away again; switched off it costs a comparison.
        sys.addaudithook(hook)
        try:
            yield
        finally:
            active[0] = False

    def still_open() -> list[str]:
        sockets = ((ref(), address) for ref, address in made)
        return [address for sock, address in sockets if sock is not None and sock.fileno() != -1]

    return block(), still_open
