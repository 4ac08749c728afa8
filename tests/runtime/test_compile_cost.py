"""What is compiled, is compiled before the stream: no tick pays for it, whatever comes late, apart or not at all."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from numba.core import event

from alpha_forge.contracts.types import BarBatch
from alpha_forge.runtime import compiled as loops
from alpha_forge.runtime.engine import Engine
from tests.pipelines import COLUMNS, FEATURES, compiled, config

FIRST = 400_000
WARM = 420
EXTRA = """
- features: {using: features.ema, inputs: {column: F.rsi_14}, outputs: {columns: [ema_of_rsi]}, params: {window: 5}}
- features: {using: features.support_resistance, inputs: {frame: F}, outputs: {columns: [r, s]}, params: {window: 20}}
- features: {using: features.volatility, inputs: {column: F.close}, outputs: {columns: [vol]}, params: {window: 20}}
"""


class Compilations(event.Listener):
    """Names of the functions that numba compiled while it listened."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_start(self, event) -> None:
        self.names.append(str(event.data["dispatcher"].py_func.__name__))

    def on_end(self, event) -> None:
        pass


def bars(rows: int, symbols: int) -> np.ndarray:
    """(rows, 5, symbols)."""
    draw = np.random.default_rng(5)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.01, (rows, symbols)), axis=0))
    return np.stack((close, close * 1.01, close * 0.99, close, draw.uniform(1, 9, close.shape)), axis=1)


@pytest.mark.parametrize(
    ("steps", "columns"), [(FEATURES, COLUMNS), (FEATURES + EXTRA, [*COLUMNS, "ema_of_rsi"])]
)
def test_stragglers_and_holes_compile_nothing_in_the_stream(tmp_path, monkeypatch, steps, columns):
    # As in a process that finds none of them compiled, in memory or in a cache.
    compile_it = loops.Lazy._compile
    monkeypatch.setattr(loops.Lazy, "_compile", lambda self, *, cache: compile_it(self, cache=False))
    for name in ("gather_own", "step_generations", "pick_generations"):
        monkeypatch.setattr(loops, name, loops.Lazy(getattr(loops, name)._function))
    symbols = [f"S{k}USDT" for k in range(4)]
    _, dag = compiled(config(symbols, tmp_path, columns, steps=steps))
    engine, grid, values = Engine(dag), dag.frames["ohlcv"].interval, bars(WARM + 40, 4)
    nobody = np.empty(0, dtype=np.int64)

    def batch(row: int, who: list[int], absent: list[int] | None = None) -> tuple[str, BarBatch]:
        members = np.array(who, dtype=np.int64)
        gone = nobody if absent is None else np.array(absent, dtype=np.int64)
        return "ohlcv", BarBatch(grid.ts(FIRST + row), members, values[row][:, members], gone)

    engine.prepare()
    engine.begin({"ohlcv": np.full(4, FIRST)})
    engine.emit_after({"ohlcv": grid.ts(FIRST + WARM - 1)})
    engine.warm([batch(row, [0, 1, 2, 3]) for row in range(WARM)])
    heard = Compilations()
    with event.install_listener("numba:compile", heard):
        for row in range(WARM, WARM + 10):
            assert engine.process([batch(row, [0, 1, 2, 3])])
        for row in range(WARM + 10, WARM + 20):  # one is late
            assert engine.process([batch(row, [0, 2, 3])])
        for row in range(WARM + 10, WARM + 20):
            assert engine.process([batch(row, [1])])
        for row in range(WARM + 20, WARM + 30):  # and one has a hole
            found = engine.process([batch(row, [0, 1, 3], [2])])
            assert found
        for row in range(WARM + 30, WARM + 40):
            found = engine.process([batch(row, [0, 1, 2, 3])])
            assert all(np.isfinite(r.values).all() for r in found)
    assert heard.names == []


def test_the_listener_hears_compilations():
    import numba

    heard = Compilations()
    with event.install_listener("numba:compile", heard):
        numba.njit(lambda x: x + 1)(1)
    assert heard.names == ["<lambda>"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.ENOENT])
def test_a_cache_that_cannot_be_written_costs_only_time(monkeypatch, code):
    """Numba finds out when it has compiled and stores: after that is no time to end a run."""

    def sum_up(values):
        total = 0.0
        for x in values:
            total += x
        return total

    def full(*_args, **_kwargs):
        raise OSError(code, "cannot write")

    monkeypatch.setattr("numba.core.caching.Cache.save_overload", full)
    loop = loops.Lazy(sum_up)
    assert loop(np.arange(4.0)) == 6.0
    assert loop(np.arange(5.0)) == 10.0
