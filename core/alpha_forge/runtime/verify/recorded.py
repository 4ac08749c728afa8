"""The checks of one recorded segment."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from alpha_forge.plan.graph import EventFlowDAG
from alpha_forge.runtime.engine import Engine
from alpha_forge.runtime.recording.reader import Cut, Segment
from alpha_forge.runtime.results import PredictedRow
from alpha_forge.runtime.verify.findings import Verdict, columns_in_order, culprit
from alpha_forge.runtime.verify.recompute import InOrder, as_it_came
from alpha_forge.runtime.verify.values import Cells, Collector, Column, differences

AGAIN = "computed again"
ORDERED = "computed in order"
LATER = "computed from a later start"

LATER_STARTS = 2
"""Later starts that are tried, spread over the slack that the warm-up has."""


def verify_segment(dag: EventFlowDAG, segment: Segment) -> Verdict:
    """Compute a segment again, in other ways, and compare every prediction by its bits.

    - computed again: the same calls of the engine. What differs was not made by its inputs alone.
    - computed in order: all bars of a close together, whole arrays where the graph allows it. What differs depends on
      who came when, or saw the future.
    - computed from a later start: the same with less history before it. What differs remembers more than it says.
    """
    verdict = Verdict()
    rows = segment.predicted()
    verdict.predictions = sum(int((~np.isnan(r.values)).sum()) for r in rows)
    verdict.bars = sum(len(b.symbols) for call in segment.calls() for _, b in call.items)
    gathered = Collector().rows(rows)
    recorded = gathered.cells()
    for (frame, column), twice in gathered.twice.items():
        if twice:
            verdict.notes.append(f"{frame}.{column}: {twice} value(s) were predicted more than once")
    if not segment.ended:
        verdict.notes.append(f"{segment.path.name} was cut off: its last whole block ends it")
    _check_again(dag, segment, recorded, verdict)
    if verdict.holds:
        _check_in_order(dag, segment, recorded, verdict)
    return verdict


def _check_again(
    dag: EventFlowDAG, segment: Segment, recorded: Mapping[Column, Cells], verdict: Verdict
) -> None:
    verdict.checks.append(AGAIN)
    again = Collector().rows(as_it_came(dag, segment)).cells()
    first = next(differences(recorded, again, sorted(recorded.keys() | again.keys())), None)
    if first is None:
        return
    # A step that gives two answers here too is not deterministic; else the run itself was another one.
    one, two = Collector(), Collector()
    as_it_came(dag, segment, one)
    as_it_came(dag, segment, two)
    a, b = one.cells(), two.cells()
    wavering = next(differences(a, b, [c for _, c in columns_in_order(dag)]), None)
    if wavering is not None:
        said = "at the first computation / at the second: the step is not deterministic"
        verdict.findings.append(culprit(dag, AGAIN, said, a, b, wavering))
    else:
        said = "in the recording / computed again from the same bars"
        verdict.findings.append(culprit(dag, AGAIN, said, {}, {}, first))


def _check_in_order(
    dag: EventFlowDAG, segment: Segment, recorded: Mapping[Column, Cells], verdict: Verdict
) -> None:
    ordered = InOrder(dag, segment)
    delivered = sorted(dag.sink_columns())
    slack = ordered.slack()
    skips = [0, *sorted({max(1, slack * k // LATER_STARTS) for k in range(1, LATER_STARTS + 1) if slack > 0})]
    for skip in skips:
        check = LATER if skip else ORDERED
        verdict.checks.append(f"{check} ({skip} bars)" if skip else check)
        got = _comparable(dag, segment, ordered.cells(delivered, skip=skip), recorded, ordered.complete_until)
        first = next(differences(recorded, got, delivered), None)
        if first is None:
            continue
        everything = Collector()
        as_it_came(dag, segment, everything)
        columns = [column for _, column in columns_in_order(dag)]
        # Only bars that predicted can be told apart: before them the later start has yet to warm up.
        since = min(int(cells.ts.min()) for cells in recorded.values() if len(cells.ts))
        a = _since(everything.cells(), since, ordered.complete_until)
        b = _since(ordered.cells(columns, skip=skip), since, ordered.complete_until)
        how = "from a later start" if skip else "in the order of closes"
        said = f"in the recording / computed {how}"
        verdict.findings.append(culprit(dag, check, said, a, b, first))
        return


def _since(cells: Mapping[Column, Cells], start: int, end: int) -> dict[Column, Cells]:
    return {key: c.where((c.ts >= start) & (c.ts <= end)) for key, c in cells.items()}


def _comparable(
    dag: EventFlowDAG,
    segment: Segment,
    got: Mapping[Column, Cells],
    recorded: Mapping[Column, Cells],
    complete_until: int,
) -> dict[Column, Cells]:
    """What of `got` should be in the recording: bars that `emit_after` lets predict, and that were processed."""
    judge = Engine(dag)
    for event in segment.events:
        if isinstance(event, Cut):
            judge.emit_after(event.cutoff, event.finer)
    # A later segment begins with bars that the one before it predicted already.
    warmed = [b.ts for call in segment.calls() if call.rows is None for _, b in call.items]
    since = max(warmed, default=-1) if segment.head.get("segment") else -1
    found = {}
    for (frame, column), cells in got.items():
        mine = recorded.get((frame, column))
        known = np.isin(cells.keys(), mine.keys()) if mine is not None else np.zeros(len(cells.ts), np.bool_)
        due = np.zeros(len(cells.ts), dtype=np.bool_)
        for ts in np.unique(cells.ts[~known & (cells.ts > since) & (cells.ts <= complete_until)]):
            at = np.flatnonzero((cells.ts == ts) & ~known)
            kept = judge.due([PredictedRow(frame, column, int(ts), cells.symbols[at], cells.values[at])])
            for row in kept:
                due[at[np.isin(cells.symbols[at], row.symbols)]] = True
        found[(frame, column)] = cells.where(known | due)
    return found
