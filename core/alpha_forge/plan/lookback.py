"""Fourth stage: how many bars each path needs, added up along the graph, and the warm-up that follows.

Along a path look-backs add up, minus one each: a value over ``a`` rows of a column whose one value needs ``b``
rows needs ``a + b - 1``. A transform turns rows of its output into rows of its input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from alpha_forge.contracts.interval import Interval
from alpha_forge.plan.graph import Need, Node

MARGIN = 1.1
"""More than the need is fetched: bars that the exchange never made count for nothing."""


def settled_lookback(settle: int) -> int:
    """Bars that a recursive feature needs: the youngest settled state is up to a quarter older than ``settle``."""
    return settle + generation_bars(settle)


def generation_bars(settle: int) -> int:
    """Bars between two fresh starts on the absolute grid: a quarter of ``settle``, rounded up."""
    return max(1, math.ceil(settle / 4))


@dataclass(frozen=True, slots=True)
class _Reach:
    """Rows needed of each data frame, of each frame on the way, and the chain that needs most."""

    data: Mapping[str, tuple[int, tuple[str, ...]]]
    frames: Mapping[str, int]


class NeedFinder:
    """Answers, for a node of the graph, how many bars of each data step it needs and along which path."""

    def __init__(
        self, nodes: Mapping[str, Node], intervals: Mapping[str, Interval], other_lookback: Mapping[str, int]
    ) -> None:
        self._makers = {
            (n.frame, c): n for n in nodes.values() if n.kind in ("features", "model") for c in n.outputs
        }
        self._frame_makers = {n.frame: n for n in nodes.values() if n.kind in ("data", "transform")}
        self._intervals = intervals
        self._other = other_lookback
        self._memo: dict[tuple[str, str, int], _Reach] = {}

    def of_node(self, node: Node) -> tuple[tuple[Need, ...], Mapping[str, int]]:
        """Needs in each data frame, and the rows needed of every frame on the way, for one value of `node`."""
        if node.kind == "transform":
            reach = self._column(node.frame, node.outputs[0], 1)
        else:
            reach = self._merge(node.frame, node.inputs, node.lookback, _link(node))
        return tuple(Need(f, bars, chain) for f, (bars, chain) in reach.data.items()), reach.frames

    def upstream(self, node: Node) -> int:
        """Bars of its own frame that one row of the node's inputs needs; 1 for base columns."""
        return max((self._own(node.frame, c) for c in node.inputs), default=1)

    def _own(self, frame: str, column: str) -> int:
        maker = self._makers.get((frame, column))
        return 1 if maker is None else maker.lookback + self.upstream(maker) - 1

    def _column(self, frame: str, column: str, rows: int) -> _Reach:
        key = (frame, column, rows)
        if key not in self._memo:
            self._memo[key] = self._column_uncached(frame, column, rows)
        return self._memo[key]

    def _column_uncached(self, frame: str, column: str, rows: int) -> _Reach:
        maker = self._makers.get((frame, column))
        if maker is not None:
            return self._merge(frame, maker.inputs, maker.lookback + rows - 1, _link(maker))
        source = self._frame_makers[frame]
        here = {frame: rows}
        if source.kind == "data":
            return _Reach({frame: (rows, (f"{rows} bars of {frame}",))}, here)
        data: dict[str, tuple[int, tuple[str, ...]]] = {}
        frames: dict[str, int] = dict(here)
        for i, name in enumerate(source.source_frames):
            step = self._intervals[frame].ns / self._intervals[name].ns
            own = source.lookback if i == 0 else self._other.get(source.id, 1)
            needed = math.ceil((rows - 1) * step) + own
            link = f"{rows} rows of {frame} ({source.using})"
            part = self._merge(name, source.source_columns[i], needed, link)
            _take_larger(data, frames, part)
        return _Reach(data, frames)

    def _merge(self, frame: str, columns: tuple[str, ...], rows: int, link: str) -> _Reach:
        data: dict[str, tuple[int, tuple[str, ...]]] = {}
        frames: dict[str, int] = {}
        for column in columns:
            part = self._column(frame, column, rows)
            _take_larger(
                data, frames, _Reach({f: (b, (link, *c)) for f, (b, c) in part.data.items()}, part.frames)
            )
        return _Reach(data, frames)


def _link(node: Node) -> str:
    if node.settle:
        return f"{node.lookback} bars of {node.id} ({node.settle} to settle, and a quarter more)"
    return f"{node.lookback} bars of {node.id}"


def _take_larger(data: dict[str, tuple[int, tuple[str, ...]]], frames: dict[str, int], part: _Reach) -> None:
    for name, found in part.data.items():
        if name not in data or found[0] > data[name][0]:
            data[name] = found
    for name, rows in part.frames.items():
        frames[name] = max(rows, frames.get(name, 0))
