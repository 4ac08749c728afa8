"""From which row on the bars of each frame are known: what would need older ones is never made."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.interval import Interval
from alpha_forge.contracts.plugin import Transform
from alpha_forge.plan.graph import EventFlowDAG, Node

Int = npt.NDArray[np.int64]


def known_rows(
    dag: EventFlowDAG, transforms: Mapping[str, Transform], first: Mapping[str, Int]
) -> dict[str, Int]:
    """(symbols,) first known row of every frame, from those of the data frames. ``transforms`` are by node id."""
    known: dict[str, Int] = {}
    for node in dag.nodes.values():
        if node.kind == "data":
            known[node.frame] = np.asarray(first[node.frame], dtype=np.int64)
        elif node.kind == "transform":
            known[node.frame] = _derived(dag, node, transforms[node.id], known)
    return known


def _derived(dag: EventFlowDAG, node: Node, transform: Transform, known: Mapping[str, Int]) -> Int:
    """First rows of a transform's frame that are made of known rows only."""
    target = dag.frames[node.frame].interval
    rows: Int | None = None
    for place, name in enumerate(node.source_frames):
        interval = dag.frames[name].interval
        back = node.lookback if place == 0 else transform.other_lookback(interval)
        ready = interval.ts(0) + (known[name] + back - 1) * interval.ns
        if rows is None:
            rows = first_row_at(target, ready)
        else:
            rows = np.maximum(rows, first_row_at(target, np.full(len(rows), ready.max())))
    assert rows is not None
    return rows


def first_row_at(interval: Interval, ts: Int) -> Int:
    """Row numbers of the first closes at or after the instants `ts` (ns)."""
    rows: Int = -((interval.offset - ts) // interval.ns)
    return rows
