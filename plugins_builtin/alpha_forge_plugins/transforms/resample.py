"""Bars of a longer interval from bars of a shorter one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, field_validator

from alpha_forge_sdk import BAR_COLUMNS, Interval, Transform, kernels
from alpha_forge_sdk import Params as BaseParams
from alpha_forge_sdk.kernels.compiling import COLUMN, TIMES

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


@kernels.jit(
    signature=f"float64[:, :, ::1]({TIMES}, {TIMES}, {COLUMN}, {COLUMN}, {COLUMN}, {COLUMN}, {COLUMN})"
)
def merge_bars(
    first: Array, stop: Array, opens: Array, highs: Array, lows: Array, closes: Array, volumes: Array
) -> Array:
    """One bar a symbol of each run of rows ``first[i] … stop[i] - 1``: (5, runs, symbols), as `BAR_COLUMNS`.

    A row whose close is NaN holds no bar of that symbol and is left out; a run without any gives NaN. The
    volume is summed from the oldest row on.
    """
    runs, symbols = first.shape[0], closes.shape[1]
    out = np.full((5, runs, symbols), np.nan)
    for i in range(runs):
        for k in range(first[i], stop[i]):
            for s in range(symbols):
                if np.isnan(closes[k, s]):
                    continue
                if np.isnan(out[3, i, s]):
                    out[0, i, s] = opens[k, s]
                    out[1, i, s] = highs[k, s]
                    out[2, i, s] = lows[k, s]
                    out[4, i, s] = volumes[k, s]
                else:
                    out[1, i, s] = max(out[1, i, s], highs[k, s])
                    out[2, i, s] = min(out[2, i, s], lows[k, s])
                    out[4, i, s] += volumes[k, s]
                out[3, i, s] = closes[k, s]
    return out


class Resample(Transform):
    """Merges bars into bars of a longer interval, on the grid of its closes.

    The bar of the bucket ``(a, b]`` has the first open, the highest high, the lowest low, the last close
    and the summed volume of the bars that exist in it; ``ts`` is b. A symbol without any bar there is NaN,
    and b is no row if no symbol has one. Open, high, low and volume are read only where there is a close.

    Which buckets are given, when ``apply`` sees rows from ts[0] to ts[-1]:

    - only those that are complete: ``b <= ts[-1]``. The caller hands rows when its source is complete
      through the last of them; a close b at which no symbol had a bar is told by a later row, or by a row
      of NaN at b.
    - not the oldest one if its first row is missing, because what is older may merely not have been handed
      over. If it is the only complete bucket it is given all the same: that is the streaming call, whose
      rows are those that exist in ``(a, b]``, and there a missing first row is a bar that never was.

    `output_interval` tells an instance the interval of its input, and comes before `lookback` and `apply`.
    """

    class Params(BaseParams):
        interval: str = Field(
            "1h", description="interval of the output, for example 2h; a whole multiple of the input's"
        )

        @field_validator("interval")
        @classmethod
        def _is_interval(cls, text: str) -> str:
            return Interval.parse(text).name

    examples = ({"interval": "2h"}, {"interval": "1d"}, {"interval": "1w"})

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self._output = Interval.parse(params.interval)
        self._input: Interval | None = None

    def output_interval(self, interval: Interval) -> Interval:
        """Raises ValueError unless every close of the output is a close of the input too."""
        if not interval.divides(self._output):
            raise ValueError(
                f"bars of {interval} don't add up to bars of {self._output}: "
                f"the interval of resample must be a whole multiple of {interval}"
            )
        self._input = interval
        return self._output

    def _source(self) -> Interval:
        if self._input is None:
            raise RuntimeError(
                "resample doesn't know the interval of its input yet: call output_interval(interval) first"
            )
        return self._input

    def lookback(self) -> int:
        return self._output.ns // self._source().ns

    def apply(
        self, ts: Array, columns: Mapping[str, Array], *others: tuple[Array, Mapping[str, Array]]
    ) -> tuple[Array, dict[str, Array]]:
        source, target = self._source(), self._output
        ts = np.asarray(ts, dtype=np.int64)
        # The bucket (a, b] of a close is numbered by b: a close on the grid ends its bucket.
        bucket = (ts - 1 - target.offset) // target.ns + 1
        first = np.flatnonzero(np.diff(bucket, prepend=bucket[:1] - 1))
        closes = target.offset + bucket[first] * target.ns
        stop = np.append(first[1:], len(ts))
        complete = closes <= ts[-1] if len(ts) else np.zeros(0, dtype=bool)
        if complete.sum() > 1 and ts[0] != closes[0] - target.ns + source.ns:
            complete[0] = False
        bars = merge_bars(first[complete], stop[complete], *(columns[name] for name in BAR_COLUMNS))
        exists = ~np.isnan(bars[3]).all(axis=1)
        return closes[complete][exists], {name: bars[i, exists] for i, name in enumerate(BAR_COLUMNS)}
