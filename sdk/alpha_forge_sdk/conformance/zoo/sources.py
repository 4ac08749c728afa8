"""Data sources that each break one promise, and a correct one: a tape of bars that is played at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from alpha_forge.contracts.errors import SourceError
from alpha_forge.contracts.interval import Interval
from alpha_forge.contracts.params import Params as BaseParams
from alpha_forge.contracts.plugin import DataSource, SourceContext
from alpha_forge.contracts.types import BAR_CLOSE, Bar, BarBlock, MarketEvent
from alpha_forge_sdk.conformance.case import Conformance, DataSourceConformance
from alpha_forge_sdk.conformance.zoo import Specimen
from alpha_forge_sdk.testing.bars import COLUMNS, made_bars

PAST, FUTURE = 40, 6
FIRST = Interval.parse("1h").ts(480_000)
SYMBOLS = ("AAA", "BBB")


def tape(symbols: Sequence[str], interval: Interval) -> dict[str, list[Bar]]:
    """Every bar of every symbol, past and future, oldest first."""
    made = made_bars(PAST + FUTURE, len(symbols), seed=11)
    return {
        symbol: [
            Bar(FIRST + (k + 1) * interval.ns, *(float(made[c][k, i]) for c in COLUMNS))
            for k in range(PAST + FUTURE)
        ]
        for i, symbol in enumerate(symbols)
    }


class Line:
    """What the sources are connected by: it can be cut."""

    def __init__(self) -> None:
        self.cuts = 0

    def connect(self) -> int:
        return self.cuts

    def check(self, connection: int) -> None:
        """Raises ConnectionError if the line was cut since it was connected."""
        if connection != self.cuts:
            raise ConnectionError("the line was cut")


LINE = Line()


class TapeClock:
    """Stands where the stream is."""

    def __init__(self, now: int) -> None:
        self.time = now

    def now(self) -> int:
        return self.time

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class TapeSource(DataSource):
    """Plays a made-up tape: the past by history, the rest by the stream. Correct."""

    class Params(BaseParams):
        """What to play."""

        universe: tuple[str, ...] = Field(("AAA", "BBB"), min_length=1, description="symbols")
        interval: str = Field("1h", description="length of a bar", pattern="^[1-9][0-9]*[mhd]$")

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self.interval = Interval.parse(params.interval)
        self.clock = TapeClock(FIRST + PAST * self.interval.ns)
        self.bars: dict[str, list[Bar]] | None = None

    async def find_clock(self) -> Any:
        return self.clock

    async def open(self, context: SourceContext) -> None:
        self.know(self.params.universe)
        self.bars = tape(self.params.universe, self.interval)

    def know(self, symbols: Sequence[str]) -> None:
        """Refuse symbols that no tape has."""
        for symbol in symbols:
            if symbol not in SYMBOLS:
                raise SourceError("AF5003", f"there is no symbol {symbol!r}", f"known: {', '.join(SYMBOLS)}")

    def opened(self) -> dict[str, list[Bar]]:
        if self.bars is None:
            raise SourceError("AF5008", "the source is not open", "call open first")
        return self.bars

    def closing(self, bar: Bar) -> Bar:
        """The bar as the stream tells it."""
        return bar

    async def stream(self) -> AsyncIterator[MarketEvent]:
        while True:
            try:
                async for event in self.connected():
                    yield event
            except ConnectionError:
                await asyncio.sleep(0)

    async def connected(self) -> AsyncIterator[MarketEvent]:
        """Events of one connection, from where the clock stands. Raises ConnectionError when it is lost."""
        bars, connection = self.opened(), LINE.connect()
        for k in range((self.clock.time - FIRST) // self.interval.ns, PAST + FUTURE):
            LINE.check(connection)
            for symbol in self.params.universe:
                bar = bars[symbol][k]
                half = bar._replace(close=(bar.open + bar.close) / 2)
                yield MarketEvent(BAR_CLOSE, symbol, bar.ts, half)
                await asyncio.sleep(0)
            for symbol in self.params.universe:
                bar = self.closing(bars[symbol][k])
                self.clock.time = max(self.clock.time, bar.ts)
                yield MarketEvent(BAR_CLOSE, symbol, bar.ts, bar, closed=True)
        await asyncio.Event().wait()

    def chosen(self, symbol: str, start: int, end: int) -> list[Bar]:
        """What history answers for one symbol."""
        return [b for b in self.opened()[symbol] if start < b.ts <= min(end, self.clock.time)]

    async def history(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        for symbol in symbols:
            chosen = self.chosen(symbol, start, end)
            await asyncio.sleep(0)
            columns: list[Any] = [
                np.array(c, dtype=float) for c in zip(*(b[1:] for b in chosen), strict=True)
            ]
            if chosen:
                yield BarBlock(symbol, np.array([b.ts for b in chosen]), *columns)

    async def close(self) -> None:
        self.bars = None


class IncludesStart(TapeSource):
    """Takes start for included."""

    def chosen(self, symbol: str, start: int, end: int) -> list[Bar]:
        return [b for b in self.opened()[symbol] if start <= b.ts <= min(end, self.clock.time)]


class DropsEveryTenthBar(TapeSource):
    """Loses the bar where its pages meet."""

    def chosen(self, symbol: str, start: int, end: int) -> list[Bar]:
        return [b for b in super().chosen(symbol, start, end) if (b.ts - FIRST) // self.interval.ns % 10]


class ForgetsFirstPage(TapeSource):
    """Answers a long range from its first bar on, and a short one from its second."""

    def chosen(self, symbol: str, start: int, end: int) -> list[Bar]:
        found = super().chosen(symbol, start, end)
        return found if len(found) > PAST * 0.8 else found[1:]


class RepeatsClosedBar(TapeSource):
    """Streams every closed bar twice, as two connections would."""

    async def stream(self) -> AsyncIterator[MarketEvent]:
        async for event in super().stream():
            yield event
            if event.closed:
                yield event


class ClosesBarInProgress(TapeSource):
    """Tells the bar in progress as closed."""

    def closing(self, bar: Bar) -> Bar:
        return bar._replace(close=(bar.open + bar.close) / 2)


class HistoryRevisesStream(TapeSource):
    """History gives other values for what was streamed."""

    def chosen(self, symbol: str, start: int, end: int) -> list[Bar]:
        last = FIRST + PAST * self.interval.ns
        return [
            b if b.ts <= last else b._replace(volume=b.volume + 1) for b in super().chosen(symbol, start, end)
        ]


class LeavesTaskRunning(TapeSource):
    """Starts a task that nobody ends."""

    async def open(self, context: SourceContext) -> None:
        await super().open(context)
        self.beat: Any = None

    async def stream(self) -> AsyncIterator[MarketEvent]:
        self.beat = asyncio.create_task(asyncio.Event().wait(), name="heartbeat")
        async for event in super().stream():
            yield event


class AnswersAfterClose(TapeSource):
    """Goes on answering when it is closed."""

    async def close(self) -> None:
        pass


class SharesOneCursor(TapeSource):
    """Keeps the range of the last call: calls beside each other mix up."""

    async def history(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        self.left = list(symbols)
        while self.left:
            symbol = self.left.pop(0)
            async for block in super().history([symbol], start, end):
                yield block


class AnswersForAllSymbols(TapeSource):
    """Gives the whole universe whatever it is asked for."""

    async def history(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        async for block in super().history(self.params.universe, start, end):
            yield block


class HistoryHasBarInProgress(TapeSource):
    """Ends history with the bar that is still open, as exchanges' own answers do."""

    def chosen(self, symbol: str, start: int, end: int) -> list[Bar]:
        found = super().chosen(symbol, start, end)
        following = [b for b in self.opened()[symbol] if start < b.ts <= end and b.ts > self.clock.time][:1]
        return [*found, *(b._replace(close=b.open, volume=b.volume / 2) for b in following)]


