"""Warm-up of 500 symbols × 1,188 bars by the whole runner, from archive files on disk: seconds to streaming, memory."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from alpha_forge.runtime.runner import RealTimeRunner
from benchmarks.graphs import F12, FRAME, compiled, config
from benchmarks.history_peers import peak_bytes
from benchmarks.market import names
from benchmarks.results import CaseResult, Goal

ROOT = Path(__file__).resolve().parents[1]
SYMBOLS = 500
BARS = 1188
WHOLE = "ours: a process's start to streaming"
FETCH = "of it history: disk, checks, CSV, REST"
ENGINE = "of it the engine: every bar through F12"
CPU = "processor time of all that"
SETTINGS = {
    # Both months are published: two files a symbol, and a day and a half over REST.
    "months": "2026-02-03T10:30:00Z",
    # The month before is, and nineteen daily files follow it.
    "month and days": "2026-01-20T10:30:00Z",
}


def run(*, quick: bool) -> CaseResult:
    """Seconds; each round is a process of its own. The files were verified and kept by a run before."""
    result = CaseResult(
        "archive_warmup",
        f"{SYMBOLS} symbols × {BARS:,} bars of 1h from the archive's files on disk, the rest over REST",
        "s",
        WHOLE,
    )
    peak = 0.0
    for setting, start in SETTINGS.items():
        with tempfile.TemporaryDirectory() as folder, local_exchange(start) as url:
            first = _child(url, Path(folder), "fill")
            rounds = [_child(url, Path(folder), "run") for _ in range(1 if quick else 3)]
        for each in rounds:
            result.agree("bars that differ from the first run's", setting, each["sum"] - first["sum"], 0.0)
            result.agree("bars missing", setting, SYMBOLS * BARS - each["bars"], 0.0)
            result.agree("files asked for again", setting, each["downloaded"], 0.0)
        for name in (WHOLE, FETCH, ENGINE, CPU):
            result.add(name, setting, [each[name] for each in rounds])
        peak = max(peak, *(each["peak"] for each in rounds))
        result.notes.append(
            f"{setting}: {rounds[0]['from_disk']:,.0f} files from disk, {rounds[0]['rest']:,.0f} bars over REST"
        )
        result.goals.append(Goal(f"{setting}: ≤ 6 s to streaming", result.of(WHOLE, setting).median, 6.0))
    result.goals.append(Goal("peak memory ≤ 1.5 GB", peak / 1e9, 1.5))
    result.notes.append("the local exchange runs beside it, on the same cores")
    return result


@contextmanager
def local_exchange(start: str) -> Iterator[str]:
    """A local exchange in a process of its own; its URL."""
    command = [sys.executable, "-m", "alpha_forge", "sandbox", "--format", "json", "--parent-watch", "--hold"]
    command += ["--speed", "1", "--start", start, "--symbols", ",".join(names(SYMBOLS))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def _child(url: str, folder: Path, what: str) -> dict[str, float]:
    began = time.time()
    command = [sys.executable, "-m", "benchmarks.archive_warmup", what, url, str(folder), repr(began)]
    answer = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, float] = json.loads(answer.stdout)
    return told


class _Warmed(RealTimeRunner):
    """Ends where streaming would begin, and remembers when."""

    warmed = 0.0
    busy = 0.0
    history = None

    async def _stream(self, feeds, *others) -> None:  # type: ignore[no-untyped-def]
        self.warmed = time.time()
        self.busy = time.process_time()
        (feed,) = feeds
        self.history = feed.source._history
        frame = self.engine.frames[feed.name]
        row = feed.spec.interval.row(self.summary.warmup.frames[feed.name].anchor)
        self.closes = frame.values("close", row, frame.everyone)


def _run(what: str, url: str, folder: str, began: float) -> dict[str, float]:
    from alpha_forge.runtime import warmup

    spent: dict[str, float] = {}

    def timed(owner: type, method: str, name: str) -> None:
        inner = getattr(owner, method)

        async def awaited(*args: object) -> object:
            start = time.perf_counter()
            try:
                return await inner(*args)
            finally:
                spent[name] = time.perf_counter() - start

        def called(*args: object) -> object:
            start = time.perf_counter()
            try:
                return inner(*args)
            finally:
                spent[name] = time.perf_counter() - start

        setattr(owner, method, awaited if asyncio.iscoroutinefunction(inner) else called)

    timed(warmup.WarmupDataService, "fetch", FETCH)
    timed(warmup.WarmupProcessor, "run", ENGINE)
    if what == "fill":
        _prefer_files()
    text = config(names(SYMBOLS), F12, "ohlcv.rsi24", Path(folder) / "out.csv")
    text = text.replace("interval: 1h}", f"interval: 1h, endpoints: '{url}'}}")
    document, dag = compiled(text)
    # F12 alone would be content with fewer.
    dag = replace(dag, warmup={FRAME: replace(dag.warmup[FRAME], fetch=BARS)})
    runner = _Warmed(document, dag, cache_dir=Path(folder) / "cache")
    summary = asyncio.run(runner.run())
    history = runner.history
    assert history is not None
    counts = history.totals
    assert summary.warmup is not None
    return {
        WHOLE: runner.warmed - began,
        CPU: runner.busy,
        **spent,
        "bars": summary.warmup.bars,
        "sum": float(np.sum(runner.closes)),
        "downloaded": counts["files_downloaded"],
        "from_disk": counts["files_from_disk"],
        "rest": counts["bars_over_rest"],
        "peak": peak_bytes(),
    }


def _prefer_files() -> None:
    """For the run that fills the cache: as if all files lay there already."""
    from alpha_forge_plugins.market.binance import planner

    plan = planner.plan
    planner.plan = lambda *args: plan(*args[:-1], lambda file: True)


def main(arguments: Sequence[str]) -> None:
    logging.basicConfig(level=logging.WARNING)
    what, url, folder, began = arguments
    print(json.dumps(_run(what, url, folder, float(began))))


if __name__ == "__main__":
    main(sys.argv[1:])
