"""The values that pass between the parts: bars, batches of bars, market events, predictions.

Time inside is ``int``: nanoseconds since the epoch, UTC, and always the bar's close. A `Prediction`, which
leaves for the world of sinks, carries an aware ``datetime``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float = npt.NDArray[np.float64]
    Int = npt.NDArray[np.int64]
    Codes = npt.NDArray[np.uint8]

BAR_COLUMNS = ("open", "high", "low", "close", "volume")
"""Names of a bar's columns, in the order of every array that holds whole bars."""

BAR_CLOSE = "market.bar_close"
"""`MarketEvent.type` of a bar, in progress or closed."""


class Bar(NamedTuple):
    """One OHLCV candle of one symbol. ``ts`` is its close (open time + interval), ns since the epoch."""

    ts: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class MarketEvent(NamedTuple):
    """What a data source streams.

    ``type`` is ``market.bar_close`` for bars, anything else is a sign of life or a trigger. ``symbol`` is
    None for events of no symbol. ``ts`` is the bar's close, ns since the epoch; of a bar in progress the
    close it will have. ``closed`` says that the bar is final. ``origin`` says where it came from:
    ``stream``, ``rest``, ``archive``, ``file``, ``repair``.
    """

    type: str
    symbol: str | None
    ts: int
    bar: Bar | None = None
    closed: bool = False
    origin: str = "stream"


@dataclass(frozen=True, slots=True)
class BarBlock:
    """Closed bars of one symbol as columns, oldest first: what `DataSource.history` yields.

    ``ts`` is (bars,) int64 closes; the others are (bars,) float64. ``origin`` as in `MarketEvent`.
    """

    symbol: str
    ts: Int
    open: Float
    high: Float
    low: Float
    close: Float
    volume: Float
    origin: str = "rest"

    def __len__(self) -> int:
        return len(self.ts)


@dataclass(frozen=True, slots=True)
class BarBatch:
    """The runtime's unit: the bars of ONE close that are at hand, over symbols.

    ``symbols`` is (n,) int64, positions in the frame's universe, ascending. ``values`` is (5, n) float64 in the
    order of `BAR_COLUMNS`. ``absent`` lists positions whose bar at ``ts`` is certified not to exist.

    For the ledger of bars, None where none is kept: ``origins`` is (n,), codes of where each bar came from, and
    ``proved`` has for each absent one the instant (ns) up to which the source was known to be silent about it.
    """

    ts: int
    symbols: Int
    values: Float
    absent: Int
    origins: Codes | None = None
    proved: Int | None = None


def _frozen(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    return metadata if isinstance(metadata, MappingProxyType) else MappingProxyType(dict(metadata))


@dataclass(frozen=True, slots=True)
class Prediction:
    """One predicted value of one symbol at one bar close: the record that sinks receive.

    ``ts`` is the bar's close, an aware UTC datetime. ``metadata`` (read-only) has ``frame``, ``column`` and
    ``dag_name``, the same in live and replay.
    """

    symbol: str
    ts: datetime
    value: float
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.ts.tzinfo is None:
            raise ValueError(f"Prediction.ts must have a time zone, got {self.ts!r}")
        object.__setattr__(self, "metadata", _frozen(self.metadata))

    def __reduce__(self) -> tuple[Any, ...]:
        # A mappingproxy can't be pickled; workers and tests need predictions to travel.
        return (Prediction, (self.symbol, self.ts, self.value, dict(self.metadata)))
