"""A TCP proxy that misbehaves on request: refuses, cuts, resets, stalls, slows. For tests of network destinations.

>>> with fault_proxy("127.0.0.1", 9000) as proxy:      # doctest: +SKIP
...     client = Client(*proxy.address)
...     proxy.reset(at=100)
...     client.send(payload)       # 100 bytes reach the destination, then the client's connection is reset
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["up", "down"]
"""``up`` is from the client to the destination, ``down`` back."""

_CHUNK = 65_536
_CONNECT_SECONDS = 5.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close() sends RST


@dataclass(slots=True)
class _Fault:
    """What the proxy does at the moment. ``left`` bytes still pass in ``direction`` before it happens."""

    kind: Literal["pass", "refuse", "cut", "reset", "stall"]
    left: int = 0
    direction: Direction = "up"
    once: bool = False
    delay: float = 0.0


@dataclass(slots=True, eq=False)
class _Side:
    """One socket of a connection; ``out`` is what is to be written to it: (due time, bytes)."""

    sock: socket.socket
    out: deque[tuple[float, bytes]] = field(default_factory=deque)
    ended: bool = False
    """No more comes for it: its write side is shut when ``out`` is empty."""
    shut: bool = False


@dataclass(slots=True, eq=False)
class _Pair:
    client: _Side
    server: _Side
    stalled: bool = False

    def sides(self) -> tuple[tuple[_Side, _Side, Direction], ...]:
        """(reads from, writes to, direction)."""
        return (self.client, self.server, "up"), (self.server, self.client, "down")


class FaultProxy:
    """Listens on a port of 127.0.0.1 and forwards to one destination; one thread does all of it.

    A fault holds from the call on, for connections there are and for new ones, until another call. Byte counts of
    faults begin at the call, and run over all connections. All methods may be called from any thread.
    """

    def __init__(self, host: str, port: int) -> None:
        self._destination = (host, port)
        self._lock = threading.Lock()
        self._fault = _Fault("pass")
        self._pairs: list[_Pair] = []
        self._bytes = {"up": 0, "down": 0}
        self._connections = 0
        self._stopping = False
        self._drop_stalled = False
        self._listener = self._bound(("127.0.0.1", 0))
        self._listening = False
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        """Host and port for the client."""
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="fault proxy", daemon=True)
        self._thread.start()
        self.lift()

    @property
    def connections(self) -> int:
        """Connections accepted so far."""
        return self._connections

    @property
    def bytes_up(self) -> int:
        """Bytes forwarded to the destination so far."""
        return self._bytes["up"]

    @property
    def bytes_down(self) -> int:
        """Bytes forwarded to clients so far."""
        return self._bytes["down"]

    def lift(self) -> None:
        """Forward everything again. Connections that had stalled are closed: what they held back is lost."""
        self._set(_Fault("pass"))

    def refuse(self) -> None:
        """Nobody listens: existing connections are reset, new ones refused."""
        self._set(_Fault("refuse"))

    def cut(self, at: int = 0, *, direction: Direction = "up", once: bool = False) -> None:
        """After `at` more bytes in `direction`, end the connection in order (FIN to both sides).

        `once`: only the connection that it happens to; everything passes afterwards. Else later ones are cut at their
        first byte.
        """
        self._set(_Fault("cut", at, direction, once))

    def reset(self, at: int = 0, *, direction: Direction = "up", once: bool = False) -> None:
        """As `cut`, but the client gets RST. The destination gets FIN, so that exactly `at` bytes reached it."""
        self._set(_Fault("reset", at, direction, once))

    def stall(self, at: int = 0, *, direction: Direction = "up") -> None:
        """After `at` more bytes in `direction`, forward nothing more either way; connections stay open."""
        self._set(_Fault("stall", at, direction))

    def slow(self, seconds: float) -> None:
        """Forward everything, each piece `seconds` after it came."""
        self._set(_Fault("pass", delay=seconds))

    def close(self) -> None:
        """Close every connection and end the thread. Idempotent."""
        with self._lock:
            self._stopping = True
        with contextlib.suppress(OSError):
            self._wake.send(b"x")
        self._thread.join()
        self._wake.close()

    def _set(self, fault: _Fault) -> None:
        with self._lock:
            # Listening is settled before the call returns: a client that comes right after finds it so.
            if fault.kind == "refuse" and self._listening:
                self._listener.close()
                # Bound but not listening: the port stays ours, and connecting to it is refused.
                self._listener, self._listening = self._bound(self.address), False
            elif fault.kind != "refuse" and not self._listening:
                self._listener.listen(64)
                self._listening = True
            self._fault = fault
            self._drop_stalled = True
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    @staticmethod
    def _bound(address: tuple[str, int]) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.setblocking(False)
        return sock

    def _run(self) -> None:
        while True:
            with selectors.DefaultSelector() as selector:
                timeout = self._register(selector)
                ready = selector.select(timeout)
            with self._lock:
                self._read_wakeups()
                if self._stopping:
                    break
                for key, _ in ready:
                    if key.fileobj is self._listener:
                        self._accept()
                for pair in list(self._pairs):
                    self._serve(pair)
        for pair in list(self._pairs):
            self._end(pair)
        self._listener.close()
        self._woken.close()

    def _register(self, selector: selectors.BaseSelector) -> float | None:
        """Say what to wait for; → seconds until the next delayed piece is due, None if there is none."""
        with self._lock:
            selector.register(self._woken, selectors.EVENT_READ)
            if self._listening:
                selector.register(self._listener, selectors.EVENT_READ)
            due: list[float] = []
            now = time.monotonic()
            for pair in self._pairs:
                # A peer's readiness is of no interest while nothing is read: waiting on it would spin.
                for source, target, _ in () if pair.stalled else pair.sides():
                    events = 0 if target.ended else selectors.EVENT_READ
                    if source.out:
                        if source.out[0][0] <= now:
                            events |= selectors.EVENT_WRITE
                        else:
                            due.append(source.out[0][0] - now)
                    if events:
                        selector.register(source.sock, events)
            return min(due) if due else None

    def _read_wakeups(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass
        if self._drop_stalled:
            self._drop_stalled = False
            for pair in list(self._pairs):
                if pair.stalled or self._fault.kind == "refuse":
                    self._end(pair, reset=self._fault.kind == "refuse")

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # it went away again, or listening just ended
            return
        self._connections += 1
        try:
            server = socket.create_connection(self._destination, timeout=_CONNECT_SECONDS)
        except OSError:
            client.close()
            return
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = _Pair(_Side(client), _Side(server))
        pair.stalled = self._fault.kind == "stall" and self._fault.left == 0
        self._pairs.append(pair)

    def _serve(self, pair: _Pair) -> None:
        """Move what can be moved; carry out the fault when its byte is reached."""
        if pair.stalled:
            return
        for source, target, direction in pair.sides():
            if not target.ended and not self._read(pair, source, target, direction):
                return
        for source, _, _ in pair.sides():
            if not self._write(source):
                self._end(pair)
                return
        if pair.client.ended and pair.server.ended and not pair.client.out and not pair.server.out:
            self._end(pair)

    def _read(self, pair: _Pair, source: _Side, target: _Side, direction: Direction) -> bool:
        """Take what has come from `source`. False if the pair is out of service now."""
        try:
            data = source.sock.recv(_CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            self._end(pair)
            return False
        if not data:
            target.ended = True
            return True
        fault = self._fault
        passed = data
        if fault.kind in ("cut", "reset", "stall") and fault.direction == direction:
            passed = data[: fault.left]
            fault.left -= len(passed)
        if passed:
            self._bytes[direction] += len(passed)
            target.out.append((time.monotonic() + fault.delay, passed))
        if len(passed) < len(data):
            self._strike(pair, fault, target)
            return False
        return True

    def _strike(self, pair: _Pair, fault: _Fault, target: _Side) -> None:
        target.sock.setblocking(True)
        target.sock.settimeout(_CONNECT_SECONDS)
        with contextlib.suppress(OSError):
            while target.out:  # what was promised to pass does pass
                target.sock.sendall(target.out.popleft()[1])
        target.sock.setblocking(False)
        if fault.kind == "stall":
            pair.stalled = True
            return
        self._end(pair, reset=fault.kind == "reset")
        if fault.once:
            self._fault = _Fault("pass")

    def _write(self, side: _Side) -> bool:
        """Write what is due to this side. False if it is gone."""
        try:
            while side.out and side.out[0][0] <= time.monotonic():
                due, data = side.out[0]
                sent = side.sock.send(data)
                if sent < len(data):
                    side.out[0] = (due, data[sent:])
                    return True
                side.out.popleft()
            if side.ended and not side.out and not side.shut:
                side.sock.shutdown(socket.SHUT_WR)
                side.shut = True
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def _end(self, pair: _Pair, *, reset: bool = False) -> None:
        self._pairs.remove(pair)
        if reset:
            pair.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        for sock in (pair.server.sock,) if reset else (pair.server.sock, pair.client.sock):
            # Without it, close() answers what has come but was not read with RST.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
        pair.client.sock.close()
        pair.server.sock.close()


@contextlib.contextmanager
def fault_proxy(host: str, port: int) -> Iterator[FaultProxy]:
    """A `FaultProxy` in front of `host`:`port` that forwards everything until told otherwise; closed at the end."""
    proxy = FaultProxy(host, port)
    try:
        yield proxy
    finally:
        proxy.close()
