"""A simulated exchange for `Shard`: no sockets, no real time; every instant is the simulation's own.

Its rules are written down from the exchange's documentation, not from the client: streams are what SUBSCRIBE and the
URL name, an acknowledgement promises nothing, nothing is replayed.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from alpha_forge_plugins.market.binance.connects import ConnectBudget
from alpha_forge_plugins.market.binance.session import Patience
from alpha_forge_plugins.market.binance.shard import (
    Announce,
    Connect,
    Drop,
    Fail,
    Failure,
    Life,
    Send,
    Shard,
)
from alpha_forge_sdk import Interval, MarketEvent

MINUTE_MS = 60_000
EPOCH_MS = 1_767_573_000_000
LATENCY = 0.05


@dataclass
class Wire:
    """One connection as the exchange sees it."""

    number: int
    born: float
    life: Life | None = None
    names: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    """Acknowledged, and never sent on this connection (``cured`` ones until they are subscribed anew)."""
    cured: set[str] = field(default_factory=set)
    stalled: bool = False
    open: bool = True
    verified: bool = False
    messages: list[float] = field(default_factory=list)


class World:
    """Any number of shards against one exchange. Faults are functions that the test gives."""

    def __init__(
        self,
        symbols: Sequence[str],
        *,
        shards: int = 1,
        seed: int = 0,
        every: Callable[[str], float] = lambda symbol: 1.0,
        patience: Patience = Patience(60.0, 82_800.0, 60.0, 0.25),  # noqa: B008 - frozen
        connects: int = 300,
    ) -> None:
        self.now = 0.0
        self.chance = random.Random(seed)
        self.every = every
        self.budget = ConnectBudget(connects)
        self.symbols = symbols
        interval = Interval.parse("1m")
        self.shards = [
            Shard(symbols[k::shards], interval, patience, 10.0, self.budget, random.Random(seed + k))
            for k in range(shards)
        ]
        self.wakes = [0.0] * shards
        self.wires: list[dict[int, Wire]] = [{} for _ in self.shards]
        self.heard: dict[str, float] = {}
        self.pushes: Counter[str] = Counter()
        self.connects: list[float] = []
        self.announced: list[tuple[float, str]] = []
        self.failed: list[Fail] = []
        self.most_at_once = 0
        self.rates: list[int] = []
        self.subscribed_again: Counter[str] = Counter()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        # Faults: what a new connection meets.
        self.refuse: Callable[[float], Failure | None] = lambda now: None
        self.greet: Callable[[Wire], None] = lambda wire: None
        for symbol in symbols:
            self.at(self.chance.random() * every(symbol), lambda s=symbol: self._push(s))

    def at(self, instant: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (instant, next(self._order), do))

    def run(self, until: float) -> None:
        """Let time pass."""
        while True:
            for k, wake in enumerate(self.wakes):
                if wake <= self.now:
                    self._settle(k)
            due = min(*self.wakes, self._events[0][0] if self._events else until)
            if due > until:
                self.now = until
                return
            # A wake-up for an instant that has passed is done at once; the same instant for ever would hang.
            self.now = due if due > self.now else self.now + 1e-6
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()

    # The exchange.

    def _push(self, symbol: str) -> None:
        self.at(self.now + self.every(symbol), lambda: self._push(symbol))
        name = f"{symbol.lower()}@kline_1m"
        text = frame(symbol, self.now)
        for k, wires in enumerate(self.wires):
            for wire in list(wires.values()):
                if not wire.open or wire.life is None or wire.stalled or name not in wire.names:
                    continue
                if name in wire.silent or name in wire.cured:
                    continue
                self._deliver(k, wire, symbol, text)

    def _deliver(self, k: int, wire: Wire, symbol: str, text: bytes) -> None:
        assert wire.life is not None
        assert wire.life.session is not None
        wire.life.session.heard = self.now
        event = wire.life.decoder.read(text, self.now)
        self.pushes[symbol] += 1
        self.heard[symbol] = self.now
        if isinstance(event, MarketEvent) and not wire.verified:
            wire.verified = True
            self.shards[k].verified(wire.number, self.now)
            self._settle(k)

    def control(self, wire: Wire, k: int, message: object) -> None:
        """Send a control message that is no kline."""
        if wire.open and wire.life is not None and wire.life.session is not None:
            answer = wire.life.decoder.read(json.dumps(message).encode(), self.now)
            assert not isinstance(answer, MarketEvent)
            assert answer is not None
            self.shards[k].control(wire.number, answer)
            self._settle(k)

    def cut(self, wire: Wire, k: int, cause: str = "cut") -> None:
        """The connection ends."""
        if wire.open:
            wire.open = False
            self.wires[k].pop(wire.number)
            self.shards[k].lost(wire.number, Failure(cause), self.now)
            self._settle(k)

    def current(self, k: int = 0) -> Wire:
        """The newest open connection of a shard."""
        return max((w for w in self.wires[k].values() if w.verified), key=lambda w: w.number)

    # The client's actions.

    def _settle(self, k: int) -> None:
        for action in self.shards[k].step(self.now):
            if isinstance(action, Connect):
                self._connect(k, action)
            elif isinstance(action, Send):
                self._message(self.wires[k][action.number], json.loads(action.text))
            elif isinstance(action, Drop):
                wire = self.wires[k].pop(action.number, None)
                if wire is not None:
                    wire.open = False
            elif isinstance(action, Announce):
                self.announced.append((self.now, action.kind))
            elif isinstance(action, Fail):
                self.failed.append(action)
        self.most_at_once = max(self.most_at_once, len(self.wires[k]))
        self.wakes[k] = self.shards[k].wake_at(self.now)

    def _connect(self, k: int, action: Connect) -> None:
        self.connects.append(self.now)
        wire = Wire(action.number, self.now)
        self.wires[k][action.number] = wire
        parts = urlsplit(action.query)
        assert parts.path == "/stream"
        assert len(action.query) < 4000
        wire.names.update(parse_qs(parts.query)["streams"][0].split("/"))
        self.at(self.now + LATENCY, lambda: self._handshake(k, wire))

    def _handshake(self, k: int, wire: Wire) -> None:
        if not wire.open:
            return
        failure = self.refuse(self.now)
        if failure is not None:
            wire.open = False
            self.wires[k].pop(wire.number)
            self.shards[k].lost(wire.number, failure, self.now)
            self._settle(k)
            return
        wire.life = self.shards[k].opened(wire.number, self.now)
        self.greet(wire)
        self._settle(k)

    def _message(self, wire: Wire, message: dict[str, object]) -> None:
        wire.messages.append(self.now)
        self.rates.append(sum(1 for at in wire.messages if at > self.now - 1.0))
        names = message["params"]
        assert isinstance(names, list)
        assert len(names) <= 200
        if message["method"] == "SUBSCRIBE":
            self.subscribed_again.update(set(names) & wire.cured)
            wire.names.update(names)
            wire.cured.difference_update(names)
        else:
            assert message["method"] == "UNSUBSCRIBE"
            wire.names.difference_update(names)
        assert len(wire.names) <= 1024

    def in_window(self, seconds: float) -> int:
        """Most connects in any window of so many seconds."""
        best = start = 0
        for end, at in enumerate(self.connects):
            while at - self.connects[start] > seconds:
                start += 1
            best = max(best, end - start + 1)
        return best


_FRAME = (
    '{"stream":"%s@kline_1m","data":{"e":"kline","E":%d,"s":"%s","k":{"t":%d,"T":%d,"s":"%s","i":"1m","f":1,"L":2,'
    '"o":"1","c":"1","h":"1","l":"1","v":"1","n":1,"x":false,"q":"1","V":"1","Q":"1","B":"0"}}}'
)


def frame(symbol: str, now: float) -> bytes:
    """A push of the bar in progress at `now`."""
    event = EPOCH_MS + int(now * 1000)
    start = event // MINUTE_MS * MINUTE_MS
    return (_FRAME % (symbol.lower(), event, symbol, start, start + MINUTE_MS - 1, symbol)).encode()


def many(count: int) -> list[str]:
    return [f"S{k:04d}USDT" for k in range(count)]


def last_gap(world: World) -> dict[str, float]:
    """Seconds since each symbol was heard."""
    heard: dict[str, float] = defaultdict(lambda: -1e9, world.heard)
    return {symbol: world.now - heard[symbol] for symbol in world.symbols}
