"""A tick: the last bar of the universe arrives → every prediction is in the delivery log, through the real runner."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from alpha_forge.contracts.types import Prediction
from alpha_forge.runtime.delivery.outbox import Outbox
from alpha_forge.runtime.runner import RealTimeRunner
from benchmarks.checkpoints import write_random
from benchmarks.graphs import COLUMNS, F12, FRAME, compiled, config
from benchmarks.market import close_of, names, random_bars
from benchmarks.results import CaseResult, Goal
from benchmarks.scripted import BurstSource
from benchmarks.timing import median, quiet

WARM = 640
"""More bars than F12 and the model's window need."""

INPUTS = tuple(c for c in COLUMNS if c not in ("r60", "s60"))
"""Twelve columns."""

MODEL_OUT = "ohlcv.model.prediction"
WINDOW = 30
WARM_TICKS = 5
OURS = "tick"
FORWARD = "the limit: the model's forward passes alone"
PLAIN = "tick without a model"
MILLI = 1e3


def run(*, quick: bool) -> CaseResult:
    """Milliseconds at 20, 100 and 500 symbols; the model is a BiLSTM of 12 columns, 30 bars, 2 × 64."""
    result = CaseResult(
        "tick",
        "all bars of a close come at once; from the last one to all predictions in the log, committed and synced",
        "ms",
        OURS,
    )
    ticks = 12 if quick else 150
    for symbols in (20,) if quick else (20, 100, 500):
        setting = f"{symbols} symbols"
        ours, forward = _ticks(result, symbols, ticks, model=True)
        result.add(OURS, setting, ours, MILLI)
        result.add(FORWARD, setting, forward, MILLI)
        _promise(result, symbols, ours, forward)
    for symbols in () if quick else (500,):
        plain, _ = _ticks(result, symbols, ticks, model=False)
        measure = result.add(PLAIN, f"{symbols} symbols", plain, MILLI)
        result.goals.append(
            Goal("without a model ≤ 10 ms at 500 symbols", measure.median, 10.0, measure.best)
        )
    tails = [
        f"{m.setting} {m.p99:.1f} (the passes alone {result.of(FORWARD, m.setting).p99:.1f})"
        for m in result.measures
        if m.name == OURS
    ]
    result.notes.append(f"99th percentile of the tick, ms: {', '.join(tails)} (of {ticks} ticks each)")
    return result


def _promise(result: CaseResult, symbols: int, ours: Sequence[float], forward: Sequence[float]) -> None:
    tick, floor = median(ours), median(forward)
    if symbols >= 100:
        text = f"≤ 1.5 × the forward passes at {symbols} symbols"
        result.goals.append(Goal(text, tick / floor, 1.5))
    else:
        text = f"≤ the forward passes + 2 ms at {symbols} symbols; ms above them"
        result.goals.append(Goal(text, (tick - floor) * MILLI, 2.0))


def _model_step(folder: Path) -> str:
    return (
        "- model: {using: models.pytorch_bilstm_predictor, inputs: {frame: ohlcv, model_ref: bench}, "
        f"outputs: {{columns: [model.prediction]}}, params: {{window_size: {WINDOW}, checkpoint_dir: {folder}}}}}"
    )


def _ticks(result: CaseResult, symbols: int, ticks: int, *, model: bool) -> tuple[list[float], list[float]]:
    """Seconds of each tick, and of the forward passes that were run right after each."""
    bars = random_bars(symbols, WARM + WARM_TICKS + ticks)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_random(folder, "bench", INPUTS)
        steps = F12 + ("\n" + _model_step(folder) if model else "")
        column = MODEL_OUT if model else "ohlcv.rsi24"
        document, dag = compiled(config(names(symbols), steps, column, folder / "out.csv"))
        forward = _forward(dag, symbols) if model else (lambda: None)
        started: list[float] = []
        with _stamped_log(symbols) as stamped:
            bare: list[float] = []

            async def between(number: int) -> None:
                if number < 0:
                    stamped.attach()
                    return
                await stamped.complete()
                while stamped.waiting():  # noqa: ASYNC110 - the sink runs on a thread of its own
                    await asyncio.sleep(0.001)
                # The sink has them all and sleeps: nothing but the model runs now.
                start = time.perf_counter()
                forward()
                bare.append(time.perf_counter() - start)

            source = BurstSource(bars, WARM, between, started)
            runner = RealTimeRunner(document, dag, sources={FRAME: source}, state_dir=folder / "state")
            with quiet():
                summary = asyncio.run(runner.run())
        assert summary.emitted == symbols * (ticks + WARM_TICKS), "not every bar gave its prediction"
        if model:
            _check(result, dag, runner, bars.count - 1, stamped.newest)
        seconds = [end - start for start, end in zip(started, stamped.appended, strict=True)]
    return seconds[WARM_TICKS:], bare[WARM_TICKS:]


