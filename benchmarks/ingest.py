"""Ingest: from a socket that is never empty to bars in the frames, through everything that a run has in between."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import numpy as np

from alpha_forge.runtime.engine import Engine
from alpha_forge.runtime.feed import Feed
from alpha_forge_plugins.market.binance_futures import BinanceFutures
from alpha_forge_sdk import SourceContext, SystemClock
from benchmarks.blaster import messages
from benchmarks.gate import Message, by_json
from benchmarks.graphs import FRAME, compiled, config
from benchmarks.market import close_of, names, random_bars
from benchmarks.peers import installed, peer
from benchmarks.results import CaseResult, Goal
from benchmarks.timing import in_turn, per_unit

OURS = "ours: socket → source → feed → gate → frame"
BARE = "websockets alone: received and thrown away"
DECODE = "msgspec, decoding alone"
ORJSON = "orjson, decoding alone"
JSON = "json, decoding alone"
CLIENTS = ("aiohttp", "picows")
MICRO = 1e6
SYMBOLS, BARS, PASSES = 500, 4, 100


def run(*, quick: bool) -> CaseResult:
    """µs for one message of 500 streams, one of a hundred closes a bar."""
    result = CaseResult("ingest", "a message of the socket on its way into the frames", "µs a message", OURS)
    bars = 2 if quick else BARS
    sent = bars * (PASSES + 1) * SYMBOLS
    texts = messages(random_bars(SYMBOLS, 1).values[0], 0, closed=True)
    decode = msgspec.json.Decoder(Message, strict=False).decode
    cpu: list[float] = []
    with (
        ExitStack() as peers,
        _exchange(SYMBOLS, bars, PASSES) as port,
        tempfile.TemporaryDirectory() as folder,
    ):

        def ours() -> float:
            path = _Path(port, Path(folder), bars)
            start = time.process_time()
            seconds = asyncio.run(path.run())
            cpu.append((time.process_time() - start) / sent)
            path.check(result)
            return seconds / sent

        turns = {
            OURS: ours,
            BARE: lambda: asyncio.run(_bare(port, sent)) / sent,
            DECODE: per_unit(lambda: [decode(text) for text in texts], len(texts)),
            JSON: per_unit(lambda: [by_json(text) for text in texts], len(texts)),
        }
        if installed():
            file = Path(folder) / "messages.txt"
            file.write_bytes(b"\n".join(texts))
            turns[ORJSON] = peers.enter_context(peer("orjson_peer", file)).turn("orjson")
            clients = peers.enter_context(peer("receive_peers", port, sent))
            turns |= {f"{name} alone: received and thrown away": clients.turn(name) for name in CLIENTS}
        else:
            result.notes.append("orjson, aiohttp and picows were left out: `make bench-peers` installs them")
        found = in_turn(turns, 2 if quick else 9)
    for name, samples in found.items():
        result.add(name, f"{SYMBOLS} streams", samples, MICRO)
    ours_measure = result.of(OURS, f"{SYMBOLS} streams")
    result.goals.append(
        Goal("≥ 100,000 messages a second, so ≤ 10 µs each", ours_measure.median, 10.0, ours_measure.best)
    )
    result.notes.append(
        f"{MICRO / ours_measure.median:,.0f} messages a second over loopback, on one core "
        f"({min(cpu) * MICRO:.1f} µs of processor time each); one of {PASSES + 1} closes a bar"
    )
    return result


@contextmanager
def _exchange(symbols: int, bars: int, passes: int) -> Iterator[int]:
    """The port of a blaster in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.blaster", str(symbols), str(bars), str(passes)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[1]
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class _Path:
    """Source, feed and engine as the runner joins them."""

    def __init__(self, port: int, folder: Path, bars: int) -> None:
        self._bars = bars
        self._folder = folder
        universe = names(SYMBOLS)
        _, dag = compiled(config(universe, "", "ohlcv.close", Path("never_opened.csv")))
        spec = dag.frames[FRAME]
        params = {"universe": universe, "interval": "1h", "endpoints": f"http://127.0.0.1:{port}"}
        self._source = BinanceFutures(BinanceFutures.Params.model_validate(params))
        self._engine = Engine(dag)
        first = spec.interval.row(close_of(0))
        self._engine.begin({FRAME: np.full(SYMBOLS, first)})
        self._engine.emit_after({FRAME: 0})
        self._wake = asyncio.Event()
        self._feed = Feed(dag.data_nodes()[0], spec, self._source, self._wake)
        self._feed.sequencer.begin(np.full(SYMBOLS, first))

    async def run(self) -> float:
        """Seconds from the first event to the last bar in the frame."""
        feed, engine = self._feed, self._engine
        await self._source.open(SourceContext(SystemClock(), self._folder, {}))
        feed.start()
        try:
            await feed.wait_first(60)
            start = time.perf_counter()
            while feed.sequencer.counts.accepted < self._bars * SYMBOLS:
                await asyncio.wait_for(self._wake.wait(), 60)
                self._wake.clear()
                feed.check()
                feed.sort_in()
                engine.process(list(feed.take()))
            return time.perf_counter() - start
        finally:
            await feed.stop()

    def check(self, result: CaseResult) -> None:
        """Every bar in the frame is the one that was sent."""
        frame = self._engine.frames[FRAME]
        columns = ("open", "high", "low", "close", "volume")
        for bar, values in enumerate(random_bars(SYMBOLS, self._bars).values):
            row = frame.interval.row(close_of(bar))
            got = np.stack([frame.values(c, row, frame.everyone) for c in columns])
            result.agree(f"bar {bar}", f"{SYMBOLS} streams", float(np.abs(got - values).max()), 0.0)


async def _bare(port: int, count: int) -> float:
    """Seconds to receive `count` messages and do nothing with them."""
    from websockets.asyncio.client import connect

    url = f"ws://127.0.0.1:{port}/market/stream"
    async with connect(url, compression=None, max_queue=1024, close_timeout=0.1) as socket:
        await socket.recv(decode=False)
        start = time.perf_counter()
        for _ in range(count - 1):
            await socket.recv(decode=False)
        return time.perf_counter() - start
