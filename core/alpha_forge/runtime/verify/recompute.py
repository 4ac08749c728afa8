"""A recorded segment computed again: in the order in which its bars came, and in the order of their closes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from alpha_forge.plan.graph import EventFlowDAG
from alpha_forge.runtime.engine import Engine
from alpha_forge.runtime.recording.reader import Call, Cut, Segment
from alpha_forge.runtime.replay.rows import RowGraph
from alpha_forge.runtime.replay.whole import WholeGraph, obstacle
from alpha_forge.runtime.results import PredictedRow
from alpha_forge.runtime.verify.values import Cells, Collector, Column
from alpha_forge.runtime.warmup import History

Int = npt.NDArray[np.int64]


def as_it_came(
    dag: EventFlowDAG, segment: Segment, everything: Collector | None = None
) -> list[PredictedRow]:
    """What the engine predicts, given the same bars in the same order and grouping. ``everything`` collects all values
    of all columns on the way."""
    engine = Engine(dag)
    engine.load_models()
    if everything is not None:
        engine.observe(everything.add)
    engine.begin(segment.known)
    found: list[PredictedRow] = []
    for event in segment.events:
        if isinstance(event, Cut):
            engine.emit_after(event.cutoff, event.finer)
        elif event.rows is None:
            engine.warm(event.items)
        else:
            found += engine.process(event.items)
    return found


class InOrder:
    """The bars of a segment as a history, computed in the order of their closes, all symbols of a close together."""

    def __init__(self, dag: EventFlowDAG, segment: Segment) -> None:
        self._dag = dag
        self.histories: dict[str, History] = {}
        self.closed: dict[str, int] = {}
        """By data frame: close (ns) up to which every symbol's bar is in or certified absent."""
        items = [item for event in segment.events if isinstance(event, Call) for item in event.items]
        for node in dag.data_nodes():
            self._take(node.frame, segment, items)

    def _take(self, frame: str, segment: Segment, items: Sequence[tuple[str, object]]) -> None:
        grid, size = self._dag.frames[frame].interval, len(self._dag.frames[frame].symbols)
        batches = [batch for name, batch in items if name == frame]
        first = int(segment.known[frame].min())
        last = max((grid.row(batch.ts) for batch in batches), default=first - 1)  # type: ignore[attr-defined]
        values = np.full((5, last - first + 1, size), np.nan)
        closed = segment.known[frame] - 1
        for batch in batches:
            row = grid.row(batch.ts)  # type: ignore[attr-defined]
            values[:, row - first, batch.symbols] = batch.values  # type: ignore[attr-defined]
            closed[batch.symbols] = closed[batch.absent] = row  # type: ignore[attr-defined]
        self.histories[frame] = History(first, values)
        self.closed[frame] = grid.ts(int(closed.min()))

    @property
    def complete_until(self) -> int:
        """Close (ns) up to which every symbol's bar is in or certified absent: later ones may lack companions."""
        return min(self.closed.values())

    def slack(self) -> int:
        """Rows by which a later start still knows all that the first prediction needs."""
        return min(spec.fetch - spec.need for spec in self._dag.warmup.values())

    def cells(self, columns: Sequence[Column], *, skip: int = 0) -> dict[Column, Cells]:
        """All values of `columns`, from a start that is `skip` rows later than the recorded one."""
        graph: WholeGraph | RowGraph
        graph = (WholeGraph if obstacle(self._dag) is None else RowGraph)(self._dag, wanted=columns)
        graph.load_models()
        histories = {
            name: History(h.first + skip, h.values[:, skip:].copy()) for name, h in self.histories.items()
        }
        graph.begin({n: np.full(h.values.shape[2], h.first) for n, h in histories.items()})
        grids = {name: self._dag.frames[name].interval for name in histories}
        start = min(grids[n].ts(h.first - 1) for n, h in histories.items())
        end = max(grids[n].ts(h.first + h.rows - 1) for n, h in histories.items())
        found = Collector()
        for chunk in graph.run(start, end, histories):
            rows, places = np.nonzero(chunk.present)
            for column, values in chunk.columns.items():
                found.add(chunk.frame, column, chunk.ts[rows], places, values[rows, places])
        return found.cells()
