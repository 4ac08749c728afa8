"""The exchange that the zoo's sources connect to: in this process, in a time of its own, and hostile on request.

It speaks as exchanges do: connections that push JSON messages, pages of past bars with the one in progress at their
end, files of past bars with their checksums, refusals that name an instant. Its time goes on with what is pushed and
with whoever sleeps on its clock, never by itself.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from alpha_forge.contracts.interval import Interval
from alpha_forge.contracts.types import Bar
from alpha_forge_sdk.conformance.faults import Injection
from alpha_forge_sdk.testing.bars import COLUMNS, made_bars

PAST, FUTURE = 40, 60
FILE = 10
"""Bars in a file; the last ones of the past are in none."""
HOUR = Interval.parse("1h")
FIRST = HOUR.ts(480_000)
SYMBOLS = ("AAA", "BBB")
NS = 1_000_000_000
LAG, BUSY, BAN, BEHIND = 20 * NS, 5 * NS, 3600 * NS, 90 * 60 * NS
"""How long history lacks the newest bar, a busy minute and a ban last, and by how much the clock handed in is ahead."""


def tape(symbols: Sequence[str]) -> dict[str, list[Bar]]:
    """Every bar of every symbol, past and future, oldest first."""
    made = made_bars(PAST + FUTURE, len(symbols), seed=11)
    return {
        symbol: [
            Bar(FIRST + (k + 1) * HOUR.ns, *(float(made[c][k, i]) for c in COLUMNS))
            for k in range(PAST + FUTURE)
        ]
        for i, symbol in enumerate(symbols)
    }


class ServerError(Exception):
    """The server is in trouble."""


@dataclass
class Refused(Exception):
    """Nothing is answered before `until`. ``banned``: and who asks sooner is refused for longer."""

    until: int
    banned: bool


@dataclass(frozen=True)
class Page:
    """Bars, and how many were sent: more than there are if the answer was cut off."""

    sent: int
    bars: list[Bar]


@dataclass(frozen=True)
class File:
    """A file of bars and the checksum that is told beside it."""

    body: bytes
    checksum: int


@dataclass
class Fault:
    """A fault in play: struck so often, and at most `times`."""

    times: int | None
    struck: int = 0
    over: bool = False

    def strikes(self) -> bool:
        if self.over or (self.times is not None and self.struck >= self.times):
            return False
        self.struck += 1
        return True

    def lift(self) -> None:
        self.over = True


class TapeClock:
    """Stands where the stream is, or where the last sleeper woke; ahead of the exchange's own if that is off."""

    def __init__(self, now: int) -> None:
        self.time = now
        self.ahead = 0

    def now(self) -> int:
        return self.time + self.ahead

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.time += round(seconds * NS)


