"""The proxy does to a connection exactly what it was told, at exactly the byte."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from alpha_forge_sdk.testing.fault_proxy import FaultProxy, fault_proxy


class Echo:
    """Keeps what it gets, and sends it back."""

    def __init__(self) -> None:
        self.got = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while data := client.recv(65_536):
                self.got += data
                client.sendall(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # close() alone leaves it open while accept() waits
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with fault_proxy(*echo.address) as made:
        yield made


def connected(proxy: FaultProxy) -> socket.socket:
    client = socket.create_connection(proxy.address, timeout=5)
    client.settimeout(5)
    return client


def received(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (part := client.recv(count - len(data))):
        data += part
    return data


def eventually(echo: Echo, count: int) -> bytes:
    deadline = time.monotonic() + 3
    while len(echo.got) < count and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.02)  # more must not come
    return bytes(echo.got)


def test_passes_everything_both_ways_and_counts(proxy: FaultProxy, echo: Echo) -> None:
    data = bytes(range(256)) * 4000
    with connected(proxy) as client:
        threading.Thread(target=client.sendall, args=(data,)).start()
        assert received(client, len(data)) == data
    assert bytes(echo.got) == data
    assert (proxy.bytes_up, proxy.bytes_down, proxy.connections) == (len(data), len(data), 1)


def test_the_end_of_one_direction_leaves_the_other_open(proxy: FaultProxy) -> None:
    with connected(proxy) as client:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert received(client, 100) == b"last words"


@pytest.mark.parametrize("at", [0, 1, 7])
def test_cut_ends_the_connection_after_so_many_bytes(proxy: FaultProxy, echo: Echo, at: int) -> None:
    with connected(proxy) as client:
        proxy.cut(at)
        client.sendall(b"0123456789")
        assert received(client, 100) in (b"0123456789"[:at], b"")
        assert eventually(echo, at) == b"0123456789"[:at]


@pytest.mark.parametrize("at", [0, 1, 7])
def test_reset_is_seen_as_reset(proxy: FaultProxy, echo: Echo, at: int) -> None:
    with connected(proxy) as client:
        proxy.reset(at)
        client.sendall(b"0123456789")
        with pytest.raises(ConnectionResetError):
            received(client, 100)
        assert eventually(echo, at) == b"0123456789"[:at]


def test_cut_downwards_lets_the_destination_have_it_all(proxy: FaultProxy, echo: Echo) -> None:
    with connected(proxy) as client:
        proxy.cut(4, direction="down")
        client.sendall(b"0123456789")
        assert received(client, 100) == b"0123"
        assert eventually(echo, 10) == b"0123456789"


def test_bytes_are_counted_from_the_call_on_and_over_connections(proxy: FaultProxy, echo: Echo) -> None:
    with connected(proxy) as client:
        client.sendall(b"abc")
        assert received(client, 3) == b"abc"
        proxy.cut(5)
        client.sendall(b"123")
        assert received(client, 3) == b"123"
        with connected(proxy) as other:
            other.sendall(b"45678")
            received(other, 100)
    assert eventually(echo, 8) == b"abc12345"


def test_a_fault_lasts_unless_it_is_for_once(proxy: FaultProxy) -> None:
    for once in (False, True):
        proxy.reset(once=once)
        with connected(proxy) as client, contextlib.suppress(ConnectionError):
            client.sendall(b"x")
            client.recv(1)
        with connected(proxy) as client:
            if once:
                client.sendall(b"y")
                assert received(client, 1) == b"y"
            else:
                with pytest.raises(ConnectionError):  # noqa: PT012 - either call may notice first
                    client.sendall(b"y")
                    client.recv(1)


def test_refuse_resets_what_is_there_and_refuses_what_comes(proxy: FaultProxy) -> None:
    with connected(proxy) as client:
        client.sendall(b"x")
        assert received(client, 1) == b"x"
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)
    proxy.lift()
    with connected(proxy) as client:
        client.sendall(b"y")
        assert received(client, 1) == b"y"


def test_stall_keeps_the_connection_and_forwards_nothing(proxy: FaultProxy, echo: Echo) -> None:
    with connected(proxy) as client:
        proxy.stall(3)
        client.sendall(b"0123456789")
        assert eventually(echo, 3) == b"012"
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            received(client, 100)
        with connected(proxy) as late:
            late.sendall(b"zzz")
            late.settimeout(0.2)
            with pytest.raises(TimeoutError):
                late.recv(1)
        proxy.lift()
        client.settimeout(5)
        with contextlib.suppress(ConnectionError):
            assert received(client, 1) == b"", "it ends when the stall is lifted"
    assert eventually(echo, 3) == b"012", "what was held back is lost"


def test_slow_delays_and_loses_nothing(proxy: FaultProxy) -> None:
    proxy.slow(0.1)
    with connected(proxy) as client:
        started = time.monotonic()
        client.sendall(b"ping")
        assert received(client, 4) == b"ping"
        assert time.monotonic() - started >= 0.2


def test_a_destination_that_is_away_ends_the_connection(proxy: FaultProxy, echo: Echo) -> None:
    echo.close()
    with connected(proxy) as client, contextlib.suppress(ConnectionError):
        assert client.recv(1) == b""


def test_nothing_is_left_after_close(echo: Echo) -> None:
    before = threading.active_count()
    with fault_proxy(*echo.address) as made, connected(made) as client:
        client.sendall(b"x")
        assert received(client, 1) == b"x"
    made.close()
    deadline = time.monotonic() + 2
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [t for t in threading.enumerate() if t.name == "fault proxy"]
