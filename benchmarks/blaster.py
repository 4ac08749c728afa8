"""``python -m benchmarks.blaster SYMBOLS BARS PASSES [CUT]``: a local exchange that sends as fast as it is read.

Prints its port. Serves what a source asks for when it is opened, then, on every WebSocket, the bars of
`benchmarks.market.random_bars`: each bar's frames in progress `PASSES` times over all symbols, then its closes.
With `CUT` it cuts the connection after so many bars, in the middle of a frame; the next one goes on one bar earlier.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.market import HOUR, close_of, names, random_bars

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def messages(values: np.ndarray, bar: int, *, closed: bool) -> list[bytes]:
    """One message a symbol as the exchange sends them: combined stream, prices as text."""
    start = (close_of(bar) - HOUR) // 10**6
    found = []
    for k, symbol in enumerate(names(values.shape[1])):
        open_, high, low, close, volume = (repr(float(v)) for v in values[:, k])
        kline = {"t": start, "T": start + HOUR // 10**6 - 1, "s": symbol, "i": "1h", "f": 100, "L": 200}
        kline |= {"o": open_, "c": close, "h": high, "l": low, "v": volume, "n": 100, "x": closed}
        kline |= {"q": "1000.0", "V": "500.0", "Q": "500.0", "B": "0"}
        data = {"e": "kline", "E": start + 1000, "s": symbol, "k": kline}
        message = {"stream": f"{symbol.lower()}@kline_1h", "data": data}
        found.append(json.dumps(message, separators=(",", ":")).encode())
    return found


def _framed(texts: list[bytes]) -> bytes:
    """As unmasked text frames of a server; every message is longer than 125 bytes and shorter than 64 KiB."""
    return b"".join(b"\x81\x7e" + len(text).to_bytes(2, "big") + text for text in texts)


class _Exchange:
    def __init__(self, symbols: int, bars: int, passes: int, cut: int) -> None:
        self._symbols = symbols
        self._passes = passes
        self._cut = cut
        self._next = 0
        self._values = random_bars(symbols, bars).values
        # Few bars are made beforehand, so that a benchmark does not wait for this process.
        self._made = [self._make(bar) for bar in range(bars)] if bars <= 16 else []

    def _make(self, bar: int) -> tuple[bytes, bytes]:
        """All frames in progress of a bar, and all of its closes."""
        values = self._values[bar]
        return _framed(messages(values, bar, closed=False)), _framed(messages(values, bar, closed=True))

    def serve(self, client: socket.socket) -> None:
        with client:
            try:
                for head in self._requests(client):
                    path = head.split(b" ", 2)[1].decode()
                    if b"sec-websocket-key" in head.lower():
                        self._blast(client, head)
                        return
                    client.sendall(self._answer(path))
            except OSError:
                return

    @staticmethod
    def _requests(client: socket.socket) -> Iterator[bytes]:
        """The heads of requests without a body, one after the other."""
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                more = client.recv(65536)
                if not more:
                    return
                data += more
            head, data = data.split(b"\r\n\r\n", 1)
            yield head

    def _answer(self, path: str) -> bytes:
        status, body = b"200 OK", b"{}"
        if path.endswith("exchangeInfo"):
            listed = [
                {"symbol": s, "status": "TRADING", "contractType": "PERPETUAL"} for s in names(self._symbols)
            ]
            body = json.dumps({"serverTime": time.time_ns() // 10**6, "symbols": listed}).encode()
        elif path.endswith("time"):
            body = json.dumps({"serverTime": time.time_ns() // 10**6}).encode()
        else:
            status = b"404 Not Found"
        head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        return head % (status, len(body)) + body

    def _blast(self, client: socket.socket, head: bytes) -> None:
        lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        key = next(value for name, value in lines.items() if name.lower() == b"sec-websocket-key")
        accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest())
        client.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        first = max(0, self._next - 1) if self._cut else 0
        for bar in range(first, len(self._values)):
            progress, closes = self._made[bar] if self._made else self._make(bar)
            if self._cut and bar - first == self._cut:
                client.sendall(progress[: len(progress) // 2 + 7])
                client.shutdown(socket.SHUT_WR)  # a reset would take back what is on its way
                break
            for _ in range(self._passes):
                client.sendall(progress)
            client.sendall(closes)
            self._next = bar + 1
        while client.recv(65536):  # until the client has gone
            pass


def main() -> None:
    symbols, bars, passes, cut = (int(a) for a in (*sys.argv[1:], 0)[:4])
    exchange = _Exchange(symbols, bars, passes, cut)
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
    while True:
        client, _ = server.accept()
        threading.Thread(target=exchange.serve, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main()
