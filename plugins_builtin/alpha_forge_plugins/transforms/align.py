"""Columns of another frame beside one's own, as of each bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, field_validator

from alpha_forge_sdk import Interval, Transform, kernels
from alpha_forge_sdk import Params as BaseParams
from alpha_forge_sdk.kernels.compiling import COLUMN, TIMES

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


@kernels.jit(signature=f"int64[:, ::1]({TIMES}, {TIMES}, {COLUMN}, int64)")
def newest_rows(left_ts: Array, right_ts: Array, right_close: Array, tolerance: int) -> Array:
    """Row of the right frame that is newest as of each left ts: (bars, symbols) int64, -1 for none.

    Newest means: of the rows with a finite close and ``right ts <= left ts``, the last; it counts if it is
    at most `tolerance` ns old. Both ts are in ascending order.
    """
    bars, symbols = left_ts.shape[0], right_close.shape[1]
    out = np.empty((bars, symbols), dtype=np.int64)
    newest = np.full(symbols, -1, dtype=np.int64)
    row = 0
    for t in range(bars):
        while row < right_ts.shape[0] and right_ts[row] <= left_ts[t]:
            for s in range(symbols):
                if np.isfinite(right_close[row, s]):
                    newest[s] = row
            row += 1
        for s in range(symbols):
            known = newest[s] >= 0 and left_ts[t] - right_ts[newest[s]] <= tolerance
            out[t, s] = newest[s] if known else -1
    return out


class Align(Transform):
    """As-of join: the bars of `left`, each with columns of the newest bar of `right` as of its close.

    Rows, interval and all columns of the output come from `left`; `right` adds ``columns``. A right bar
    counts for a symbol if it has a finite close there, its ts is not after the left bar's, and it is at
    most ``tolerance`` older (exactly as old still counts, as in pandas ``merge_asof``). Where none does the
    added columns are NaN, and so they are where the left bar itself is absent.

    Without a ``tolerance`` it is the right frame's own interval: the last bar stands until the next is due,
    and one missing bar is bridged by the one before it. `other_lookback` tells an instance that interval,
    and comes before `apply`.
    """

    frames = ("left", "right")

    class Params(BaseParams):
        columns: tuple[str, ...] = Field(
            ("close",), min_length=1, description="columns of the right frame to bring beside the left ones"
        )
        suffix: str = Field(
            "_right",
            min_length=1,
            description="appended to the name of a column that the left frame has as well",
        )
        tolerance: str | None = Field(
            None,
            description="greatest age of the right bar, for example 4h; default: the right frame's interval",
        )

        @field_validator("tolerance")
        @classmethod
        def _is_interval(cls, text: str | None) -> str | None:
            return None if text is None else Interval.parse(text).name

        @field_validator("columns")
        @classmethod
        def _once_each(cls, names: tuple[str, ...]) -> tuple[str, ...]:
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"columns names {', '.join(twice)} more than once")
            return names

    examples = ({"columns": ["close"], "tolerance": "4h"}, {"columns": ["close", "volume"]})

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self._tolerance = None if params.tolerance is None else Interval.parse(params.tolerance).ns

    def lookback(self) -> int:
        return 1

    def other_lookback(self, interval: Interval) -> int:
        """Right bars that can be within the tolerance of one left bar."""
        if self.params.tolerance is None:
            self._tolerance = interval.ns
        return int(self._tolerance or 0) // interval.ns + 1

    def input_columns(self, *available: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """All columns of the left frame; of the right one those named, and its close: is there a bar?

        Raises ValueError for a column that the right frame doesn't have.
        """
        left, right = available
        missing = [name for name in (*self.params.columns, "close") if name not in right]
        if missing:
            raise ValueError(f"the right frame has no column {', '.join(missing)}; it has {', '.join(right)}")
        close = () if "close" in self.params.columns else ("close",)
        return tuple(left), (*self.params.columns, *close)

    def output_columns(self, *taken: Sequence[str]) -> tuple[str, ...]:
        """Raises ValueError where a name is taken on the left even with the suffix."""
        left = tuple(taken[0])
        names = self._names(left)
        clash = [name for name in names if name in left or names.count(name) > 1]
        if clash:
            raise ValueError(
                f"column {clash[0]} would come twice; give align another suffix than {self.params.suffix}"
            )
        return (*left, *names)

    def _names(self, left: Sequence[str]) -> list[str]:
        return [name + self.params.suffix if name in left else name for name in self.params.columns]

    def apply(
        self, ts: Array, columns: Mapping[str, Array], *others: tuple[Array, Mapping[str, Array]]
    ) -> tuple[Array, dict[str, Array]]:
        if self._tolerance is None:
            raise RuntimeError(
                "align has no tolerance and doesn't know the interval of its right frame yet: "
                "call other_lookback(interval) first, or give it a tolerance"
            )
        ((right_ts, right),) = others
        rows = newest_rows(ts, right_ts, right["close"], self._tolerance)
        unknown = rows < 0
        if "close" in columns:
            unknown |= np.isnan(columns["close"])
        out = dict(columns)
        for name, source in zip(self._names(tuple(columns)), self.params.columns, strict=True):
            # Row -1 is NaN's own: without right rows there is still one to take.
            padded = np.vstack([right[source], np.full((1, unknown.shape[1]), np.nan)])
            out[name] = np.where(unknown, np.nan, np.take_along_axis(padded, rows, axis=0))
        return ts, out
