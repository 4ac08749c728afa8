"""``alpha_forge train``: history through the same graph, samples split in time, the model's own ``fit``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.clock import Clock
from alpha_forge.contracts.errors import ModelError, SourceError
from alpha_forge.contracts.interval import iso
from alpha_forge.contracts.plugin import DataSource, ModelSpec
from alpha_forge.dsl.document import Document, Training
from alpha_forge.plan.graph import EventFlowDAG, Node
from alpha_forge.runtime.dataset import forward_return, time_split, windows
from alpha_forge.runtime.engine import Engine
from alpha_forge.runtime.progress import Progress, Silent
from alpha_forge.runtime.sources import opened
from alpha_forge.runtime.warmup import History, fetch_history, run_history

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of all symbols, ordered by ts: windows (n, window, features) float32, targets and closes (n,)."""

    windows: npt.NDArray[np.float32]
    targets: Float
    ts: Int
    target_ts: Int


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a training came to: the model's own result, and what went into it."""

    result: Any
    columns: tuple[str, ...]
    symbols: tuple[str, ...]
    training_range: tuple[str, str]
    validation_range: tuple[str, str]
    bars: int
    seconds: Mapping[str, float]


@dataclass(slots=True)
class _Recorder:
    """Collects a frame's columns row by row while the history runs through the engine."""

    engine: Engine
    frame: str
    columns: tuple[str, ...]
    rows: list[int]
    values: list[Float]
    """(columns, symbols) for each row, NaN where a symbol has no bar."""

    def collect(self) -> None:
        log = self.engine.frames[self.frame]
        first = self.rows[-1] + 1 if self.rows else max(0, log.newest - log.capacity + 1)
        for row in range(first, log.newest + 1):
            if log.has(row):
                self.rows.append(row)
                self.values.append(np.stack([log.values(c, row, log.everyone) for c in self.columns]))


