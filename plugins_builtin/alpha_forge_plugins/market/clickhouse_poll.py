"""``data.clickhouse_poll``: a table of bars in ClickHouse, as history and as a stream of what is added."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from alpha_forge_plugins.clickhouse_server import Name, ServerParams
from alpha_forge_plugins.market.universe import Universe
from alpha_forge_sdk import (
    BAR_CLOSE,
    Bar,
    BarBlock,
    DataSource,
    Interval,
    MarketEvent,
    Params,
    SourceContext,
    SourceError,
)

if TYPE_CHECKING:
    from alpha_forge_plugins.market.clickhouse_reader import BarTable, Flawed

log = logging.getLogger(__name__)

T = TypeVar("T")

RECONNECTED = "source.reconnected"
ORIGIN = "table"

_NS = 1_000_000_000
_TOGETHER = 50
"""Symbols whose history is one request: bounds memory."""
_LONGEST_PAUSE = 30.0
_SHOWN = 3


def _known_interval(text: str) -> str:
    Interval.parse(text)
    return text


class Columns(Params):
    """What the columns of a table of bars are called."""

    symbol: Name = Field("symbol", description="the symbol, spelt as in universe")
    time: Name = Field("open_time", description="when the bar opens or closes; see time_is")
    open: Name = Field("open", description="first price")
    high: Name = Field("high", description="highest price")
    low: Name = Field("low", description="lowest price")
    close: Name = Field("close", description="last price")
    volume: Name = Field("volume", description="volume in units of the symbol")

    def values(self) -> tuple[str, ...]:
        """The five columns of numbers, open to volume."""
        return self.open, self.high, self.low, self.close, self.volume


class ClickHousePoll(DataSource):
    """Bars from a ClickHouse table that somebody else fills: history, and every poll_seconds what has been added.

    Each poll reads again what closed up to ``overlap`` before the newest bar it has seen, so that a row which was
    inserted late is found; a row that was seen is not streamed again, unless its values have changed (a revision). The
    stream begins with what is inserted after it was opened: the newest bar there is by then, and all before, are
    history.

    A row counts from its close on by the runner's clock, ``final_after`` seconds later where the table also holds the
    bar in progress. A bar that isn't in the table ``lateness`` seconds after its close does not exist, as far as the
    run is concerned: for so long do flows over several symbols wait for a late one.

    Of a ReplacingMergeTree the rows are read that merges will leave (FINAL). A row off the interval's grid, with a
    number that isn't finite, or two rows for one close that differ, are no bars: `history` refuses the range, `stream`
    leaves them out and logs it. While the server is away the stream asks again, with back-off.

    Raises SourceError AF5001 if the server can't be reached for ``patience`` seconds, AF5003 for a symbol without any
    row, AF5070 if it refuses the user, AF5071 for a missing table, AF5072 for missing columns or other types, AF5073
    for rows that are no bars, AF5074 if it refuses otherwise, AF5008 outside open and close.
    """

    class Params(ServerParams):
        """Which server, which table, how to read it, and how often."""

        table_name: Name = Field("bars", description="the table or view in the database")
        universe: Universe
        interval: Annotated[str, AfterValidator(_known_interval)] = Field(
            description="length of a bar, for example 15m, 1h or 1d"
        )
        columns: Columns = Field(
            default_factory=lambda: Columns.model_validate({}), description="names of its columns"
        )
        time_is: Literal["open", "close"] = Field("open", description="what the time column holds")
        filters: dict[Name, str] = Field(
            default_factory=dict,
            description="columns that must equal a text, for a table of several exchanges or intervals",
        )
        poll_seconds: float = Field(1.0, gt=0, le=3600, description="seconds between two looks at the table")
        overlap: float = Field(
            3600.0,
            ge=0,
            description="seconds before the newest bar that each look reads again, for late rows",
        )
        lateness: float = Field(
            60.0, ge=0, description="seconds after its close from which a bar that isn't there does not exist"
        )
        final_after: float = Field(
            0.0,
            ge=0,
            description="seconds after its close from which a row is final; 0: only such are inserted",
        )
        timeout: float = Field(10.0, gt=0, le=60, description="seconds to connect, and to wait for an answer")
        patience: float = Field(30.0, ge=0, description="seconds for which open and history try again")

        @model_validator(mode="after")
        def _covers(self) -> ClickHousePoll.Params:
            if self.lateness < self.final_after:
                raise ValueError(
                    "lateness must not be less than final_after: bars would be missed on purpose"
                )
            return self

    examples: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"table_name": "bars", "universe": ["BTCUSDT", "ETHUSDT"], "interval": "1h"},
        {
            "host": "clickhouse.internal",
            "secure": True,
            "database": "market",
            "table_name": "klines",
            "universe": ["BTCUSDT"],
            "interval": "1m",
            "columns": {"symbol": "pair", "time": "closed_at"},
            "time_is": "close",
            "filters": {"exchange": "binance", "interval": "1m"},
            "lateness": 20,
        },
    )

    history_lag = 0.0
    """`passed` knows: it lags by ``lateness``, which each step may choose."""

    params: Params

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._interval = Interval.parse(params.interval)
        self._context: SourceContext | None = None
        self._table: BarTable | None = None

    async def open(self, context: SourceContext) -> None:
        """Connect, check the table, and that it has every symbol. Raises SourceError, see the class."""
        from alpha_forge_plugins.market.clickhouse_reader import BarTable

        self._context = context
        self._table = table = BarTable(self.params, self._interval)
        await self._persistently(table.describe)
        newest = await self._persistently(lambda: table.newest(self.params.universe, self._final_until()))
        if unknown := [symbol for symbol in self.params.universe if symbol not in newest]:
            raise SourceError(
                "AF5003",
                f"{self.params.database}.{self.params.table_name} has no bar of {', '.join(unknown[:10])}"
                + (f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""),
                "correct universe and filters; symbols are spelt as in the table, in upper case",
            )

    async def passed(self, instant: int, now: int) -> int:
        """What closed ``lateness`` ago will not come any more."""
        return min(instant, now - int(self.params.lateness * _NS))

    async def stream(self) -> AsyncIterator[MarketEvent]:
        """Bars that are inserted from now on, by close and then in the universe's order; late ones when they are found.

        It begins with one event of the bar after the newest one there is, which says that the table answers. Never
        ends by itself; ``source.reconnected`` comes after an outage.
        """
        table, context = self._opened()
        universe, step = self.params.universe, self._interval.ns
        newest = await self._persistently(lambda: table.newest(universe, self._final_until()))
        watermark = max(newest.values(), default=self._interval.floor(context.clock.now()))
        seen = Seen(universe)
        found, _ = await self._persistently(lambda: self._look(table, watermark))
        for _event in seen.events(found):
            pass  # history has these
        yield MarketEvent(BAR_CLOSE, universe[0], self._interval.floor(watermark) + step)
        complaints = Complaints(self.params.table_name)
        failures = 0
        while True:
            # An outage costs no look: what it hid is read by the next one that succeeds.
            await context.clock.sleep(self.params.poll_seconds if not failures else _pause(failures))
            try:
                found, flawed = await self._look(table, watermark)
            except Exception as error:  # noqa: BLE001 - `_passing` raises what is no fault of the server
                failures = self._passing(error, failures)
                continue
            if failures:
                failures = 0
                log.info("%s answers again", self.params.place())
                yield MarketEvent(RECONNECTED, None, context.clock.now())
            complaints.tell(flawed)
            for event in seen.events(found):
                watermark = max(watermark, event.ts)
                yield event
            seen.forget(watermark - self._overlap)

    @property
    def _overlap(self) -> int:
        asked = 2 * self._interval.seconds if self.params.overlap is None else self.params.overlap
        return int(max(asked, self.params.lateness) * _NS)

    def _final_until(self) -> int:
        """The newest close that counts now."""
        return self._opened()[1].clock.now() - int(self.params.final_after * _NS)

    async def _look(self, table: BarTable, watermark: int) -> tuple[Any, list[Flawed]]:
        """Rows of the whole universe from the overlap on that count by now."""
        return await table.rows(self.params.universe, watermark - self._overlap, self._final_until())

    def _passing(self, error: Exception, failures: int) -> int:
        """Note a fault of the server and go on; raises any other."""
        from alpha_forge_plugins.market.clickhouse_reader import Unreachable

        if not isinstance(error, (Unreachable, SourceError)):
            raise error
        if not failures:
            log.warning("the stream of %s is interrupted: %s", self.params.table_name, _told(error))
        return failures + 1

    def history(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        """Bars with ``start < ts <= end`` that are final by now, a block for each symbol that has any."""
        self._opened()
        return self._blocks(symbols, start, end)

    async def _blocks(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        import numpy as np

        for at in range(0, len(symbols), _TOGETHER):
            some = symbols[at : at + _TOGETHER]
            table, _ = self._opened()
            found, flawed = await self._persistently(
                partial(table.rows, some, start, min(end, self._final_until()))
            )
            if flawed:
                raise _refused(self.params, flawed)
            edges = np.searchsorted(found.symbol, np.arange(len(some) + 1)).tolist()
            for symbol, first, last in zip(some, edges, edges[1:], strict=False):
                if first < last:
                    o, h, low, c, v = found.values[:, first:last]
                    yield BarBlock(symbol, found.ts[first:last], o, h, low, c, v, ORIGIN)

    async def _persistently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer. Raises SourceError AF5001 after ``patience`` seconds, or what won't pass."""
        from alpha_forge_plugins.market.clickhouse_reader import Unreachable

        _, context = self._opened()
        deadline = context.clock.now() + int(self.params.patience * _NS)
        failures = 0
        while True:
            try:
                return await ask()
            except Unreachable as error:
                failures += 1
                if context.clock.now() >= deadline:
                    raise SourceError(
                        "AF5001",
                        f"{error} ({failures} attempts)",
                        "check host, port and the network; see that the server runs",
                    ) from error
                await context.clock.sleep(_pause(failures))

    def _opened(self) -> tuple[BarTable, SourceContext]:
        if self._table is None or self._context is None:
            raise SourceError(
                "AF5008", "the source is not open", "call open(context) first, and not after close()"
            )
        return self._table, self._context

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        table, self._table, self._context = self._table, None, None
        if table is not None:
            await table.close()


