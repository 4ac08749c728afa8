"""History replayed bar by bar, as a stream would bring it: ours, and NautilusTrader's BacktestEngine."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from alpha_forge.runtime.replay.rows import RowGraph
from alpha_forge.runtime.replay.whole import FrameChunk
from alpha_forge.runtime.warmup import History
from benchmarks.feature_peers import truth
from benchmarks.feature_stage import EXACT, SELDOM, WARM
from benchmarks.graphs import COLUMNS, FRAME, compiled, f12_config
from benchmarks.market import Bars, Float, close_of, random_bars
from benchmarks.peers import installed, peer
from benchmarks.results import CaseResult, Goal
from benchmarks.timing import in_turn, per_unit

OURS = "ours: the engine that streams, sinks off"
NAUTILUS = "NautilusTrader's BacktestEngine with its indicators"
MICRO = 1e6
SIZES = {20: (1000, 1000, 200_000), 500: (200, 60, 1_000_000)}
"""By symbols: closes a turn of ours, and of the other's; and the (symbol, bar)s a second that are promised."""

DIGITS = 4
"""The other's prices have so many decimals; ours get the same bars."""


def run(*, quick: bool) -> CaseResult:
    """µs for one (symbol, bar): read from history, fourteen columns made, and read back."""
    result = CaseResult(
        "replay_bars", "F12 over history, bar by bar through the runtime", "µs for one (symbol, bar)", OURS
    )
    for symbols in (20,) if quick else SIZES:
        _run(result, symbols, 2 if quick else 7)
    if not installed():
        result.notes.append("NautilusTrader was left out: `make bench-peers` installs it")
    return result


def _run(result: CaseResult, symbols: int, rounds: int) -> None:
    setting = f"{symbols} symbols"
    closes, other, promised = SIZES[symbols]
    bars = Bars(np.round(random_bars(symbols, WARM + closes * (rounds + 2)).values, DIGITS))
    want = truth(Bars(bars.values[: WARM + closes]), range(symbols))
    ours = _Replay(bars)
    ours.advance(WARM)
    _compare(result, OURS, setting, ours.advance(closes), want[:, WARM:])
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        turns = {OURS: per_unit(lambda: ours.advance(closes), closes * symbols)}
        if installed():
            path = Path(folder) / "bars.npy"
            np.save(path, bars.values[: WARM + other])
            child = stack.enter_context(peer("nautilus", path, WARM, other))
            last = want[:, WARM + other - 1 : WARM + other]
            _compare(result, NAUTILUS, setting, np.array(child.hello).T[:, None], last)
            turns[NAUTILUS] = child.turn("engine")
        found = in_turn(turns, rounds)
    for name, samples in found.items():
        measure = result.add(name, setting, samples, MICRO)
        result.notes.append(f"{setting}: {MICRO / measure.median:,.0f} bars a second, {name}")
    measure = result.of(OURS, setting)
    text = f"≥ {promised:,} bars a second at {symbols} symbols, so ≤ {MICRO / promised:g} µs each"
    result.goals.append(Goal(text, measure.median, MICRO / promised, measure.best))


class _Replay:
    """`RowGraph` over bars in memory."""

    def __init__(self, bars: Bars) -> None:
        _, dag = compiled(f12_config(bars.symbols))
        self._graph = RowGraph(dag, wanted=[(FRAME, column) for column in COLUMNS])
        self._grid = dag.frames[FRAME].interval
        self._first = self._grid.row(close_of(0))
        self._graph.begin({FRAME: np.full(bars.symbols, self._first)})
        self._values = np.ascontiguousarray(bars.values.transpose(1, 0, 2))
        self._at = 0

    def advance(self, closes: int) -> Float:
        """(14, closes, symbols) of the next `closes` closes."""
        row, stop = self._first + self._at, self._at + closes
        history = History(row, self._values[:, self._at : stop])
        self._at = stop
        begin, end = self._grid.ts(row - 1), self._grid.ts(row + closes - 1)
        pieces: list[FrameChunk] = list(self._graph.run(begin, end, {FRAME: history}))
        return np.stack([np.concatenate([piece.columns[c] for piece in pieces]) for c in COLUMNS])


def _compare(result: CaseResult, name: str, setting: str, got: Float, want: Float) -> None:
    floor = 1e-3 * want.std(axis=(1, 2))[:, None, None]
    off = (np.abs(got - want) / np.maximum(np.abs(want), floor)).max(axis=(1, 2))
    fading = np.array([c.startswith("rsi") for c in COLUMNS])
    result.agree(f"{name}, windows", setting, float(off[~fading].max()), EXACT)
    result.agree(f"{name}, RSI", setting, float(off[fading].max()), SELDOM)
