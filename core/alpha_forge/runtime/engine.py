"""Engine: batches of bars in, predictions out. The same object serves warm-up, stream, training and replay."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.types import BarBatch
from alpha_forge.plan.graph import EventFlowDAG
from alpha_forge.runtime import compiled
from alpha_forge.runtime.frames import FrameLog
from alpha_forge.runtime.populator import FramePopulator
from alpha_forge.runtime.results import Observer, PredictedRow

Int = npt.NDArray[np.int64]


class Journal(Protocol):
    """Hears everything that an engine is given and answers, in order: enough to do it all again."""

    def begin(self, known: Mapping[str, Int]) -> None: ...

    def cut(self, cutoff: Mapping[str, int], cutoffs: Mapping[tuple[str, str], Int]) -> None: ...

    def warmed(self, items: Sequence[tuple[str, BarBatch]]) -> None: ...

    def processed(self, items: Sequence[tuple[str, BarBatch]], rows: Sequence[PredictedRow]) -> None: ...


class Engine:
    """The graph at work. `lock` guards the frames; predictions leave it as values, to be emitted outside."""

    def __init__(self, dag: EventFlowDAG, journal: Journal | None = None) -> None:
        self.dag = dag
        self._journal = journal
        self.lock = threading.Lock()
        self._populator = FramePopulator(dag)
        self._emit_after: dict[str, int] = {}
        self._cutoffs: Mapping[tuple[str, str], Int] = {}

    @property
    def frames(self) -> Mapping[str, FrameLog]:
        return self._populator.logs

    def load_models(self) -> None:
        """Read every checkpoint; on the thread that will predict. Raises ModelError."""
        self._populator.executor.load_models()

    def prepare(self) -> None:
        """`load_models`, and compile what warm-up may leave uncompiled: a stream's first straggler finds it ready."""
        self.load_models()
        compiled.prepare()

    def begin(self, known: Mapping[str, Int]) -> None:
        """See `FramePopulator.begin`."""
        self._populator.begin(known)
        if self._journal is not None:
            self._journal.begin(known)

    def emit_after(
        self, cutoff: Mapping[str, int], cutoffs: Mapping[tuple[str, str], Int] | None = None
    ) -> None:
        """Only closes after `cutoff` (by data frame, ns) give predictions; a transform's frame follows its source.

        `cutoffs` says it more finely for some: (frame, column) → (symbols,) ns.
        """
        self._cutoffs = cutoffs or {}
        if self._journal is not None:
            self._journal.cut(cutoff, self._cutoffs)
        for node in self.dag.nodes.values():
            if node.kind == "data":
                self._emit_after[node.frame] = cutoff[node.frame]
            elif node.kind == "transform":
                self._emit_after[node.frame] = self._emit_after[node.source_frames[0]]

    def warm(self, batches: Sequence[tuple[str, BarBatch]]) -> None:
        """Process bars of the past: everything but the predictions nobody would read."""
        with self.lock:
            self._populator.executor.warming = True
            try:
                for frame, batch in batches:
                    self._populator.push(frame, batch)
            finally:
                self._populator.executor.warming = False
            self._populator.executor.take_predictions()
        if self._journal is not None:
            self._journal.warmed(batches)

    def process(self, batches: Sequence[tuple[str, BarBatch]]) -> list[PredictedRow]:
        """Process bars, oldest first within each symbol; returns the values of delivered columns, in order."""
        with self.lock:
            for frame, batch in batches:
                self._populator.push(frame, batch)
            found = self._populator.executor.take_predictions()
        rows = self.due(found)
        if self._journal is not None:
            self._journal.processed(batches, rows)
        return rows

    def due(self, rows: Sequence[PredictedRow]) -> list[PredictedRow]:
        """What of the rows is a prediction: closes that `emit_after` leaves."""
        return [kept for row in rows if (kept := self._due(row)) is not None]

    def observe(self, observer: Observer) -> None:
        """Have `observer` called with every value that a step or transform makes, as it is stored."""
        self._populator.observe(observer)

    def _due(self, row: PredictedRow) -> PredictedRow | None:
        """The row without the symbols whose close counts as processed; None if nothing is left of it."""
        cutoffs = self._cutoffs.get((row.frame, row.column))
        if cutoffs is None:
            return row if row.ts > self._emit_after.get(row.frame, -1) else None
        due = cutoffs[row.symbols] < row.ts
        if due.all():
            return row
        return replace(row, symbols=row.symbols[due], values=row.values[due]) if due.any() else None
