"""``python -m tests.soak.stream_memory SYMBOLS BARS CUT``: stream bars into frames; prints resident bytes as JSON.

A process of its own, so that nothing but the stream can grow in it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from benchmarks.graphs import FRAME, compiled, config
from benchmarks.market import close_of, names, random_bars

from alpha_forge.runtime.engine import Engine
from alpha_forge.runtime.feed import Feed
from alpha_forge_plugins.market.binance import shard
from alpha_forge_plugins.market.binance_futures import BinanceFutures
from alpha_forge_sdk import SourceContext, SystemClock

ROOT = Path(__file__).resolve().parents[2]


def resident() -> int:
    """Bytes that this process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


async def stream(port: int, symbols: int, bars: int, folder: Path) -> dict[str, object]:
    universe = names(symbols)
    _, dag = compiled(config(universe, "", "ohlcv.close", folder / "never.csv"))
    params = {"universe": universe, "interval": "1h", "endpoints": f"http://127.0.0.1:{port}"}
    source = BinanceFutures(BinanceFutures.Params.model_validate(params))
    engine, wake = Engine(dag), asyncio.Event()
    spec = dag.frames[FRAME]
    first = spec.interval.row(close_of(0))
    engine.begin({FRAME: np.full(symbols, first)})
    engine.emit_after({FRAME: 0})
    feed = Feed(dag.data_nodes()[0], spec, source, wake)
    feed.sequencer.begin(np.full(symbols, first))
    truth = random_bars(symbols, bars).values
    samples: list[tuple[int, int]] = []
    seen = wrong = 0
    await source.open(SourceContext(SystemClock(), folder, {}))
    feed.start()
    try:
        while seen < bars * symbols:
            await asyncio.wait_for(wake.wait(), 60)
            wake.clear()
            feed.check()
            feed.sort_in()
            batches = list(feed.take())
            for _, batch in batches:
                expected = truth[spec.interval.row(batch.ts) - first][:, batch.symbols]
                wrong += int((batch.values != expected).any(axis=0).sum())
                seen += len(batch.symbols)
            engine.process(batches)
            if seen >= (len(samples) + 1) * symbols * bars // 100:
                samples.append((seen, resident()))
    finally:
        await feed.stop()
    counts = feed.sequencer.counts
    return {
        "bars": seen,
        "wrong": wrong,
        "refused": counts.refused,
        "reconnected": feed.reconnected,
        "samples": samples,
    }


def main() -> None:
    symbols, bars, cut = (int(a) for a in sys.argv[1:4])
    logging.disable(logging.WARNING)
    # A connection that lives for less than five seconds makes the pauses grow: right, and here a waste of time.
    shard._STABLE = 0.0  # type: ignore[misc]
    command = [sys.executable, "-m", "benchmarks.blaster", str(symbols), str(bars), "1", str(cut)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        with tempfile.TemporaryDirectory() as folder:
            port = int(process.stdout.readline())
            limited = asyncio.wait_for(stream(port, symbols, bars, Path(folder)), 600)
            print(json.dumps(asyncio.run(limited)))
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
