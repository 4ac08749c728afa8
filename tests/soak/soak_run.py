"""One run of a configuration over a hostile market, and what its sinks got, beside the truth."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd

from alpha_forge.runtime.delivery.log import MemoryLog
from alpha_forge.runtime.runner import RealTimeRunner, RunSummary
from tests.market_truth import worst
from tests.pipelines import compiled
from tests.soak.soak_market import FIRST, HOUR, HostileSource, Market

FADING = ("rsi", "macd", "ema", "atr")
FADING_TOLERANCE = 1e-8
"""Of columns whose start weighs less than 1e-9 (epsilon), in units of the value or of the column's deviation: MACD
crosses zero, where nothing that fades has a relative error, and RSI may be off by several times epsilon."""


@dataclass(frozen=True)
class Run:
    summary: RunSummary
    memory: Sequence[int]
    settle: Mapping[str, int]
    """Bars after which each column that fades has forgotten its start."""


def run(text: str, market: Market, rng: np.random.Generator, *, group: int, seconds: float) -> Run:
    """To the end of the stream; raises TimeoutError after `seconds`."""
    logs: dict[str, MemoryLog] = {}
    register = MemoryLog.register

    def noted(self: MemoryLog, sink: str, frame: str, column: str) -> None:
        logs[sink] = self
        register(self, sink, frame, column)

    def backlog() -> int:
        return max((log.backlog(sink) for sink, log in logs.items()), default=0)

    document, dag = compiled(text)
    source = HostileSource(market, rng, backlog, group)
    # Refused bars and repairs are told one by one: right for a service, too much here.
    with mock.patch.object(MemoryLog, "register", noted), _silent():
        runner = RealTimeRunner(document, dag, sources={"ohlcv": source})
        summary = asyncio.run(asyncio.wait_for(runner.run(), seconds))
    settle = {c: n.settle for n in dag.nodes.values() if n.settle for c in n.outputs}
    return Run(summary, source.memory, settle)


class _silent:
    def __enter__(self) -> None:
        logging.getLogger("alpha_forge").setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("alpha_forge").setLevel(logging.NOTSET)


def delivered(path: Path, names: Sequence[str], bars: int, step: int = HOUR) -> np.ndarray:
    """(bars, symbols) predictions of a CSV on the grid of closes, NaN where there is none; a doubled one fails."""
    rows = pd.read_csv(path, usecols=["ts", "symbol", "prediction"])
    ts = pd.to_datetime(rows["ts"], utc=True).dt.as_unit("ns").astype("int64").to_numpy()
    place = pd.Index(names).get_indexer(rows["symbol"])
    first = FIRST // step
    at = ts // step - first - 1
    assert (ts % step == 0).all(), f"{path.name}: a close off the grid"
    keys = at * len(names) + place
    assert len(np.unique(keys)) == len(keys), (
        f"{path.name}: {len(keys) - len(np.unique(keys))} predictions are doubled"
    )
    found = np.full((bars, len(names)), np.nan)
    found[at, place] = rows["prediction"].to_numpy()
    return found


def unsettled(present: np.ndarray, settle: int) -> np.ndarray:
    """Where a column that fades may have no value: states begin on the grid of time, and none has seen enough bars.

    States reach back at least 1.125 × `settle` rows (of those that warm-up fetches, more later on); a symbol that
    lacks so many of them that `settle` bars are not left is not ready, in every run alike.
    """
    rows = settle + settle // 8
    seen = np.cumsum(present, axis=0)
    seen[rows:] -= seen[:-rows].copy()
    return np.asarray(seen < settle)


def compare(column: str, got: np.ndarray, want: np.ndarray, excused: np.ndarray | None = None) -> None:
    """Exactly one value where the truth has one (but where that is `excused`), and the same."""
    lacks = ~np.isnan(want) & np.isnan(got)
    if excused is not None:
        lacks &= ~excused
    missing = np.argwhere(lacks)
    extra = np.argwhere(np.isnan(want) & ~np.isnan(got))
    assert not len(missing), (
        f"{column}: {len(missing)} values are missing, the first at (bar, symbol) {missing[0]}"
    )
    assert not len(extra), f"{column}: {len(extra)} values too many, the first at (bar, symbol) {extra[0]}"
    fading = column.startswith(FADING)
    tolerance = FADING_TOLERANCE if fading else 1e-9
    for place in range(want.shape[1]):
        has = ~np.isnan(got[:, place])
        g, w = got[has, place], want[has, place]
        if fading and len(w):
            off = float(np.max(np.abs(g - w) / np.maximum(np.abs(w), np.std(w))))
        else:
            off = worst(g, w)
        assert off <= tolerance, f"{column} of symbol {place} is {off:.2g} off"
