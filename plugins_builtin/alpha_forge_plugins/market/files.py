"""`data.files`: recorded bars from feather, parquet and CSV, as history and as a stream in event time."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from alpha_forge_plugins.market import recorded
from alpha_forge_plugins.market.universe import Universe
from alpha_forge_sdk import (
    BAR_CLOSE,
    Bar,
    BarBlock,
    Clock,
    DataSource,
    Interval,
    MarketEvent,
    Params,
    SourceContext,
    SourceError,
)

if TYPE_CHECKING:
    from alpha_forge_plugins.market.recorded import Recording

log = logging.getLogger(__name__)

_CHUNK = 4096  # rows that become Python objects at a time; bounds memory, not results
_STREAMED = 10  # the last tenth is streamed by default


def _known_interval(text: str) -> str:
    Interval.parse(text)
    return text


def _aware(moment: datetime | None) -> datetime | None:
    if moment is not None and moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; write {moment.isoformat()}Z for UTC")
    return moment


class EventClock:
    """A clock that stands at the close of the last bar emitted. Deterministic: no real time enters.

    `sleep` returns once an event has carried the clock far enough. After `release` it returns at once: no
    event will come any more.
    """

    def __init__(self) -> None:
        self._now = 0
        self._count = 0  # breaks ties, so that futures are never compared
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._released = False

    def now(self) -> int:
        return self._now

    async def sleep(self, seconds: float) -> None:
        until = self._now + int(max(0.0, seconds) * 1e9)
        if self._released or until <= self._now:
            await asyncio.sleep(0)
            return
        waker = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (until, self._count, waker))
        await waker

    def advance(self, ts: int) -> bool:
        """Move to `ts`, never back, and wake who waited for it; True if anybody did."""
        self._now = max(self._now, ts)
        woken = False
        while self._sleepers and self._sleepers[0][0] <= self._now:
            woken |= self._wake(heapq.heappop(self._sleepers)[2])
        return woken

    def release(self) -> None:
        """Wake everybody: the recording is over."""
        self._released = True
        while self._sleepers:
            self._wake(heapq.heappop(self._sleepers)[2])

    @staticmethod
    def _wake(waker: asyncio.Future[None]) -> bool:
        if waker.done():  # cancelled meanwhile
            return False
        waker.set_result(None)
        return True


class Files(DataSource):
    """Recorded bars from feather, parquet or CSV files: history, then a stream in event time that ends."""

    class Params(Params):
        path: str = Field(
            min_length=1,
            description="directory of files named like BTCUSDT-1h.feather, BTC_USDT_1h.csv.gz or "
            "BTCUSDT-1h-2023-01.csv, or a pattern with {symbol}, and if wanted {interval} and *",
        )
        universe: Universe
        interval: Annotated[str, AfterValidator(_known_interval)] = Field(
            description="length of a bar, for example 15m, 1h or 1d"
        )
        stream_from: Annotated[datetime | None, AfterValidator(_aware)] = Field(
            None,
            description="instant with time zone: bars that close later are streamed, the others are history; "
            "default: the last tenth of the range that all symbols have is streamed",
        )

    examples: ClassVar[Sequence[Mapping[str, Any]]] = (
        {"path": "data/klines", "universe": ["BTCUSDT", "ETHUSDT"], "interval": "1h"},
        {
            "path": "data/{symbol}-{interval}-*.csv",
            "universe": ["BTCUSDT"],
            "interval": "15m",
            "stream_from": "2026-01-05T00:00:00Z",
        },
    )

    params: Params

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._interval = Interval.parse(params.interval)
        self._clock = EventClock()
        self._recordings: dict[str, Recording] | None = None
        self._boundary = 0

    async def find_clock(self) -> Clock | None:
        """The clock of the recording: it stands at the last bar emitted, at first where history ends."""
        await self._load()
        return self._clock

    async def open(self, context: SourceContext) -> None:
        """Read every file. Raises SourceError AF5010 to AF5017 for what is missing, ambiguous or damaged."""
        await self._load()

    async def _load(self) -> None:
        if self._recordings is not None:
            return
        params = self.params
        found = await asyncio.to_thread(recorded.find, params.path, params.universe, self._interval)
        recordings: dict[str, Recording] = {}
        for symbol, files in found.items():
            recordings[symbol] = await asyncio.to_thread(recorded.read, symbol, files, self._interval)
        self._boundary = self._split(recordings)
        self._recordings = recordings
        self._clock.advance(self._boundary)

    def _split(self, recordings: Mapping[str, Recording]) -> int:
        """The close at which history ends: the last not after ``stream_from``, or at nine tenths."""
        empty = [symbol for symbol, recording in recordings.items() if not len(recording.ts)]
        if empty:
            raise SourceError(
                "AF5017",
                f"{self.params.path}: no bar in the files of {', '.join(empty[:10])}",
                "fetch them again",
            )
        if self.params.stream_from is not None:
            since = self.params.stream_from - datetime(1970, 1, 1, tzinfo=UTC)
            ns = ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000
            return self._interval.floor(ns)
        first = max(int(recording.ts[0]) for recording in recordings.values())
        last = min(int(recording.ts[-1]) for recording in recordings.values())
        if last <= first:
            raise SourceError(
                "AF5017",
                f"{self.params.path}: the symbols have no range of time in common",
                "set stream_from to say where the stream begins, or take symbols recorded together",
            )
        return self._interval.floor(last - (last - first) // _STREAMED)

    def _opened(self) -> dict[str, Recording]:
        if self._recordings is None:
            raise SourceError(
                "AF5008", "the source is not open", "call open(context) first, and not after close()"
            )
        return self._recordings

    async def stream(self) -> AsyncIterator[MarketEvent]:
        """Closed bars after the end of history, oldest first, those of one close in the universe's order.

        As fast as they are taken; the last one ends the stream. The clock moves to a bar's close right before
        its first bar is handed out, and whoever waited for that instant runs first.
        """
        import numpy as np

        recordings = self._opened()
        sides = [(r, int(np.searchsorted(r.ts, self._boundary, "right"))) for r in recordings.values()]
        ts = np.concatenate([r.ts[i:] for r, i in sides])
        whose = np.repeat(np.arange(len(sides)), [len(r.ts) - i for r, i in sides])
        values = np.concatenate([r.values[:, i:] for r, i in sides], axis=1)
        order = np.lexsort((whose, ts))
        symbols = list(recordings)
        clock = self._clock
        for at in range(0, len(order), _CHUNK):
            chosen = order[at : at + _CHUNK]
            rows = zip(whose[chosen].tolist(), ts[chosen].tolist(), values[:, chosen].T.tolist(), strict=True)
            for position, close, (o, h, low, c, v) in rows:
                if close > clock.now() and clock.advance(close):
                    await asyncio.sleep(0)
                yield MarketEvent(
                    BAR_CLOSE, symbols[position], close, Bar(close, o, h, low, c, v), True, "file"
                )

    async def history(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        """Bars with ``start < ts <= end`` that have closed by the recording's clock: no future shows."""
        recordings = self._opened()
        end = min(end, self._clock.now())
        for symbol in symbols:
            recording = recordings.get(symbol)
            if recording is None:
                continue
            first, last = recording.ts.searchsorted([start, end], "right").tolist()
            if first < last:
                o, h, low, c, v = recording.values[:, first:last]
                yield BarBlock(symbol, recording.ts[first:last], o, h, low, c, v, "file")

    async def close(self) -> None:
        """Forget what was read, and let go whoever sleeps on the clock. Idempotent."""
        self._clock.release()
        self._recordings = None
