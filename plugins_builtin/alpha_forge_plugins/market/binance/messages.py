"""WebSocket messages: bytes in, `MarketEvent`s and control messages out. No I/O, no clock.

A frame of a bar in progress is told from a closed one by a byte test before anything is decoded, and most of
these are shed right there: 500 symbols push some 2,000 a second, of which one in 14,000 closes a bar of 1h.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from alpha_forge_sdk import BAR_CLOSE, Bar, Interval, MarketEvent

MS = 1_000_000
_LATEST = 4_102_444_800_000  # 2100-01-01: a bar that opens later is a torn number
_NAME_AT = len(b'{"stream":"')
_OPEN = b'"x":false'
_OPEN_AFTER = 100  # it stands behind a name, two times and five numbers
_START = b'"t":'

_KEYS = {
    "start": "t",
    "name": "i",
    "open": "o",
    "high": "h",
    "low": "l",
    "close": "c",
    "volume": "v",
    "closed": "x",
}


class _Kline(msgspec.Struct, gc=False, rename=_KEYS):
    start: int
    name: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    closed: bool


class _Payload(msgspec.Struct, gc=False, rename={"event": "e", "symbol": "s", "kline": "k"}):
    event: str = ""
    symbol: str = ""
    kline: _Kline | None = None


class _Frame(_Payload, gc=False):
    """Either form: combined, ``{"stream": name, "data": payload}``, or the payload itself."""

    data: _Payload | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to a request. It proves nothing: names that don't exist are acknowledged too."""

    id: object


@dataclass(frozen=True, slots=True)
class Refusal:
    """The exchange refused a request; it usually disconnects next."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The server announces that it will go away."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A sound message of a kind that nobody here asked for: exchanges add such without notice."""

    event: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A frame that is no bar of ours. ``reason`` says why."""

    reason: str


Control = Ack | Refusal | Shutdown | Foreign | Unreadable


class Stream:
    """What is known of one subscribed stream; times are seconds of the caller's monotonic clock.

    ``start`` is the open time, as it was sent, of the bar whose frames are being shed until ``due``.
    """

    __slots__ = ("due", "seen", "start", "symbol")

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.seen: float | None = None
        self.start = b""
        self.due = -math.inf


def stream_name(symbol: str, interval: str) -> str:
    """``BTCUSDT`` → ``btcusdt@kline_1h``. Lower case only: upper case is acknowledged and silent."""
    return f"{symbol.lower()}@kline_{interval}"


class FrameDecoder:
    """Reads the frames of one connection's streams.

    ``streams`` maps each stream's name (bytes) to its `Stream`. What wasn't asked for is `Unreadable`.
    """

    def __init__(self, symbols: Iterable[str], interval: Interval, every: float = 1.0) -> None:
        self._interval = interval
        self._every = every
        self.streams = {stream_name(symbol, interval.name).encode(): Stream(symbol) for symbol in symbols}
        self._by_symbol = {stream.symbol: stream for stream in self.streams.values()}
        # strict=False: prices are strings on the wire and floats here.
        self._frame = msgspec.json.Decoder(_Frame, strict=False)

    def read(self, frame: bytes, now: float) -> MarketEvent | Control | None:
        """One frame → an event, a control message, or None for a bar in progress that nobody needs.

        A bar is an event only if its symbol and interval were asked for, it opens on the grid, and its values
        are finite; anything else is `Unreadable`. It is closed only if the exchange says ``x: true``.

        Of a bar in progress the first frame passes, so that who listens learns at once that a new bar runs,
        and after that one in ``every`` seconds, as a sign of life: its prices are used by nobody.
        """
        stream = self.streams.get(frame[_NAME_AT : frame.find(b'"', _NAME_AT)])
        if stream is not None:
            stream.seen = now
            if frame.find(_OPEN, _OPEN_AFTER) >= 0:
                at = frame.find(_START, 40)
                start = frame[at + 4 : at + 17]
                if now < stream.due and start == stream.start:
                    return None
                stream.start = start
                stream.due = now + self._every
        try:
            message = self._frame.decode(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _control(frame, str(error))
        payload = message.data or message
        if payload.event != "kline" or payload.kline is None:
            return _control(frame, f"a {payload.event or 'message'} without a kline")
        return self._bar(payload.symbol, payload.kline, now)

    def _bar(self, symbol: str, kline: _Kline, now: float) -> MarketEvent | Unreadable:
        stream = self._by_symbol.get(symbol)
        if stream is None:
            return Unreadable(f"symbol {symbol!r} was not subscribed")
        interval = self._interval
        if kline.name != interval.name:
            return Unreadable(f"{symbol}: interval {kline.name!r} was not subscribed")
        if not 0 <= kline.start < _LATEST:
            return Unreadable(f"{symbol}: a bar opens at {kline.start}, which is no time in ms")
        ts = kline.start * MS + interval.ns
        if (ts - interval.offset) % interval.ns:
            return Unreadable(f"{symbol}: a bar opens at {kline.start}, off the grid of {interval}")
        bar = Bar(ts, kline.open, kline.high, kline.low, kline.close, kline.volume)
        # A sum is finite exactly if all its terms are (prices are far from overflow).
        if not math.isfinite(bar.open + bar.high + bar.low + bar.close + bar.volume):
            return Unreadable(f"{symbol}: a value is not finite in the bar that opens at {kline.start}")
        # Where a name is escaped in the JSON the envelope did not tell the stream.
        stream.seen = now
        return MarketEvent(BAR_CLOSE, symbol, ts, bar, kline.closed, "stream")


def _control(frame: bytes, reason: str) -> Control:
    """What is not a kline: answers, refusals in both forms that are seen, announcements."""
    try:
        message = json.loads(frame)
    except (ValueError, RecursionError):
        return Unreadable(f"not JSON: {frame[:80]!r}")
    if not isinstance(message, dict):
        return Unreadable(f"not an object: {frame[:80]!r}")
    error = message.get("error", message)
    if isinstance(error, dict) and type(error.get("code")) is int:
        return Refusal(error["code"], str(error.get("msg", "")))
    if "id" in message:
        return Ack(message["id"])
    payload = message.get("data", message)
    event = payload.get("e") if isinstance(payload, dict) else None
    if event == "serverShutdown":
        return Shutdown()
    if isinstance(event, str) and event != "kline":
        return Foreign(event)
    return Unreadable(f"{reason}: {frame[:80]!r}")


def request(method: str, names: Iterable[str], number: int) -> str:
    """The text of a SUBSCRIBE or UNSUBSCRIBE."""
    return json.dumps({"method": method, "params": list(names), "id": number})
