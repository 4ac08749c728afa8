"""F12 of one more bar, through the whole feature stage: append, gather, twelve steps, store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from alpha_forge_sdk import kernels
from benchmarks.feature_peers import (
    CLOSE,
    HIGH,
    LOW,
    Contender,
    NumpyAcross,
    PandasTail,
    TalibHandles,
    TalibTail,
    truth,
)
from benchmarks.graphs import COLUMNS, FRAME, batches, compiled, f12_config, warm_engine
from benchmarks.limit import Fused
from benchmarks.market import Bars, Float, close_of, random_bars
from benchmarks.peers import installed, peer
from benchmarks.results import CaseResult, Goal
from benchmarks.running import RunningF12
from benchmarks.timing import Turn, in_turn, per_unit

WARM = 1188
AGREE = 3
"""Bars at which all answers are compared before anything is timed."""

EXACT = 1e-9
FADING = 1e-8
"""Of RSI: what came before a state's start weighs less than 1e-9, and the value may be off by several times that."""

SELDOM = 1e-7
"""The same among thousands of rows, where some state's seed met few changes of one sign."""

OURS = "ours, through the runtime"
KERNELS = "ours without the runtime: bare kernels on ready windows"
LIMIT = "the limit: one fused loop, compiled"
PLAIN = "plain Python, running state"
MICRO = 1e6


class Ours:
    """The runtime's engine, one batch of bars a close."""

    def __init__(self, bars: Bars, first: int) -> None:
        _, self._dag = compiled(f12_config(bars.symbols))
        self._engine = warm_engine(self._dag, bars, first)
        self._batches = dict(enumerate(batches(bars, first), first))
        self._everyone = np.arange(bars.symbols, dtype=np.int64)

    def advance(self, bar: int) -> None:
        self._engine.process([self._batches[bar]])

    def step(self, bar: int) -> Float:
        self.advance(bar)
        frame = self._engine.frames[FRAME]
        row = frame.interval.row(close_of(bar))
        return np.stack([frame.values(c, row, self._everyone) for c in COLUMNS])


class Bare:
    """The compiled kernels alone, on windows that lie ready: what is left when the runtime costs nothing."""

    def __init__(self, bars: Bars, first: int) -> None:
        self._high, self._low, self._close = (bars.column(k) for k in (HIGH, LOW, CLOSE))
        n = bars.symbols
        self._states = [
            (w, np.zeros(n, np.int64), np.zeros(n), np.zeros(n), np.zeros(n)) for w in (6, 12, 24)
        ]
        for state in self._states:
            kernels.rsi(self._close[:first], *state)

    def step(self, bar: int) -> Float:
        return np.stack([o[-1] for o in self.advance(bar)])

    def advance(self, bar: int) -> list[Float]:
        high, low, close = (c[bar - 60 : bar + 1] for c in (self._high, self._low, self._close))
        out = [kernels.rate_of_change(close[-21:], 20), kernels.rate_of_change(close, 60)]
        out += [kernels.rsi(close[-1:], *state) for state in self._states]
        out += [kernels.mean_rate_of_change(close[-w - 1 :], w, 1, 10.0) for w in (5, 10, 20, 60)]
        for w in (20, 60):
            out += kernels.level_distances(high[-w:], low[-w:], close[-w:], w)
        out.append(kernels.rolling_return_std(close[-21:], 20, 1))
        return out


class Limit:
    """`Fused`, one bar of all symbols at a time."""

    def __init__(self, bars: Bars, first: int) -> None:
        self._fused = Fused(*(bars.of_symbol(k) for k in (HIGH, LOW, CLOSE)))
        self._fused.advance(0, first)

    def step(self, bar: int) -> Float:
        return self._fused.advance(bar, bar + 1)[:, :, 0]


class Plain:
    """`RunningF12` for each symbol."""

    def __init__(self, bars: Bars, first: int) -> None:
        self._bars = bars.values.transpose(0, 2, 1)[:, :, [CLOSE, HIGH, LOW]].tolist()
        self._states = [RunningF12() for _ in range(bars.symbols)]
        for bar in range(first):
            self._advance(bar)

    def _advance(self, bar: int) -> list[list[float]]:
        return [state.update(*values) for state, values in zip(self._states, self._bars[bar], strict=True)]

    def step(self, bar: int) -> Float:
        return np.array(self._advance(bar)).T


