"""Data sources whose stream does not live through what goes wrong: each breaks one of AF-D13 … AF-D17."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from alpha_forge.contracts.types import BAR_CLOSE, Bar, MarketEvent
from alpha_forge_sdk.conformance.zoo import Specimen
from alpha_forge_sdk.conformance.zoo.source_tape import TapeSource, case_of


class GivesUpAfterThreeLosses(TapeSource):
    """Connects again, but counts."""

    async def stream(self) -> AsyncIterator[MarketEvent]:
        for _ in range(3):
            with contextlib.suppress(ConnectionError, TimeoutError):
                async for event in self.connected():
                    yield event
        raise ConnectionError("lost three times")


class RaisesWhenRefused(TapeSource):
    """Catches what ends a connection, and not what prevents the next one."""

    async def stream(self) -> AsyncIterator[MarketEvent]:
        while True:
            events = self.connected()
            yield await anext(events)
            with contextlib.suppress(ConnectionError, TimeoutError):
                async for event in events:
                    yield event
            await asyncio.sleep(0.001)


class WaitsOnSilentConnection(TapeSource):
    """Takes an open connection for one that lives."""

    silence = None


class BelievesAcknowledgement(TapeSource):
    """Takes every symbol that it has asked for as subscribed."""

    def listen(self, quiet: dict[str, int], told: dict[str, Any]) -> None:
        pass


class ChokesOnGarbage(TapeSource):
    """Parses whatever comes as if it were JSON."""

    def parsed(self, message: bytes) -> dict[str, Any] | None:
        json.loads(message)
        return super().parsed(message)


class ExpectsBarsOnly(TapeSource):
    """Takes every JSON object for a message about a bar."""

    def parsed(self, message: bytes) -> dict[str, Any] | None:
        try:
            told = json.loads(message)
        except ValueError:
            return None
        return {name: told[name] for name in ("symbol", "bar", "closed")} if isinstance(told, dict) else None


class RaisesAtLongMessage(TapeSource):
    """Bounds the size of a message, and leaves it to others what follows."""

    def parsed(self, message: bytes) -> dict[str, Any] | None:
        if len(message) > 100_000:
            raise ValueError(f"a message of {len(message):,} bytes")
        return super().parsed(message)


class ClosesWhenNextBegins(TapeSource):
    """Takes the last it knows of a bar for its close when the next bar begins."""

    async def connected(self) -> AsyncIterator[MarketEvent]:
        last: dict[str, Bar] = {}
        async for event in super().connected():
            before = last.get(event.symbol or "")
            if event.bar is not None and before is not None and before.ts < event.bar.ts:
                for closed in self.events(event.symbol or "", before, True):
                    yield closed
            if event.bar is not None:
                last[event.symbol or ""] = event.bar
            yield event


class PassesRepeatedClose(TapeSource):
    """Believes every close."""

    def events(self, symbol: str, bar: Bar, closed: bool) -> Iterator[MarketEvent]:
        yield MarketEvent(BAR_CLOSE, symbol, bar.ts, bar, closed)


class DropsSlowerSymbol(TapeSource):
    """Drops what is older than the newest bar of any symbol."""

    def events(self, symbol: str, bar: Bar, closed: bool) -> Iterator[MarketEvent]:
        if bar.ts >= max(self.newest.values(), default=0):
            yield from super().events(symbol, bar, closed)
            self.newest[symbol] = max(bar.ts - (not closed), self.newest.get(symbol, 0))


class RemembersInsteadOfAsking(TapeSource):
    """Answers from what it has streamed, as far as that goes back."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.streamed: dict[str, list[Bar]] = {}

    def events(self, symbol: str, bar: Bar, closed: bool) -> Iterator[MarketEvent]:
        for event in super().events(symbol, bar, closed):
            if closed:
                self.streamed.setdefault(symbol, []).append(bar)
            yield event

    def chosen(self, symbol: str, bars: list[Bar], start: int, end: int) -> list[Bar]:
        own = self.streamed.get(symbol, [])
        older = [b for b in super().chosen(symbol, bars, start, end) if not own or b.ts < own[0].ts]
        return older + [b for b in own if start < b.ts <= end]


BROKEN: tuple[Specimen, ...] = (
    Specimen(case_of(GivesUpAfterThreeLosses), "AF-D13", "raised ConnectionError: lost three times"),
    Specimen(case_of(RaisesWhenRefused), "AF-D13", "raised ConnectionError: refused"),
    Specimen(case_of(WaitsOnSilentConnection), "AF-D14", "came after stall"),
    Specimen(case_of(BelievesAcknowledgement), "AF-D14", "came after silent_subscription"),
    Specimen(case_of(ChokesOnGarbage), "AF-D15", "it raised JSONDecodeError"),
    Specimen(case_of(ExpectsBarsOnly), "AF-D15", "it raised KeyError: 'symbol'"),
    Specimen(case_of(RaisesAtLongMessage), "AF-D15", "the stream lives through oversized by itself"),
    Specimen(
        case_of(ClosesWhenNextBegins), "AF-D16", "with late_close a stream brings closed bars as they are"
    ),
    Specimen(case_of(PassesRepeatedClose), "AF-D16", "came twice"),
    Specimen(case_of(DropsSlowerSymbol), "AF-D16", "AAA"),
    Specimen(case_of(RemembersInsteadOfAsking), "AF-D17", "after disconnect history misses no bar"),
)