@dataclass
class Exchange:
    """One exchange. ``violations`` counts requests during a ban."""

    bars: dict[str, list[Bar]] = field(default_factory=lambda: tape(SYMBOLS))
    clock: TapeClock = field(default_factory=lambda: TapeClock(FIRST + PAST * HOUR.ns))
    violations: int = 0

    def __post_init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        self._banned_until = 0
        self._busy_until = 0
        self.cuts = 0

    def inject(self, fault: str, times: int | None) -> Injection:
        made = self._faults[fault] = Fault(times)
        if fault == "clock_off":
            self.clock.ahead = BEHIND
            made.struck = 1
        return Injection(lambda: made.struck, made.lift)

    def strikes(self, fault: str) -> bool:
        found = self._faults.get(fault)
        return found is not None and found.strikes()

    # The stream.

    def connect(self) -> Connection:
        """Raises ConnectionError if it is refused."""
        if self.strikes("refused"):
            raise ConnectionError("refused")
        return Connection(self)

    # History.

    def time(self) -> int:
        """The exchange's own time, as anybody may ask for it."""
        return self.clock.time

    async def page(self, symbol: str, start: int, end: int) -> Page:
        """Bars that close in (start, end], and the one in progress. Raises ServerError or Refused."""
        await asyncio.sleep(0)
        now = self.clock.time
        if now < self._banned_until or self.strikes("banned"):
            self.violations += now < self._banned_until
            self._banned_until = now + BAN
            raise Refused(self._banned_until, True)
        if self.strikes("rate_limited"):
            self._busy_until = now + BUSY
        if now < self._busy_until:
            raise Refused(self._busy_until, False)
        if self.strikes("server_error"):
            raise ServerError("503")
        bars = [b for b in self.bars[symbol] if start < b.ts <= min(end, now)]
        if bars and bars[-1].ts > now - LAG and self.strikes("history_lag"):
            bars.pop()
        bars += [_half(b) for b in self.bars[symbol] if now < b.ts <= min(end, now + HOUR.ns)]
        sent = len(bars)
        return Page(sent, bars[: sent // 2] if self.strikes("truncated") else bars)

    def listing(self) -> list[tuple[int, int]]:
        """Number and last close of each file that was published, oldest first."""
        return [(n, FIRST + (n + 1) * FILE * HOUR.ns) for n in range(PAST // FILE - 1)]

    async def file(self, symbol: str, number: int) -> File:
        """Raises FileNotFoundError."""
        await asyncio.sleep(0)
        rows = [list(b) for b in self.bars[symbol][number * FILE : (number + 1) * FILE]]
        checksum = zlib.crc32(json.dumps(rows).encode())
        if self.strikes("missing_file"):
            raise FileNotFoundError(f"{symbol} {number}")
        if self.strikes("wrong_checksum"):
            rows[3][4] = rows[3][1]
        body = json.dumps(rows).encode()
        if self.strikes("corrupt_file"):
            body = body[: len(body) // 2]
            checksum = zlib.crc32(body)
        return File(body, checksum)


class Connection:
    """Pushes messages from where the exchange's time stands. It goes on as fast as it is read."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._symbols: list[str] = []
        self._silent: set[str] = set()
        self._cuts = exchange.cuts
        self._next = (exchange.clock.time - FIRST) // HOUR.ns
        self._waiting: deque[bytes | None] = deque()
        self._repeats: list[bytes] = []
        self._late: list[bytes] = []

    def subscribe(self, symbols: Sequence[str]) -> None:
        """Acknowledged at once."""
        for symbol in symbols:
            self._silent.discard(symbol)
            if self._exchange.strikes("silent_subscription"):
                self._silent.add(symbol)
            if symbol not in self._symbols:
                self._symbols.append(symbol)

    async def receive(self) -> bytes:
        """The next message. Raises ConnectionError when the connection is lost."""
        await asyncio.sleep(0)
        exchange = self._exchange
        if self._cuts != exchange.cuts:
            raise ConnectionError("cut")
        if not self._waiting:
            if self._next >= PAST + FUTURE:
                await asyncio.Event().wait()
            self._waiting.extend(self._messages(self._next))
            self._next += 1
        message = self._waiting.popleft()
        if message is None:
            raise ConnectionError("cut inside a message")
        told = _read(message)
        if told is not None and told["closed"]:
            exchange.clock.time = max(exchange.clock.time, told["bar"][0])
            if exchange.strikes("stall"):
                await asyncio.Event().wait()
        return message

    def _messages(self, k: int) -> Iterator[bytes | None]:
        """Everything that is told of bar `k`; None is the end of the connection."""
        exchange = self._exchange
        heard = [s for s in self._symbols if s not in self._silent]
        for symbol in heard:
            yield message(symbol, _half(exchange.bars[symbol][k]), closed=False)
        # What was held back comes when the next bar has begun; repetitions, too.
        yield from (*self._late, *self._repeats)
        self._late, self._repeats = [], []
        for symbol in heard:
            close = message(symbol, exchange.bars[symbol][k], closed=True)
            yield from self._told(symbol, close, exchange.bars[symbol][k].ts)

    def _told(self, symbol: str, close: bytes, ts: int) -> Iterator[bytes | None]:
        strikes = self._exchange.strikes
        if strikes("disconnect"):
            self._exchange.clock.time = max(self._exchange.clock.time, ts)
            yield None
        if strikes("garbage"):
            yield (close[: len(close) // 2], b"\xff\xfe", b'{"type":"news"}', b"[1]")[len(close) % 4]
        if strikes("oversized"):
            yield json.dumps({"padding": "0" * 200_000}).encode()
        if strikes("missing_close"):
            return
        if symbol == SYMBOLS[0] and (strikes("late_close") or strikes("out_of_order")):
            self._late.append(close)
            return
        yield close
        if strikes("duplicate_close"):
            self._repeats.append(close)
            yield close


def message(symbol: str, bar: Bar, *, closed: bool) -> bytes:
    return json.dumps({"symbol": symbol, "bar": list(bar), "closed": closed}).encode()


def _read(text: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(text)
    except ValueError:
        return None
    return told if isinstance(told, dict) and "bar" in told else None


def _half(bar: Bar) -> Bar:
    """The bar when half of it has passed."""
    return bar._replace(close=(bar.open + bar.close) / 2, volume=bar.volume / 2)


_running: dict[str, Exchange] = {}
_names = count(1)


@contextmanager
def running_exchange() -> Iterator[tuple[str, Exchange]]:
    """A new exchange and the address that it is found by."""
    name = f"zoo://{next(_names)}"
    _running[name] = Exchange()
    try:
        yield name, _running[name]
    finally:
        del _running[name]


def exchange_at(address: str) -> Exchange:
    """Raises ConnectionError if there is none."""
    try:
        return _running[address]
    except KeyError:
        raise ConnectionError(f"nothing listens at {address}") from None