def run(*, quick: bool) -> CaseResult:
    """µs for one (symbol, bar) at 1, 20, 100 and 500 symbols."""
    result = CaseResult(
        "feature_stage",
        "all of F12 (twelve steps, fourteen columns) for one more bar, after 1,188 warm ones",
        "µs for one (symbol, bar)",
        OURS,
    )
    for symbols in (1, 20) if quick else (1, 20, 100, 500):
        _run(result, symbols, rounds=3 if quick else 30)
    _promise(result)
    result.notes.append("pandas, TA-Lib on the tail: of at most 20 of the symbols, since each is on its own")
    if not installed():
        result.notes.append(
            "talipp, polars, wickra, bytewax and NautilusTrader were left out: `make bench-peers` installs them"
        )
    else:
        result.notes.append(
            "talipp: of at most 100 of the symbols; its extremes and deviation in plain Python"
        )
    return result


def _run(result: CaseResult, symbols: int, rounds: int) -> None:
    setting = f"{symbols} symbol{'s' if symbols > 1 else ''}"
    a_turn = {1: 100, 20: 50}.get(symbols, 20)
    bars = random_bars(symbols, WARM + AGREE + a_turn * (rounds + 1))
    few = range(min(symbols, 20))
    contenders: dict[str, tuple[Contender, int, int]] = {
        OURS: (Ours(bars, WARM), symbols, a_turn),
        KERNELS: (Bare(bars, WARM), symbols, a_turn),
        LIMIT: (Limit(bars, WARM), symbols, a_turn),
        PLAIN: (Plain(bars, WARM), symbols, a_turn),
        "NumPy across symbols": (NumpyAcross(bars, WARM), symbols, a_turn),
        "TA-Lib streaming handles": (TalibHandles(bars, range(symbols), WARM), symbols, a_turn),
        "TA-Lib on the tail": (TalibTail(bars, few), len(few), 1),
        "pandas on the tail": (PandasTail(bars, few), len(few), 1),
    }
    want = truth(Bars(bars.values[: WARM + AGREE]), range(symbols))
    for name, (contender, _, _) in contenders.items():
        got = np.stack([contender.step(WARM + k) for k in range(AGREE)], axis=1)
        _compare(result, name, setting, got, want)
    turns = {name: _turn(c, n, k) for name, (c, n, k) in contenders.items()}
    with ExitStack() as stack:
        if installed():
            turns |= stack.enter_context(_outside(result, setting, bars, want))
        found = in_turn(turns, rounds)
    for name, samples in found.items():
        result.add(name, setting, samples, MICRO)


def _turn(contender: Contender, symbols: int, bars: int) -> Turn:
    at = WARM + AGREE
    advance = contender.advance if isinstance(contender, (Ours, Bare)) else contender.step

    def work() -> None:
        nonlocal at
        for _ in range(bars):
            advance(at)
            at += 1

    return per_unit(work, symbols * bars)


def _compare(result: CaseResult, name: str, setting: str, got: Float, want: Float) -> None:
    """(14, AGREE, symbols) against TA-Lib over the whole history (14, bars, symbols), column by column."""
    wanted = want[:, WARM : WARM + AGREE, : got.shape[2]]
    floor = 1e-3 * np.nanstd(want, axis=1)[:, None, : got.shape[2]]
    off = (np.abs(got - wanted) / np.maximum(np.abs(wanted), floor)).max(axis=(1, 2))
    fading = np.array([c.startswith("rsi") for c in COLUMNS])
    result.agree(f"{name}, windows", setting, float(off[~fading].max()), EXACT)
    result.agree(f"{name}, RSI", setting, float(off[fading].max()), FADING)


@contextmanager
def _outside(result: CaseResult, setting: str, bars: Bars, want: Float) -> Iterator[dict[str, Turn]]:
    """Turns of the libraries in the other environment, their answers compared."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.npz"
        np.savez(path, close=bars.column(CLOSE), high=bars.column(HIGH), low=bars.column(LOW))
        with peer("outside_peers", path, WARM) as child:
            for name, values in child.hello.items():
                _compare(result, name, setting, np.array(values).transpose(2, 0, 1), want)
            yield {name: child.turn(name) for name in child.hello}


def _promise(result: CaseResult) -> None:
    limits = {
        "1 symbol": (60.0, "a bar of one symbol takes ≤ 60 µs"),
        "500 symbols": (0.5, "≤ 0.5 µs at 500 symbols"),
    }
    for measure in result.measures:
        if measure.name == OURS and measure.setting in limits:
            limit, text = limits[measure.setting]
            result.goals.append(Goal(text, measure.median, limit, measure.best))