class Trainer:
    """Trains the configuration's model step. ``clock`` and ``sources`` as in `RealTimeRunner`."""

    def __init__(
        self,
        document: Document,
        dag: EventFlowDAG,
        *,
        cache_dir: Path = Path(".alpha_forge/cache"),
        progress: Progress | None = None,
        clock: Clock | None = None,
        sources: Mapping[str, DataSource] | None = None,
    ) -> None:
        self._document = document
        self._dag = dag
        self._cache_dir = cache_dir
        self._progress = progress or Silent()
        self._clock = clock
        self._sources = sources
        self.node = self._model_node()
        self._spec: ModelSpec = dag.models[self.node.id]
        self._model = dag.make(self.node)
        if not hasattr(self._model, "fit"):
            raise ModelError(
                "AF7020",
                f"'{self.node.using}' has no fit(): it can't be trained here",
                "train it where it comes from",
            )

    def _model_node(self) -> Node:
        models = [n for n in self._dag.nodes.values() if n.kind == "model"]
        if len(models) != 1:
            raise ModelError(
                "AF7021",
                f"training needs exactly one model step, the pipeline has {len(models)}",
                "give each model a configuration of its own, with one model step",
            )
        return models[0]

    async def run(self) -> TrainingReport:
        """Fetch, compute, split, fit. Raises ModelError and SourceError; writes the checkpoint that the step names."""
        import asyncio

        started = time.perf_counter()
        histories = await self._fetch()
        fetched = time.perf_counter()
        samples = await asyncio.to_thread(self._samples, histories)
        computed = time.perf_counter()
        report = await asyncio.to_thread(self._fit, samples)
        done = time.perf_counter()
        bars = sum(int(h.present.sum()) for h in histories.values())
        seconds = {"history": fetched - started, "features": computed - fetched, "training": done - computed}
        result, training_range, validation_range = report
        symbols = self._dag.frames[self.node.frame].symbols
        return TrainingReport(
            result, self._spec.columns, symbols, training_range, validation_range, bars, seconds
        )

    async def _fetch(self) -> dict[str, History]:
        async with opened(self._dag, self._cache_dir, clock=self._clock, sources=self._sources) as (
            sources,
            clock,
        ):
            return {
                frame: await self._history(frame, source, clock.now()) for frame, source in sources.items()
            }

    async def _history(self, frame: str, source: DataSource, now: int) -> History:
        spec = self._dag.frames[frame]
        last = spec.interval.row(now)
        days = self._document.training.history_days
        need = self._dag.warmup[frame].need
        wanted = need * 10 if days is None else int(days * DAY_NS / spec.interval.ns)
        bars = max(wanted, int(30 * DAY_NS / spec.interval.ns) if days is None else need)
        history = await fetch_history(source, spec, last, bars, self._progress)
        if not history.present.any():
            raise SourceError(
                "AF5033",
                f"no bar of '{frame}' in the {bars} closes up to {iso(spec.interval.ts(last))}",
                "choose another training.history_days, or another source",
            )
        return history

    def _samples(self, histories: Mapping[str, History]) -> Samples:
        """Windows and targets of every bar of every symbol at which all columns are known."""
        if self._document.training.target != "forward_return":
            raise ModelError(
                "AF7022",
                f"unknown training.target '{self._document.training.target}'",
                "known: forward_return",
            )
        engine = Engine(self._dag)
        recorder = _Recorder(engine, self.node.frame, (*self._spec.columns, "close"), [], [])
        run_history(self._dag, engine, histories, self._progress, "features", recorder.collect)
        return self._cut(recorder)

    def _cut(self, recorder: _Recorder) -> Samples:
        interval = self._dag.frames[self.node.frame].interval
        if not recorder.rows:
            raise ModelError(
                "AF7023",
                "the history is too short for one complete sample",
                "set a longer training.history_days, or a shorter horizon or window",
            )
        columns = np.stack(recorder.values, axis=1)
        ts = np.array([interval.ts(row) for row in recorder.rows], dtype=np.int64)
        horizon, window = self._document.training.horizon, self._spec.window
        parts: list[tuple[Any, ...]] = []
        for symbol in range(columns.shape[2]):
            own = ~np.isnan(columns[-1, :, symbol])
            mine, when = columns[:, own, symbol], ts[own]
            target = forward_return(mine[-1][:, None], horizon)[:, 0]
            known = np.asarray(np.isfinite(mine[:-1]).all(axis=0))
            # A window is complete if its last `window` rows are.
            whole = np.convolve(known, np.ones(window), "full")[: len(known)] >= window - 0.5
            rows = np.flatnonzero(whole & np.isfinite(target))
            parts.append((windows(mine[:-1], window, rows), target[rows], when[rows], when[rows + horizon]))
        merged_parts = [np.concatenate(column) for column in zip(*parts, strict=True)]
        if not len(merged_parts[1]):
            raise ModelError(
                "AF7023",
                f"no bar has {window} rows of all {len(self._spec.columns)} columns and a target {horizon} bar(s) on",
                "set a longer training.history_days, or a shorter horizon or window",
            )
        order = np.argsort(merged_parts[2], kind="stable")
        return Samples(*(part[order] for part in merged_parts))

    def _fit(self, samples: Samples) -> tuple[Any, tuple[str, str], tuple[str, str]]:
        training = self._document.training
        interval = self._dag.frames[self.node.frame].interval
        try:
            early, late = time_split(
                samples.ts, training.validation_fraction, training.horizon * interval.ns, samples.target_ts
            )
        except ValueError as error:
            raise ModelError(
                "AF7023",
                f"the samples can't be split: {error}",
                "set a longer training.history_days, or a shorter horizon or window",
            ) from error
        training_range = (iso(int(samples.ts[early].min())), iso(int(samples.ts[early].max())))
        validation_range = (iso(int(samples.ts[late].min())), iso(int(samples.ts[late].max())))
        epochs = training.epochs
        self._progress.start("training", epochs)

        def progress(epoch: int, epochs: int, train_loss: float, validation_loss: float) -> None:
            self._progress.advance("training", 1)

        result = self._model.fit(
            samples.windows[early],
            samples.targets[early],
            (samples.windows[late], samples.targets[late]),
            progress,
            columns=self._spec.columns,
            symbols=self._dag.frames[self.node.frame].symbols,
            training_range=training_range,
            target=training.target,
            horizon=training.horizon,
            options=_options(training),
        )
        self._progress.finish("training")
        return result, training_range, validation_range


def _options(training: Training) -> dict[str, Any]:
    """What the configuration says for `fit`: its own keys, and whatever stands under ``options``."""
    return {
        "epochs": training.epochs,
        "patience": training.patience,
        "seed": training.seed,
        **training.options,
    }
