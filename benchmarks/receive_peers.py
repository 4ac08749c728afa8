"""Messages received and thrown away by other WebSocket clients: a child of the benchmark ``ingest``.

``python -m benchmarks.receive_peers PORT COUNT``: seconds for one of COUNT messages of the local exchange at PORT.
Imports nothing of the product.
"""

from __future__ import annotations

import asyncio
import sys
import time

import aiohttp
from picows import WSFrame, WSListener, WSTransport, ws_connect

from benchmarks.serving import serve


async def by_aiohttp(url: str, count: int) -> float:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, compress=0, timeout=aiohttp.ClientWSTimeout(ws_close=0.1)) as socket,
    ):
        await socket.receive()
        start = time.perf_counter()
        for _ in range(count - 1):
            await socket.receive()
        return time.perf_counter() - start


class _Counter(WSListener):  # type: ignore[misc]
    def __init__(self, count: int, done: asyncio.Event) -> None:
        self._left = count
        self._done = done
        self.first = self.last = 0.0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if not self.first:
            self.first = time.perf_counter()
        frame.get_payload_as_memoryview()
        self._left -= 1
        if not self._left:
            self.last = time.perf_counter()
            self._done.set()


async def by_picows(url: str, count: int) -> float:
    done = asyncio.Event()
    transport, listener = await ws_connect(lambda: _Counter(count, done), url)
    await done.wait()
    transport.disconnect()
    return float(listener.last - listener.first)


def main() -> None:
    url, count = f"ws://127.0.0.1:{sys.argv[1]}/market/stream", int(sys.argv[2])
    serve(
        None,
        {
            "aiohttp": lambda: asyncio.run(by_aiohttp(url, count)) / count,
            "picows": lambda: asyncio.run(by_picows(url, count)) / count,
        },
    )


if __name__ == "__main__":
    main()
