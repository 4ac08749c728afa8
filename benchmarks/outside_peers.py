"""F12 by libraries that have an environment of their own (``make bench-peers``): a child of the benchmark.

``python -m benchmarks.outside_peers ARRAYS FIRST``: reads close, high, low (bars, symbols) from an .npz, takes the bars
before FIRST, says each library's values at the next bars, and serves turns: seconds for one (symbol, bar).
Imports nothing of the product.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol

import bytewax.operators as op
import numpy as np
import polars as pl
import wickra
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main
from talipp.indicators import ROC, RSI, SMA

from benchmarks.nautilus import Indicators
from benchmarks.polars_f12 import expressions
from benchmarks.running import Extremes, RunningF12
from benchmarks.serving import serve

TAIL = 600
AGREE = 3
TALIPP_SYMBOLS = 100
"""It keeps every input in lists, and takes half a minute to warm 500 symbols."""


class Library(Protocol):
    symbols: int
    bars_a_turn: int

    def step(self, bar: int) -> list[list[float]]:
        """Fourteen values for each symbol."""


class Wickra:
    """Rust, one running state for each indicator and symbol."""

    bars_a_turn = 5

    def __init__(self, close: np.ndarray, high: np.ndarray, low: np.ndarray, first: int) -> None:
        self._columns = close.T.tolist(), high.T.tolist(), low.T.tolist()
        self.symbols = close.shape[1]
        self._states = [
            (
                [wickra.ROCP(w) for w in (20, 60)] + [wickra.RSI(w) for w in (6, 12, 24)],
                [wickra.SMA(w) for w in (5, 10, 20, 60)],
                [float("nan")] * 4,
                [Extremes(w) for w in (20, 60)],
                wickra.StdDev(20),
            )
            for _ in range(self.symbols)
        ]
        for bar in range(first):
            self.step(bar)

    def step(self, bar: int) -> list[list[float]]:
        closes, highs, lows = self._columns
        return [self._one(s, closes[s], highs[s][bar], lows[s][bar], bar) for s in range(self.symbols)]

    def _one(self, s: int, closes: list[float], high: float, low: float, bar: int) -> list[float]:
        close = closes[bar]
        plain, averages, means, levels, deviation = self._states[s]
        values = [state.update(close) for state in plain]
        for k, state in enumerate(averages):
            mean = state.update(close) or float("nan")
            values.append((mean / means[k] - 1.0) * 10.0)
            means[k] = mean
        for level in levels:
            highest, lowest = level.update(high, low)
            values.append((highest - close) / close)
            values.append((close - lowest) / close)
        change = close / closes[bar - 1] - 1.0 if bar else 0.0
        values.append((deviation.update(change) or 0.0) * (20.0 / 19.0) ** 0.5)
        return values


class Talipp:
    """Python, every input kept."""

    bars_a_turn = 3

    def __init__(self, close: np.ndarray, high: np.ndarray, low: np.ndarray, first: int) -> None:
        self.symbols = min(close.shape[1], TALIPP_SYMBOLS)
        part = slice(0, self.symbols)
        self._columns = close.T[part].tolist(), high.T[part].tolist(), low.T[part].tolist()
        self._states = []
        for closes in self._columns[0]:
            past = closes[:first]
            averages = [SMA(w, past) for w in (5, 10, 20, 60)]
            self._states.append(
                ([ROC(w, past) for w in (20, 60)], [RSI(w, past) for w in (6, 12, 24)], averages)
            )

    def step(self, bar: int) -> list[list[float]]:
        out = []
        for s, (rates, strengths, averages) in enumerate(self._states):
            closes, highs, lows = (column[s] for column in self._columns)
            close = closes[bar]
            for state in (*rates, *strengths, *averages):
                state.add(close)
            values = [r[-1] / 100.0 for r in rates] + [r[-1] for r in strengths]
            values += [(a[-1] / a[-2] - 1.0) * 10.0 for a in averages]
            for w in (20, 60):
                # Its DonchianChannels takes bars as objects and searches both lists too.
                values.append((max(highs[bar + 1 - w : bar + 1]) - close) / close)
                values.append((close - min(lows[bar + 1 - w : bar + 1])) / close)
            values.append(_deviation(closes, bar))
            out.append(values)
        return out


def _deviation(closes: list[float], bar: int) -> float:
    returns = [closes[k] / closes[k - 1] - 1.0 for k in range(bar - 19, bar + 1)]
    mean = sum(returns) / 20
    return float((sum((r - mean) ** 2 for r in returns) / 19) ** 0.5)


class Polars:
    """The whole panel once per close: expressions over each symbol's tail."""

    bars_a_turn = 1

    def __init__(self, close: np.ndarray, high: np.ndarray, low: np.ndarray, first: int) -> None:
        self.symbols = close.shape[1]
        self._columns = {"close": close.T.copy(), "high": high.T.copy(), "low": low.T.copy()}
        self._names = np.repeat(np.arange(self.symbols), TAIL)
        self._expressions = [e.last().alias(f"c{k}") for k, e in enumerate(expressions())]

    def step(self, bar: int) -> list[list[float]]:
        tail = slice(bar + 1 - TAIL, bar + 1)
        data = {name: column[:, tail].ravel() for name, column in self._columns.items()}
        frame = pl.DataFrame({"symbol": self._names, **data})
        found = frame.group_by("symbol", maintain_order=True).agg(self._expressions)
        return [list(row[1:]) for row in found.iter_rows()]