def _forward(dag: Any, symbols: int) -> Callable[[], None]:
    """The micro-batches of one tick, on windows that lie ready."""
    node = next(n for n in dag.nodes.values() if n.kind == "model")
    model = dag.make(node)
    model.load()
    shape = (model.batch, WINDOW, len(INPUTS))
    count = -(-symbols // model.batch)
    chunks = np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)

    def forward() -> None:
        for chunk in chunks:
            model.predict(chunk)

    return forward


def _check(result: CaseResult, dag: Any, runner: RealTimeRunner, bar: int, newest: dict[str, float]) -> None:
    """The last tick's predictions are those of the model on the frame's own columns, to the bit."""
    frame = runner.engine.frames[FRAME]
    row = frame.interval.row(close_of(bar))
    node = next(n for n in dag.nodes.values() if n.kind == "model")
    model = dag.make(node)
    model.load()
    windows = np.empty((frame.size, WINDOW, len(INPUTS)), np.float32)
    for k in range(WINDOW):
        for i, column in enumerate(node.inputs):
            windows[:, k, i] = frame.values(column, row - WINDOW + 1 + k, frame.everyone)
    worst = 0.0
    for start in range(0, frame.size, model.batch):
        part = windows[start : start + model.batch]
        chunk = np.zeros((model.batch, *windows.shape[1:]), np.float32)
        chunk[: len(part)] = part
        for symbol, want in zip(frame.symbols[start:], model.predict(chunk)[: len(part)], strict=False):
            worst = max(worst, abs(newest[symbol] - float(want)))
    result.agree("predictions", f"{frame.size} symbols", worst, 0.0)


class _Stamps:
    """When each close's predictions were in the log."""

    def __init__(self, symbols: int) -> None:
        self.appended: list[float] = []
        self.newest: dict[str, float] = {}
        self.log: Outbox | None = None
        self.sinks: list[str] = []
        self._symbols = symbols
        self._missing = symbols
        self._loop: asyncio.AbstractEventLoop | None = None
        self._complete = asyncio.Event()

    def attach(self) -> None:
        """Note the event loop on which `complete` will be awaited."""
        self._loop = asyncio.get_running_loop()

    async def complete(self) -> None:
        """Return once a close is complete, asleep until then: polling would take the interpreter from the tick."""
        await self._complete.wait()
        self._complete.clear()

    def note(self, predictions: Sequence[Prediction]) -> None:
        now = time.perf_counter()
        self._missing -= len(predictions)
        self.newest.update((p.symbol, p.value) for p in predictions)
        if self._missing == 0:
            self.appended.append(now)
            self._missing = self._symbols
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._complete.set)

    def waiting(self) -> bool:
        """True while a sink has not taken everything."""
        return self.log is not None and any(self.log.backlog(sink) for sink in self.sinks)


@contextmanager
def _stamped_log(symbols: int) -> Iterator[_Stamps]:
    """The delivery log, with a note of the instant at which each append has returned."""
    stamps = _Stamps(symbols)
    append, register = Outbox.append, Outbox.register

    def noted_append(self: Outbox, predictions: Sequence[Prediction]) -> int:
        new = append(self, predictions)
        stamps.note(predictions)
        return new

    def noted_register(self: Outbox, sink: str, frame: str, column: str) -> None:
        stamps.log = self
        stamps.sinks.append(sink)
        register(self, sink, frame, column)

    with (
        mock.patch.object(Outbox, "append", noted_append),
        mock.patch.object(Outbox, "register", noted_register),
    ):
        yield stamps
