"""FramePopulator: bars into frames, and, as each frame's rows are complete, flows run and further frames made.

Everything here depends on event time only. A row of a frame is `closed` for a symbol when its bar is in or certified
absent. A flow with a panel step waits until the row is closed for all symbols; a join waits until its second frame is
closed up to the first one's close; so no result depends on who arrived first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.types import BarBatch
from alpha_forge.plan.graph import EventFlowDAG, FlowDefinition, FrameSpec, Node
from alpha_forge.runtime.executor import FlowExecutor
from alpha_forge.runtime.frames import FrameLog
from alpha_forge.runtime.known import known_rows
from alpha_forge.runtime.results import Observer
from alpha_forge.runtime.steps import at, blame
from alpha_forge.runtime.tracker import ProcessedEventTracker

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


@dataclass(slots=True)
class FrameState:
    """A frame while it runs. Arrays are (symbols,) row numbers; -1 before the first."""

    spec: FrameSpec
    log: FrameLog
    flow: FlowDefinition
    closed: Int
    """Newest row whose bar is in or certified absent."""
    done: Int
    """Newest row whose flow has run (or that had no bar to run on)."""
    known: Int
    """First row from which on everything is known; what needs older ones is not made."""
    together: bool = False
    """True if the newest `done` is that of all symbols."""
    pending: list[int] = field(default_factory=list)
    """Of a flow with a panel step: closed rows that wait for the other symbols, ascending."""


@dataclass(slots=True)
class Waiting:
    """Rows of one frame that wait, symbol by symbol, until another frame is done up to the same instant."""

    spec: FrameSpec
    """The frame whose rows wait."""
    needs: str
    """The frame they wait for."""
    act: Callable[[int, Int, Int], None]
    """Called with row, present and absent symbols once they need not wait any longer."""
    places: Int
    """Position of each symbol in the frame that is waited for, -1 where it lacks the symbol."""
    together: bool = False
    """True if the other frame must be done for all of its symbols: what is made reads across them."""
    rows: list[tuple[int, Int, Int]] = field(default_factory=list)


class FramePopulator:
    """Puts bars into frames and drives everything that follows. Called from one thread."""

    def __init__(self, dag: EventFlowDAG) -> None:
        self._dag = dag
        self.logs = {
            spec.name: FrameLog(spec.interval, spec.symbols, spec.columns, spec.warmup_bars)
            for spec in dag.frames.values()
        }
        self.executor = FlowExecutor(dag, self.logs)
        self._observer: Observer | None = None
        self.tracker = ProcessedEventTracker(dag.frames.values())
        self._frames = {name: self._state(spec) for name, spec in dag.frames.items()}
        self._transforms = {n.id: dag.make(n) for n in dag.nodes.values() if n.kind == "transform"}
        self._makes = {
            name: [n for n in dag.transforms_from(name) if len(n.source_frames) == 1] for name in dag.frames
        }
        self._waiting: dict[str, list[Waiting]] = {name: [] for name in dag.frames}
        self._joins = self._make_joins()
        self._foreign = self._make_foreign()
        self._expect()

    def _expect(self) -> None:
        """Tell each frame what its own flow writes right after a row came in, for those of that row."""
        for state in self._frames.values():
            if not state.flow.panel:  # its rows wait, and others may read them meanwhile
                nodes = [self._dag.nodes[i] for i in state.flow.nodes]
                made = {c for n in nodes if n.kind == "features" for c in n.outputs}
                state.log.expect(made | set(state.spec.base_columns))

    def _state(self, spec: FrameSpec) -> FrameState:
        size = len(spec.symbols)
        flow = next(f for f in self._dag.flows if f.event == spec.event and f.frame == spec.name)
        closed, done = np.full(size, -1, dtype=np.int64), np.full(size, -1, dtype=np.int64)
        return FrameState(spec, self.logs[spec.name], flow, closed, done, np.zeros(size, dtype=np.int64))

    def _wait_for(
        self, frame: str, needs: str, act: Callable[[int, Int, Int], None], *, together: bool = False
    ) -> Waiting:
        place = {name: i for i, name in enumerate(self._dag.frames[needs].symbols)}
        places = np.array([place.get(s, -1) for s in self._dag.frames[frame].symbols], dtype=np.int64)
        waiting = Waiting(self._dag.frames[frame], needs, act, places, together)
        self._waiting[needs].append(waiting)
        return waiting

    def _make_joins(self) -> dict[str, list[Waiting]]:
        """Joins by the frame that leads."""
        joins: dict[str, list[Waiting]] = {}
        for node in self._dag.nodes.values():
            if len(node.source_frames) == 2:
                left, right = node.source_frames
                act = self._joiner(node)
                joins.setdefault(left, []).append(self._wait_for(left, right, act))
        return joins

    def _joiner(self, node: Node) -> Callable[[int, Int, Int], None]:
        return lambda row, present, absent: self._join(node, row, present, absent)

    def _make_foreign(self) -> dict[str, list[Waiting]]:
        """Flows on one frame that another frame's bar close triggers, by the frame whose close it is."""
        foreign: dict[str, list[Waiting]] = {}
        by_event = {spec.event: spec.name for spec in self._dag.frames.values()}
        for flow in self._dag.flows:
            trigger = by_event.get(flow.event)
            if trigger is not None and trigger != flow.frame:
                act = self._foreign_runner(flow, trigger)
                wait = self._wait_for(trigger, flow.frame, act, together=flow.panel)
                foreign.setdefault(trigger, []).append(wait)
        return foreign

    def _foreign_runner(self, flow: FlowDefinition, trigger: str) -> Callable[[int, Int, Int], None]:
        """What runs a flow on the row of its frame that another frame's close falls to; no bar twice."""
        frame, source = self._frames[flow.frame], self._frames[trigger].spec
        translated = self._places(source, frame.spec)
        last = np.full(frame.log.size, -1, dtype=np.int64)
        # What ticks has no bars of its own to go by: each symbol's newest one is meant.
        back = frame.log.reach if self._dag.is_ticking(trigger) else 1

        def run(row: int, present: Int, absent: Int) -> None:
            here = frame.spec.interval.row(source.interval.ts(row))
            symbols = np.sort(translated[present])
            symbols = symbols[symbols >= 0]
            for number, members in newest_rows(frame.log, here, back, symbols, last):
                last[members] = number
                self.executor.run(flow, number, members)

        return run

    def begin(self, known: Mapping[str, Int]) -> None:
        """Say, for each data frame, from which row (symbols,) on its bars are known. Call once, before any bar."""
        for name, rows in known_rows(self._dag, self._transforms, known).items():
            state = self._frames[name]
            state.known[:] = rows
            state.closed[:] = state.done[:] = rows - 1
            self.executor.known_from(name, state.known)

    def push(self, name: str, batch: BarBatch) -> None:
        """Take the bars of one close of a data frame."""
        state = self._frames[name]
        row = state.spec.interval.row(batch.ts)
        symbols, values = batch.symbols, batch.values
        fresh = self.tracker.unseen(state.spec.event, batch.ts, symbols)
        if len(fresh) != len(symbols):
            values = values[:, np.isin(symbols, fresh)]
        self._close(state, row, fresh, values, batch.absent)

    def _close(self, state: FrameState, row: int, present: Int, values: Float, absent: Int) -> None:
        if len(present):
            if row > state.log.newest:
                state.log.reserve(row - self._oldest_needed(state) + 1)
            state.log.append(row, present, values)
            if self._observer is not None:
                self._tell(state, row, present, values)
        _mark(state.closed, row, present, absent)
        if not state.flow.panel:
            if len(present):
                self.executor.run(state.flow, row, present)
            self._done(state, row, present, absent)
            return
        if row not in state.pending:
            state.pending.append(row)
            state.pending.sort()
        complete = int(state.closed.min())
        while state.pending and state.pending[0] <= complete:
            self._close_panel_row(state, state.pending.pop(0))

    def observe(self, observer: Observer) -> None:
        """See `Engine.observe`."""
        self._observer = observer
        self.executor.observe(observer)

    def _tell(self, state: FrameState, row: int, present: Int, values: Float) -> None:
        assert self._observer is not None
        for column, known in zip(state.spec.base_columns, values, strict=True):
            self._observer(state.spec.name, column, state.spec.interval.ts(row), present, known.copy())

    def _oldest_needed(self, state: FrameState) -> int:
        """First row that a symbol behind the others, or a row that waits for another frame, may still read."""
        interval = state.spec.interval
        rows = [int(state.done[0] if state.together else np.minimum.reduce(state.done)) + 1]
        for table in (self._joins, self._foreign):
            rows += [w.rows[0][0] for w in table.get(state.spec.name, ()) if w.rows]
        for waiting in self._waiting[state.spec.name]:
            if waiting.rows:
                rows.append(interval.row(waiting.spec.interval.ts(waiting.rows[0][0])))
        return min(rows) - state.log.reach + 1

    def _close_panel_row(self, state: FrameState, row: int) -> None:
        here = state.log.newest >= row and state.log.has(row)
        mask = state.log.present(row) if here else np.zeros(state.log.size, dtype=np.bool_)
        present = np.flatnonzero(mask)
        if len(present):
            self.executor.run(state.flow, row, present)
        self._done(state, row, present, np.flatnonzero(~mask))

    def _done(self, state: FrameState, row: int, present: Int, absent: Int) -> None:
        """The row is finished for these symbols: make what follows from it."""
        name = state.spec.name
        state.together = _mark(state.done, row, present, absent)
        for node in self._makes.get(name, ()):
            self._transform(node, state, row, present, absent)
        for waiting in (*self._joins.get(name, ()), *self._foreign.get(name, ())):
            waiting.rows.append((row, present, absent))
            self._advance(waiting)
        for waiting in self._waiting[name]:
            self._advance(waiting)

    def _advance(self, waiting: Waiting) -> None:
        """Let go of the rows that need not wait any longer, oldest first."""
        if not waiting.rows:
            return
        other = self._frames[waiting.needs]
        still: list[tuple[int, Int, Int]] = []
        rows, waiting.rows = waiting.rows, []
        for row, present, absent in rows:
            needed = other.spec.interval.row(waiting.spec.interval.ts(row))
            if waiting.together and int(other.done.min()) < needed:
                still.append((row, present, absent))
                continue
            late = (waiting.places >= 0) & (other.done[waiting.places] < needed)
            go, stay = present[~late[present]], present[late[present]]
            gone, kept = absent[~late[absent]], absent[late[absent]]
            if len(stay) or len(kept):
                still.append((row, stay, kept))
            if len(go) or len(gone):
                waiting.act(row, go, gone)
        waiting.rows = still + waiting.rows

    def _transform(self, node: Node, source: FrameState, row: int, present: Int, absent: Int) -> None:
        """A frame from one frame: a row closes when the source is done through it."""
        target = self._frames[node.frame]
        ts = source.spec.interval.ts(row)
        if not target.spec.interval.on_grid(ts):
            return
        symbols = np.sort(np.concatenate((present, absent)))
        out_row = target.spec.interval.row(ts)
        symbols = symbols[target.known[symbols] <= out_row]
        if not len(symbols):
            return
        values = np.full((len(target.spec.base_columns), len(symbols)), np.nan)
        numbers = source.log.aligned_rows(row, node.lookback, grid=True)
        if len(numbers):
            window = {c: source.log.aligned_window(c, numbers, symbols) for c in node.source_columns[0]}
            if numbers[-1] != row:
                # Nobody has a bar at the bucket's very end: a row of nothing says that it is complete all the same.
                numbers = np.append(numbers, row)
                nothing = np.full((1, len(symbols)), np.nan)
                window = {c: np.concatenate((w, nothing)) for c, w in window.items()}
            self._apply(node, ts, values, (_closes(source.spec, numbers), window))
        self._close_made(target, out_row, symbols, values)

    def _join(self, node: Node, row: int, present: Int, absent: Int) -> None:
        """A frame from two: the leading frame's row with the other's rows up to it."""
        left, right, target = (*(self._frames[f] for f in node.source_frames), self._frames[node.frame])
        ts = left.spec.interval.ts(row)
        symbols = np.sort(np.concatenate((present, absent)))
        symbols = symbols[target.known[symbols] <= row]
        if not len(symbols):
            return
        values = np.full((len(target.spec.base_columns), len(symbols)), np.nan)
        bars = np.isin(symbols, present)
        if bars.any():
            lead = {c: left.log.values(c, row, symbols)[None, :] for c in node.source_columns[0]}
            back = self._transforms[node.id].other_lookback(right.spec.interval)
            newest = right.spec.interval.row(ts)
            numbers = right.log.aligned_rows(newest, back, grid=True)
            places = self._places(left.spec, right.spec)[symbols]
            other = {}
            for c in node.source_columns[1]:
                # By place, whatever the count: the two frames need not have the same symbols, nor in one order.
                window = right.log.aligned_window(c, numbers, right.log.everyone)[:, np.maximum(places, 0)]
                other[c] = np.where(places >= 0, window, np.nan)
            self._apply(node, ts, values, (np.array([ts]), lead), (_closes(right.spec, numbers), other))
            values[:, ~bars] = np.nan
        self._close_made(target, row, symbols, values)

    def _places(self, left: FrameSpec, right: FrameSpec) -> Int:
        place = {name: i for i, name in enumerate(right.symbols)}
        return np.array([place.get(s, -1) for s in left.symbols], dtype=np.int64)

    def _apply(
        self, node: Node, ts: int, values: Float, first: tuple[Any, Any], *others: tuple[Any, Any]
    ) -> None:
        """Call the transform and copy its row at `ts` into `values`; no such row leaves them NaN."""
        try:
            made_ts, made = self._transforms[node.id].apply(*first, *others)
            rows = np.flatnonzero(np.asarray(made_ts) == ts)
            if len(rows):
                for i, column in enumerate(node.outputs):
                    values[i] = made[column][rows[-1]]
        except Exception as error:
            raise blame(node, at(ts), error) from error

    def _close_made(self, target: FrameState, row: int, symbols: Int, values: Float) -> None:
        marker = target.spec.base_columns.index("close") if "close" in target.spec.base_columns else 0
        has = ~np.isnan(values[marker])
        ts = target.spec.interval.ts(row)
        present = self.tracker.unseen(target.spec.event, ts, symbols[has])
        self._close(target, row, present, values[:, np.isin(symbols, present)], symbols[~has])


def newest_rows(log: FrameLog, row: int, back: int, symbols: Int, last: Int) -> list[tuple[int, Int]]:
    """(row, symbols) of each symbol's newest bar among the `back` rows up to `row`, oldest first; those that are not
    newer than `last` (by symbol of the frame) are left out."""
    found = []
    oldest = max(row - back, log.newest - log.capacity)
    row = min(row, log.newest)
    left = symbols[last[symbols] < row]
    while len(left) and row > oldest:
        if log.has(row):
            here = log.present(row)[left]
            if here.any():
                found.append((row, left[here]))
                left = left[~here]
        row -= 1
        left = left[last[left] < row]
    return found[::-1]


def _mark(rows: Int, row: int, present: Int, absent: Int) -> bool:
    """``rows[symbol] = row`` for all of these symbols. True if these are all there are."""
    if len(present) + len(absent) == len(rows):
        rows.fill(row)
        return True
    rows[present] = row
    rows[absent] = row
    return False


def _closes(spec: FrameSpec, numbers: Int) -> Int:
    return spec.interval.offset + numbers * spec.interval.ns
