"""Data sources that are wrong while all goes well: each breaks one promise of AF-D01 … AF-D12."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from alpha_forge.contracts.plugin import SourceContext
from alpha_forge.contracts.types import Bar, BarBlock, MarketEvent
from alpha_forge_sdk.conformance.zoo import Specimen
from alpha_forge_sdk.conformance.zoo.source_exchange import FIRST, HOUR, PAST
from alpha_forge_sdk.conformance.zoo.source_tape import TapeSource, case_of


class IncludesStart(TapeSource):
    """Takes start for included."""

    def chosen(self, symbol: str, bars: list[Bar], start: int, end: int) -> list[Bar]:
        return [b for b in bars if start <= b.ts <= min(end, self.opened().time())]


class DropsEveryTenthBar(TapeSource):
    """Loses the bar where its pages meet."""

    def chosen(self, symbol: str, bars: list[Bar], start: int, end: int) -> list[Bar]:
        return [b for b in super().chosen(symbol, bars, start, end) if (b.ts - FIRST) // HOUR.ns % 10]


class ForgetsFirstPage(TapeSource):
    """Answers a long range from its first bar on, and a short one from its second."""

    def chosen(self, symbol: str, bars: list[Bar], start: int, end: int) -> list[Bar]:
        found = super().chosen(symbol, bars, start, end)
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

    def events(self, symbol: str, bar: Bar, closed: bool) -> Iterator[MarketEvent]:
        half = bar._replace(close=(bar.open + bar.close) / 2)
        return super().events(symbol, half if closed else bar, closed)


class HistoryRevisesStream(TapeSource):
    """History gives other values for what was streamed."""

    def chosen(self, symbol: str, bars: list[Bar], start: int, end: int) -> list[Bar]:
        last = FIRST + PAST * HOUR.ns
        return [
            b if b.ts <= last else b._replace(volume=b.volume + 1)
            for b in super().chosen(symbol, bars, start, end)
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

    def chosen(self, symbol: str, bars: list[Bar], start: int, end: int) -> list[Bar]:
        return [b for b in bars if start < b.ts <= end]


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


class LeavesConnectionOpen(TapeSource):
    """Leaves a connection to the garbage collector."""

    async def open(self, context: SourceContext) -> None:
        await super().open(context)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.line = socket.socket()
        self.line.setblocking(False)
        await asyncio.get_running_loop().sock_connect(self.line, self.listener.getsockname())

    def __del__(self) -> None:
        if hasattr(self, "line"):
            self.line.close()
            self.listener.close()


class TaskSinceOpen(TapeSource):
    """Starts a task when it is opened, and forgets it."""

    async def open(self, context: SourceContext) -> None:
        await super().open(context)
        self.beat = asyncio.create_task(asyncio.Event().wait(), name="keeps alive")


class ClosesOnce(TapeSource):
    """Can't be closed a second time."""

    async def close(self) -> None:
        if self.exchange is None and self.was_open:
            raise RuntimeError("closed already")
        await super().close()

    was_open = False

    async def open(self, context: SourceContext) -> None:
        await super().open(context)
        self.was_open = True


class SleepsBetweenPages(TapeSource):
    """Spares the server by a sleep in which nobody else can work."""

    def chosen(self, symbol: str, bars: list[Bar], start: int, end: int) -> list[Bar]:
        time.sleep(0.002)
        return super().chosen(symbol, bars, start, end)


class TakesAnySymbol(TapeSource):
    """Takes a misspelt symbol, of which no bar will ever come."""

    def know(self, symbols: Sequence[str]) -> None:
        pass


BROKEN: tuple[Specimen, ...] = (
    Specimen(case_of(IncludesStart), "AF-D01", "start < ts <= end"),
    Specimen(case_of(AnswersForAllSymbols), "AF-D01", "asked for BBB, got AAA"),
    Specimen(case_of(DropsEveryTenthBar), "AF-D02", "is missing"),
    Specimen(case_of(HistoryHasBarInProgress), "AF-D02", "the bar in progress of AAA"),
    Specimen(case_of(ForgetsFirstPage), "AF-D03", "together"),
    Specimen(case_of(RepeatsClosedBar), "AF-D04", "came twice"),
    Specimen(case_of(ClosesBarInProgress), "AF-D05", "close is"),
    Specimen(case_of(EndsWithItsConnection), "AF-D05", "a stream that ends by itself"),
    Specimen(case_of(HistoryRevisesStream), "AF-D06", "from history and from the stream"),
    Specimen(case_of(LeavesTaskRunning), "AF-D07", "heartbeat"),
    Specimen(case_of(LeavesConnectionOpen), "AF-D07", "one to ('127.0.0.1', "),
    Specimen(case_of(TaskSinceOpen), "AF-D07", "keeps alive"),
    Specimen(case_of(ClosesOnce), "AF-D08", "the second raised RuntimeError"),
    Specimen(case_of(AnswersAfterClose), "AF-D08", "it answered"),
    Specimen(case_of(SharesOneCursor), "AF-D09", "beside"),
    Specimen(case_of(SleepsBetweenPages), "AF-D10", "time.sleep(0.002)"),
    Specimen(case_of(TakesAnySymbol), "AF-D11", "'QXAAA' was taken"),
    Specimen(case_of(EndsWhenCut), "AF-D12", "it ended when its connection was cut"),
    Specimen(case_of(RaisesWhenCut), "AF-D12", "it raised ConnectionError"),
)
