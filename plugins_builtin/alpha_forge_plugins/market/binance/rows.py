"""Bars as arrays, cleaned: in order, once each, on the grid, finite. What is refused is counted and said."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alpha_forge_sdk import BarBlock, Interval

log = logging.getLogger(__name__)

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Bars of one symbol: closes (bars,) in ns, values (5, bars) open to volume, and their origin.

    ``refused`` rows of the range came with them and were no bars.
    """

    ts: Int
    values: Float
    origin: str
    refused: int = 0


def clean(ts: Int, values: Float, interval: Interval, start: int, end: int, origin: str, what: str) -> Rows:
    """Rows with start < ts <= end, sorted, each close once (the last one stands).

    A row off the grid or with a value that isn't finite is refused and logged under the name `what`: it is no
    bar, and the gap that it leaves is the truth.
    """
    if len(ts) == 0 or (
        (ts[1:] > ts[:-1]).all()
        and start < ts[0]
        and ts[-1] <= end
        and not ((ts - interval.offset) % interval.ns).any()
        and np.isfinite(values).all()
    ):
        return Rows(ts, values, origin)  # as nearly all of them are
    wanted = (ts > start) & (ts <= end)
    sound = ((ts - interval.offset) % interval.ns == 0) & np.isfinite(values).all(axis=0)
    refused = int((wanted & ~sound).sum())
    if refused:
        first = int(ts[wanted & ~sound][0])
        log.warning("%s: %d row(s) off the grid or not finite, first at close %d ns", what, refused, first)
    keep = np.flatnonzero(wanted & sound)
    keep = keep[np.argsort(ts[keep], kind="stable")]
    if len(keep) > 1:
        # Stable order: of equal closes the last one in the file is the last one here.
        last = np.append(ts[keep[1:]] != ts[keep[:-1]], True)
        keep = keep[last]
    return Rows(ts[keep], np.ascontiguousarray(values[:, keep]), origin, refused)


def missing(rows: Rows, interval: Interval, start: int, end: int, bridge: int) -> list[tuple[int, int]]:
    """Ranges (a, b] within (start, end] whose closes are not in `rows`, which are all of that range.

    Neighbours are joined while together they span no more than `bridge` bars: one request serves both.
    """
    if len(rows.ts) == interval.row(end) - interval.row(start):
        return []
    present = (rows.ts - interval.offset) // interval.ns
    grid = np.arange(interval.row(start) + 1, interval.row(end) + 1)
    absent = np.setdiff1d(grid, present, assume_unique=True)
    if not len(absent):
        return []
    breaks = np.flatnonzero(np.diff(absent) > 1)
    firsts, lasts = absent[np.append(0, breaks + 1)], absent[np.append(breaks, len(absent) - 1)]
    joined: list[list[int]] = []
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        if joined and last - joined[-1][0] < bridge:
            joined[-1][1] = last
        else:
            joined.append([first, last])
    return [(interval.ts(first - 1), interval.ts(last)) for first, last in joined]


def blocks(symbol: str, parts: list[Rows]) -> list[BarBlock]:
    """Parts in order of preference → blocks in order of time, one for each run of the same origin."""
    parts = [part for part in parts if len(part.ts)]
    in_time = sorted(parts, key=lambda part: int(part.ts[0]))
    if all(a.ts[-1] < b.ts[0] and a.origin != b.origin for a, b in itertools.pairwise(in_time)):
        return [_block(symbol, part.ts, part.values, part.origin) for part in in_time]
    ts = np.concatenate([part.ts for part in parts])
    values = np.concatenate([part.values for part in parts], axis=1)
    whose = np.repeat(np.arange(len(parts)), [len(part.ts) for part in parts])
    # np.unique keeps the first of equal closes: that of the preferred part.
    ts, index = np.unique(ts, return_index=True)
    values, whose = values[:, index], whose[index]
    origins = np.array([part.origin for part in parts])[whose]
    edges = [0, *(np.flatnonzero(origins[1:] != origins[:-1]) + 1).tolist(), len(ts)]
    return [_block(symbol, ts[a:b], values[:, a:b], str(origins[a])) for a, b in itertools.pairwise(edges)]


def _block(symbol: str, ts: Int, values: Float, origin: str) -> BarBlock:
    o, h, low, c, v = values
    return BarBlock(symbol, ts, o, h, low, c, v, origin)