class EndsWithItsConnection(TapeSource):
    """Ends the stream when the connection is lost, as if there were nothing more."""

    async def stream(self) -> AsyncIterator[MarketEvent]:
        closes = 0
        async for event in super().stream():
            yield event
            closes += event.closed
            if closes == 4:
                return


class EndsWhenCut(TapeSource):
    """Takes a lost connection for the end of the stream."""

    async def stream(self) -> AsyncIterator[MarketEvent]:
        with contextlib.suppress(ConnectionError):
            async for event in self.connected():
                yield event


class RaisesWhenCut(TapeSource):
    """Leaves it to others to connect again."""

    async def stream(self) -> AsyncIterator[MarketEvent]:
        async for event in self.connected():
            yield event


class TaskSinceOpen(TapeSource):
    """Starts a task when it is opened, and forgets it."""

    async def open(self, context: SourceContext) -> None:
        await super().open(context)
        self.beat = asyncio.create_task(asyncio.Event().wait(), name="keeps alive")


class ClosesOnce(TapeSource):
    """Can't be closed a second time."""

    async def close(self) -> None:
        if self.bars is None and self.was_open:
            raise RuntimeError("closed already")
        await super().close()

    was_open = False

    async def open(self, context: SourceContext) -> None:
        await super().open(context)
        self.was_open = True