class Nautilus:
    """NautilusTrader's own indicators, Cython; what it lacks is derived from what it has."""

    bars_a_turn = 5

    def __init__(self, close: np.ndarray, high: np.ndarray, low: np.ndarray, first: int) -> None:
        self.symbols = close.shape[1]
        self._columns = close.T.tolist(), high.T.tolist(), low.T.tolist()
        self._states = [Indicators() for _ in range(self.symbols)]
        for bar in range(first):
            self.step(bar)

    def step(self, bar: int) -> list[list[float]]:
        closes, highs, lows = self._columns
        return [
            state.update(closes[s][bar], highs[s][bar], lows[s][bar]) for s, state in enumerate(self._states)
        ]


class Bytewax:
    """A dataflow of keyed state, the maths of `RunningF12`; ``batch`` bars are handed over at a time."""

    def __init__(
        self, close: np.ndarray, high: np.ndarray, low: np.ndarray, first: int, *, batch: int
    ) -> None:
        self.symbols = close.shape[1]
        self.bars_a_turn = max(1, 2000 // self.symbols)
        self._batch = batch
        self._bars = np.stack((close, high, low), axis=2).tolist()
        self._states = {f"S{s}": RunningF12() for s in range(self.symbols)}
        for bar in range(first):
            for state, values in zip(self._states.values(), self._bars[bar], strict=True):
                state.update(*values)

    def step(self, bar: int) -> list[list[float]]:
        found = dict(self.advance(bar, 1))
        return [found[name] for name in self._states]

    def advance(self, bar: int, count: int) -> list[tuple[str, list[float]]]:
        """One run of the dataflow over `count` bars of each symbol; at its end it goes on from the first one."""
        items = [
            item
            for k in range(count)
            for item in zip(self._states, self._bars[(bar + k) % len(self._bars)], strict=True)
        ]
        found: list[tuple[str, list[float]]] = []
        flow = Dataflow("f12")
        stream = op.input("bars", flow, TestingSource(items, batch_size=self._batch))
        stream = op.map("named", stream, lambda item: (item[0], item))
        stream = op.stateful_map("f12", stream, self._update)
        op.output("out", stream, TestingSink(found))
        run_main(flow)
        return found

    def _update(
        self, state: RunningF12 | None, item: tuple[str, list[float]]
    ) -> tuple[RunningF12, list[float]]:
        state = state or self._states[item[0]]
        return state, state.update(*item[1])


def _turn(library: Library, at: int) -> Callable[[], float]:
    def work() -> float:
        nonlocal at
        count = library.bars_a_turn
        start = time.perf_counter()
        if isinstance(library, Bytewax):
            library.advance(at, count)
        else:
            for k in range(count):
                library.step(at + k)
        seconds = time.perf_counter() - start
        at += count
        return seconds / (count * library.symbols)

    return work


def main() -> None:
    path, first = sys.argv[1], int(sys.argv[2])
    arrays = np.load(path)
    columns = arrays["close"], arrays["high"], arrays["low"]
    libraries: dict[str, Library] = {
        "wickra": Wickra(*columns, first),
        "bytewax, the plain Python as keyed state": Bytewax(*columns, first, batch=1),
        "bytewax, 100 bars handed over at a time": Bytewax(*columns, first, batch=100),
        "NautilusTrader's indicators": Nautilus(*columns, first),
        "talipp": Talipp(*columns, first),
        "polars": Polars(*columns, first),
    }
    hello = {n: [x.step(first + k) for k in range(AGREE)] for n, x in libraries.items()}
    serve(hello, {name: _turn(library, first + AGREE) for name, library in libraries.items()})


if __name__ == "__main__":
    main()
