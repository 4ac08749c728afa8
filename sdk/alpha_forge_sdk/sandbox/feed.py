"""What the exchange pushes and when: a pure function of market, subscriptions and time.

Every bar of a stream is closed exactly once, in the order of the event times over all streams; between the
closes the bar in progress is shown at most every `spacing`, and only if it has changed. The feed keeps no
connections: the server asks for what is due and hands it to whoever subscribed.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from typing import Final

from alpha_forge_sdk.sandbox.bars import OPEN_TIME, TRADES
from alpha_forge_sdk.sandbox.intervals import floor_ms, next_ms
from alpha_forge_sdk.sandbox.market import Market
from alpha_forge_sdk.sandbox.payloads import StreamSpec, event_text
from alpha_forge_sdk.sandbox.venue import USDM, Venue

#: A close is published so many exchange milliseconds after the end of its bar.
CLOSE_DELAY_MS: Final = 4

#: Real milliseconds between two pushes of a bar in progress at least; the venue has those of the exchange.
PUSH_EVERY_REAL_MS: Final = 100


@dataclass(frozen=True, slots=True)
class Push:
    """One message of one stream. `text` is the raw payload, without the combined wrapper; `open_ms`, `symbol` and
    `interval` are those of its bar, if it is about one."""

    stream: str
    text: str
    event_ms: int
    closed: bool
    open_ms: int = 0
    symbol: str = ""
    interval: str = ""


@dataclass(slots=True)
class _Live:
    """A subscribed stream and the bar it is in."""

    spec: StreamSpec
    open_ms: int
    shown: tuple[int, int] = (-1, -1)
    wanted: bool = True


class Feed:
    """The pushes of all wanted streams, as exchange time goes on.

    `position_ms` is the instant up to which everything due has been returned. `speed` sets how far apart in
    exchange time the pushes of a bar in progress are, so that a fast clock doesn't drown its clients.
    """

    def __init__(self, market: Market, position_ms: float, speed: float, venue: Venue = USDM) -> None:
        self._market = market
        self._places = venue.places
        self._position = position_ms
        self._spacing = max(float(venue.push_every_ms), PUSH_EVERY_REAL_MS * speed)
        self._next_show = position_ms
        self._live: dict[str, _Live] = {}
        self._closes: list[tuple[int, int, _Live]] = []
        self._order = itertools.count()

    @property
    def position_ms(self) -> float:
        """The instant up to which everything due has been returned."""
        return self._position

    def want(self, spec: StreamSpec) -> None:
        """Push this stream from now on. Call `advance` to the present first: nothing older is replayed."""
        if spec.name not in self._live:
            # The first close is that of the bar in progress: a bar that has ended is history, published or
            # not.
            live = _Live(spec, floor_ms(math.floor(self._position), spec.interval))
            self._live[spec.name] = live
            self._schedule(live)

    def unwant(self, name: str) -> None:
        """Push this stream no longer."""
        live = self._live.pop(name, None)
        if live is not None:
            live.wanted = False

    def next_due_ms(self) -> float:
        """Exchange time at which something may have to be pushed; infinite while no stream is wanted."""
        if not self._live:
            return math.inf
        return min(self._next_show, float(self._closes[0][0]))

    def advance(self, now_ms: float, limit: int = 2000) -> list[Push]:
        """Everything due up to `now_ms`, in order of event time, at most `limit` closes.

        When the limit is reached `position_ms` stays behind `now_ms`: call again. The bars in progress are
        shown only once all closes before them are out.
        """
        pushes: list[Push] = []
        taken = 0
        while self._closes and self._closes[0][0] <= now_ms:
            if taken == limit:
                return pushes
            due, _, live = heapq.heappop(self._closes)
            if live.wanted:
                taken += 1
                self._position = max(self._position, float(due))
                self._close(live, due, pushes)
        self._position = max(self._position, now_ms)
        if self._live and now_ms >= self._next_show:
            self._next_show = now_ms + self._spacing
            self._show(now_ms, pushes)
        return pushes

    def _schedule(self, live: _Live) -> None:
        due = next_ms(live.open_ms, live.spec.interval) + CLOSE_DELAY_MS
        heapq.heappush(self._closes, (due, next(self._order), live))

    def _close(self, live: _Live, due: int, pushes: list[Push]) -> None:
        spec = live.spec
        bar = self._market.bars(spec.symbol, spec.interval, live.open_ms, live.open_ms + 1)
        if bar.shape[1]:
            text = event_text(spec, self._market.instrument(spec.symbol), bar, due, True, self._places)
            pushes.append(Push(spec.name, text, due, True, live.open_ms, spec.symbol, spec.interval))
        live.open_ms = next_ms(live.open_ms, spec.interval)
        self._schedule(live)

    def _show(self, now_ms: float, pushes: list[Push]) -> None:
        event_ms = math.floor(now_ms)
        for live in self._live.values():
            spec = live.spec
            bar = self._market.progress(spec.symbol, spec.interval, now_ms)
            # A bar that follows one whose close is not published yet is not shown.
            if bar is None or int(bar[OPEN_TIME, 0]) != live.open_ms:
                continue
            shown = (live.open_ms, int(bar[TRADES, 0]))
            if shown != live.shown:
                live.shown = shown
                instrument = self._market.instrument(spec.symbol)
                text = event_text(spec, instrument, bar, event_ms, False, self._places)
                pushes.append(
                    Push(spec.name, text, event_ms, False, live.open_ms, spec.symbol, spec.interval)
                )
