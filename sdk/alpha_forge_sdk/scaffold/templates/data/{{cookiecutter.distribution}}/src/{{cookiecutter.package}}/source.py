"""The data source `data.{{ cookiecutter.name }}`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import numpy as np
from alpha_forge_sdk import (
    BAR_CLOSE,
    Bar,
    BarBlock,
    Clock,
    DataSource,
    Interval,
    MarketEvent,
    SourceContext,
    SourceError,
)
from alpha_forge_sdk import Params as BaseParams
from pydantic import Field, field_validator

from {{ cookiecutter.package }}.market import SYMBOLS, market_bar

_NS = 1_000_000_000


class {{ cookiecutter.__class }}(DataSource):
    """{{ cookiecutter.description }}

    History has every bar up to now; the stream brings each bar when it has closed.
    """

    class Params(BaseParams):
        """What to bring."""

        universe: tuple[str, ...] = Field(("AAA", "BBB"), min_length=1, description="symbols")
        interval: str = Field("1m", description="length of a bar, for example 1m or 4h")

        @field_validator("interval")
        @classmethod
        def _is_interval(cls, text: str) -> str:
            return Interval.parse(text).name

        @field_validator("universe")
        @classmethod
        def _once_each(cls, universe: tuple[str, ...]) -> tuple[str, ...]:
            if len(set(universe)) < len(universe) or not all(universe):
                raise ValueError("symbols must not be empty, nor be named twice")
            return universe

    examples = ({"universe": ["AAA", "BBB"], "interval": "1m"},)
    history_lag = 0.0

    def __init__(self, params: Params) -> None:
        """Only remembers the parameters: connections begin with `open`."""
        super().__init__(params)
        self._interval = Interval.parse(params.interval)
        self._clock: Clock | None = None

    async def open(self, context: SourceContext) -> None:
        """Connect, and ask which symbols there are. Raises SourceError for others, or if nobody answers."""
        unknown = [symbol for symbol in self.params.universe if symbol not in SYMBOLS]
        if unknown:
            raise SourceError("AF5003", f"there is no symbol {', '.join(unknown)}", f"choose from {', '.join(SYMBOLS)}")
        self._clock = context.clock

    async def fetch(self, symbol: str, start: int, end: int) -> list[Bar]:
        """Closed bars with ``start < ts <= end`` (ns), oldest first: the place for your request."""
        first = self._interval.floor(start) + self._interval.ns
        return [market_bar(symbol, ts) for ts in range(first, end + 1, self._interval.ns)]

    async def stream(self) -> AsyncIterator[MarketEvent]:
        """Each closed bar once, from the moment of the first ``anext`` on; what a late wake-up missed comes with it."""
        clock = self._opened()
        done = self._interval.floor(clock.now())
        while True:
            while (now := clock.now()) < done + self._interval.ns:
                await clock.sleep((done + self._interval.ns - now) / _NS)
            newest = self._interval.floor(now)
            for symbol in self.params.universe:
                for bar in await self.fetch(symbol, done, newest):
                    yield MarketEvent(BAR_CLOSE, symbol, bar.ts, bar, closed=True)
            done = newest

    async def history(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        """Closed bars with ``start < ts <= end`` (ns), in order within each symbol; never one that is still open."""
        end = min(end, self._opened().now())
        for symbol in symbols:
            bars = await self.fetch(symbol, start, end)
            if bars:
                table = np.array([bar[1:] for bar in bars], dtype=np.float64)
                yield BarBlock(symbol, np.array([bar.ts for bar in bars], dtype=np.int64), *table.T.copy())

    async def close(self) -> None:
        """Release everything. Idempotent."""
        self._clock = None

    def _opened(self) -> Clock:
        if self._clock is None:
            raise SourceError("AF5008", "data.{{ cookiecutter.name }} is not open", "call open(context) first")
        return self._clock