class SleepsBetweenPages(TapeSource):
    """Spares the server by a sleep in which nobody else can work."""

    def chosen(self, symbol: str, start: int, end: int) -> list[Bar]:
        time.sleep(0.002)
        return super().chosen(symbol, start, end)


class TakesAnySymbol(TapeSource):
    """Takes a misspelt symbol, of which no bar will ever come."""

    def know(self, symbols: Sequence[str]) -> None:
        pass


class TapeCase(DataSourceConformance):
    """The case of a zoo source."""

    @contextlib.contextmanager
    def running(self, tmp_path: Path) -> Iterator[Mapping[str, Any]]:
        yield {"universe": SYMBOLS, "interval": "1h"}

    def truth(self, params: Mapping[str, Any]) -> Iterable[tuple[str, Bar]]:
        return [(s, b) for s, bars in tape(params["universe"], Interval.parse("1h")).items() for b in bars]

    def disconnect(self, params: Mapping[str, Any]) -> None:
        LINE.cuts += 1


def _case(source: type[DataSource]) -> type[Conformance]:
    return type(f"{source.__name__}Case", (TapeCase,), {"plugin": source, "__module__": __name__})


BROKEN: tuple[Specimen, ...] = (
    Specimen(_case(IncludesStart), "AF-D01", "start < ts <= end"),
    Specimen(_case(AnswersForAllSymbols), "AF-D01", "asked for BBB, got AAA"),
    Specimen(_case(DropsEveryTenthBar), "AF-D02", "is missing"),
    Specimen(_case(HistoryHasBarInProgress), "AF-D02", "the bar in progress of AAA"),
    Specimen(_case(ForgetsFirstPage), "AF-D03", "together"),
    Specimen(_case(RepeatsClosedBar), "AF-D04", "came twice"),
    Specimen(_case(ClosesBarInProgress), "AF-D05", "close is"),
    Specimen(_case(EndsWithItsConnection), "AF-D05", "a stream that ends by itself"),
    Specimen(_case(HistoryRevisesStream), "AF-D06", "from history and from the stream"),
    Specimen(_case(LeavesTaskRunning), "AF-D07", "heartbeat"),
    Specimen(_case(TaskSinceOpen), "AF-D07", "keeps alive"),
    Specimen(_case(ClosesOnce), "AF-D08", "the second raised RuntimeError"),
    Specimen(_case(AnswersAfterClose), "AF-D08", "it answered"),
    Specimen(_case(SharesOneCursor), "AF-D09", "beside"),
    Specimen(_case(SleepsBetweenPages), "AF-D10", "time.sleep(0.002)"),
    Specimen(_case(TakesAnySymbol), "AF-D11", "'QXAAA' was taken"),
    Specimen(_case(EndsWhenCut), "AF-D12", "it ended when its connection was cut"),
    Specimen(_case(RaisesWhenCut), "AF-D12", "it raised ConnectionError"),
)
CORRECT: tuple[type[Conformance], ...] = (_case(TapeSource),)
