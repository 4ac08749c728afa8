"""CatchUp: which bars of the past are still to be predicted, by what the delivery log has had before."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.interval import iso
from alpha_forge.plan.graph import EventFlowDAG
from alpha_forge.runtime.delivery.log import DeliveryLog

log = logging.getLogger("alpha_forge.warmup")

Int = npt.NDArray[np.int64]

MOST_CELLS = 5_000_000
"""Bars of all symbols that are fetched on top of the warm-up for what was missed: 200 MB."""

MOST_LATE = 500
"""Rows by which a symbol may stand behind the newest of its column and still be taken up where it stopped: bars that
were late or being repaired when the process ended. One without a bar for longer must not make each start fetch more."""

NOTHING = -1


class CatchUp:
    """Made before history is fetched; thread-safe by never changing.

    The log has, of each delivered column, the newest ts of each symbol. Bars up to it are processed; later ones
    predict, bit by bit what they would have given had the process not stopped. A column or symbol that the log does not
    know starts here: all of its past counts as processed.
    """

    def __init__(self, dag: EventFlowDAG, delivery: DeliveryLog, mode: str = "all") -> None:
        """`mode` is ``all``, or ``none``: bars that closed while the process was down are left out."""
        self._dag = dag
        self._delivery = delivery
        self._all = mode == "all"
        self._done = {stream: self._newest(*stream) for stream in sorted(dag.sink_columns())}
        """(symbols,) ns of each delivered column, `NOTHING` where the log knows nothing."""
        self._origin = data_frames(dag)
        self.since = self._first_to_process()
        """Rows after this instant (ns) are to be processed as bars that predict; None: none of the past."""

    def _newest(self, frame: str, column: str) -> Int:
        known = self._delivery.newest(frame, column)
        return np.array([known.get(s, NOTHING) for s in self._dag.frames[frame].symbols], dtype=np.int64)

    def _first_to_process(self) -> int | None:
        if not self._all:
            return None
        found = []
        for (frame, _), done in self._done.items():
            known = done[done != NOTHING]
            if len(known):
                late = int(known.max()) - MOST_LATE * self._dag.frames[frame].interval.ns
                found.append(max(int(known.min()), late))
        return min(found) if found else None

    def more_rows(self, frame: str, anchor_row: int) -> int:
        """Rows of a data frame to fetch on top of its warm-up. Warns of closes that are too many to be caught up."""
        if self.since is None:
            return 0
        spec = self._dag.frames[frame]
        missed = max(0, anchor_row - spec.interval.row(self.since))
        most = MOST_CELLS // len(spec.symbols)
        if missed > most:
            log.warning(
                "%s: %d closes were missed since %s; the newest %d of them are predicted, %d are not "
                "(%d for all symbols)",
                frame,
                missed,
                iso(self.since),
                most,
                missed - most,
                (missed - most) * len(spec.symbols),
            )
        return min(missed, most)

    def cutoffs(self, anchors: Mapping[str, int]) -> dict[tuple[str, str], Int]:
        """(frame, column) → (symbols,) ns: only later closes predict. `anchors`: the ends of the past by data frame."""
        result = {}
        for (frame, column), done in self._done.items():
            anchor = anchors[self._origin[frame]]
            if len(done) and done.max() > anchor + self._dag.frames[frame].interval.ns:
                log.warning(
                    "%s.%s: the log has predictions up to %s, later than the newest bar, %s: nothing new comes until "
                    "then; is the clock wrong, or the state directory that of another market?",
                    frame,
                    column,
                    iso(int(done.max())),
                    iso(anchor),
                )
            known = done != NOTHING
            result[frame, column] = np.where(known, done if self._all else np.maximum(done, anchor), anchor)
        return result

    def mark(self, anchors: Mapping[str, int]) -> None:
        """Tell the log what counts as processed from here on without a prediction, so that a crash before the first
        one does not make the next start a first start."""
        for (frame, column), done in self._done.items():
            symbols = self._dag.frames[frame].symbols
            until = {
                symbol: anchors[self._origin[frame]]
                for symbol, ts in zip(symbols, done, strict=True)
                if ts == NOTHING or not self._all
            }
            self._delivery.mark(frame, column, until)


def data_frames(dag: EventFlowDAG) -> dict[str, str]:
    """Frame → the data frame whose closes it follows: a transform's is that of its first source."""
    origin: dict[str, str] = {}
    for node in dag.nodes.values():
        if node.kind == "data":
            origin[node.frame] = node.frame
        elif node.kind == "transform":
            origin[node.frame] = origin[node.source_frames[0]]
    return origin