class Seen:
    """What a stream has brought, as far back as the overlap reaches."""

    def __init__(self, universe: Sequence[str]) -> None:
        self._universe = universe
        self._bars: dict[tuple[int, int], Bar] = {}

    def events(self, rows: Any) -> list[MarketEvent]:
        """The rows that are new, or have changed, by close; they are seen from now on."""
        order = sorted(range(len(rows)), key=lambda i: (rows.ts[i], rows.symbol[i]))
        found = []
        columns = rows.values.T.tolist()
        for i in order:
            place, ts = int(rows.symbol[i]), int(rows.ts[i])
            bar = Bar(ts, *columns[i])
            if self._bars.get((ts, place)) != bar:
                self._bars[ts, place] = bar
                found.append(MarketEvent(BAR_CLOSE, self._universe[place], ts, bar, True, ORIGIN))
        return found

    def forget(self, until: int) -> None:
        """Nothing that closed at or before `until` will be asked for again."""
        if self._bars and min(self._bars)[0] <= until:
            self._bars = {key: bar for key, bar in self._bars.items() if key[0] > until}


class Complaints:
    """Logs rows that are no bars, each once."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._told: set[Flawed] = set()

    def tell(self, flawed: Sequence[Flawed]) -> None:
        """One line for all that are new."""
        fresh = [row for row in flawed if row not in self._told]
        self._told = set(flawed)
        if fresh:
            log.warning("%s: %d row(s) left out: %s", self._table, len(fresh), _shown(fresh))


def _refused(params: ClickHousePoll.Params, flawed: Sequence[Flawed]) -> SourceError:
    return SourceError(
        "AF5073",
        f"{params.database}.{params.table_name} has {len(flawed)} row(s) that are no bars: {_shown(flawed)}",
        f"these should be bars of {params.interval}, each close once; `filters` picks them from a table that has "
        "others, too, and time_is says what their time is",
    )


def _shown(flawed: Sequence[Flawed]) -> str:
    from datetime import UTC, datetime

    lines = [
        f"{row.symbol} at {datetime.fromtimestamp(row.ts / _NS, UTC).isoformat()} {row.why}"
        for row in flawed[:_SHOWN]
    ]
    return "; ".join(lines) + ("; …" if len(flawed) > _SHOWN else "")


def _told(error: Exception) -> str:
    return error.message if isinstance(error, SourceError) else str(error)


def _pause(failures: int) -> float:
    """Seconds before the next try: exponential with full jitter (Brooker, AWS, 2015)."""
    return random.uniform(0.0, min(_LONGEST_PAUSE, 0.25 * 2 ** min(failures, 10)))
