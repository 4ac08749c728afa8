"""RowGraph: the graph over history bar by bar, through the very engine that streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from alpha_forge.plan.graph import EventFlowDAG
from alpha_forge.runtime.engine import Engine
from alpha_forge.runtime.frames import MIN_ROWS
from alpha_forge.runtime.replay.whole import FrameChunk
from alpha_forge.runtime.warmup import History, batched, merged

Int = npt.NDArray[np.int64]


BATCH = MIN_ROWS // 2
"""Closes that go to the engine at once: a frame's new rows must still be in its ring when they are read."""


class RowGraph:
    """The same face as `WholeGraph`, for every graph there is."""

    def __init__(self, dag: EventFlowDAG, *, wanted: Sequence[tuple[str, str]]) -> None:
        self._dag = dag
        self._wanted: dict[str, list[str]] = {}
        for frame, column in wanted:
            self._wanted.setdefault(frame, []).append(column)
        self._engine = Engine(dag)
        models = {(n.frame, c) for n in dag.nodes.values() if n.kind == "model" for c in n.outputs}
        self._models = not models.isdisjoint(wanted)
        self._read: dict[str, int] = {}
        self._ticked = {name: -1 for name in dag.frames if _triggers(dag, name)}
        """Of frames of ticks that trigger steps: the instant of the last tick."""

    def load_models(self) -> None:
        """Read the checkpoints. Raises ModelError."""
        self._engine.load_models()

    def begin(self, first: Mapping[str, Int]) -> None:
        """See `WholeGraph.begin`."""
        self._engine.begin(first)

    def run(
        self, start: int, end: int, histories: Mapping[str, History], *, last: bool = True
    ) -> Iterator[FrameChunk]:
        """See `WholeGraph.run`; rows come in several pieces. More may follow unless it is the ``last`` call."""
        for batches in batched(merged(self._dag, histories, certain=True), BATCH):
            # Models whose column nobody reads are left out where none is wanted, as in warm-up.
            self._engine.process(batches) if self._models else self._engine.warm(batches)
            for name, batch in batches:
                if name in self._ticked and len(batch.symbols):
                    self._ticked[name] = batch.ts
            # Another frame's close at the same instant may still bring columns to the newest rows.
            yield from self._new_rows(self._final(batches[-1][1].ts - 1))
        yield from self._new_rows(end if last else self._final(end))

    def _final(self, until: int) -> int:
        """The instant up to which rows have all that comes to them, where bars do up to `until`."""
        return min([until, *self._ticked.values()])

    def _new_rows(self, until: int) -> Iterator[FrameChunk]:
        """Rows up to the instant `until` since the last call: nothing comes to them any more."""
        for name, columns in self._wanted.items():
            log = self._engine.frames[name]
            if log.newest < 0:
                continue
            newest = min(log.newest, log.interval.row(until))
            first = self._read.get(name, max(0, log.newest - log.capacity + 1))
            self._read[name] = max(first, newest + 1)
            yield from self._chunk(name, columns, [r for r in range(first, newest + 1) if log.has(r)])
            if self._ticked:
                # Rows that wait for the next tick to be read must still be there, whatever comes until then.
                log.reserve(log.newest - self._read[name] + 2 * BATCH)

    def _chunk(self, name: str, columns: Sequence[str], rows: Sequence[int]) -> Iterator[FrameChunk]:
        log = self._engine.frames[name]
        if rows:
            ts = np.array([log.interval.ts(row) for row in rows], dtype=np.int64)
            present = np.stack([log.present(row) for row in rows])
            found = {c: np.stack([log.values(c, row, log.everyone) for row in rows]) for c in columns}
            yield FrameChunk(name, ts, present, found)


def _triggers(dag: EventFlowDAG, frame: str) -> bool:
    """True for a frame of ticks that steps run on: a tick brings columns to rows older than itself."""
    event = dag.frames[frame].event
    return dag.is_ticking(frame) and any(f.event == event and f.frame != frame for f in dag.flows)
