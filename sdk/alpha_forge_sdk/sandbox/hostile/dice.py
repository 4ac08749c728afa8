"""Rules in play: whom they strike. A draw depends on seed, rule and thing alone, never on when it is asked."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from alpha_forge_sdk.sandbox.hostile.script import Rule

_RANGE: Final = float(1 << 64)


def draw(seed: int, number: int, *thing: object) -> float:
    """A number in [0, 1) for rule `number` and what it concerns."""
    text = "\x1f".join(map(str, (seed, number, *thing)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") / _RANGE


class Armed:
    """A rule with its place in the script, which seeds its draws, and what it has struck so far."""

    def __init__(self, rule: Rule, number: int, seed: int, start_ms: int) -> None:
        self.rule = rule
        self._number = number
        self._seed = seed
        self.from_ms = rule.start.at(start_ms) if rule.start is not None else None
        self.until_ms = rule.end.at(start_ms) if rule.end is not None else None
        self._symbols = frozenset(rule.symbols)
        self._intervals = frozenset(rule.intervals)
        self._lock = threading.Lock()
        self._struck: set[tuple[object, ...]] = set()
        self._over = False

    def end(self) -> None:
        """Take the rule out of play."""
        self._over = True

    def draw(self, *thing: object) -> float:
        """A further draw about a thing that was struck."""
        return draw(self._seed, self._number, *thing)

    def concerns(self, symbol: str | None, interval: str | None, path: str | None = None) -> bool:
        """Whether the rule is about this symbol, interval and path; one that is None fits only a rule that names
        none."""
        if self._symbols and symbol not in self._symbols:
            return False
        if self._intervals and interval not in self._intervals:
            return False
        return not self.rule.paths or (path or "").startswith(self.rule.paths)

    def is_on(self, now_ms: float) -> bool:
        """Whether the rule holds at this instant of the exchange."""
        if self.from_ms is not None and now_ms < self.from_ms:
            return False
        return self.until_ms is None or now_ms < self.until_ms

    def strikes(self, now_ms: float, *thing: object) -> bool:
        """Whether the rule strikes `thing` at `now_ms`. A thing that was struck once is struck again for free."""
        return self.is_on(now_ms) and self.takes(*thing)

    def takes(self, *thing: object) -> bool:
        """`strikes` at whatever time."""
        if self._over or draw(self._seed, self._number, "strikes", *thing) >= self.rule.rate:
            return False
        if self.rule.times is None:
            return True
        with self._lock:
            if thing in self._struck:
                return True
            if len(self._struck) >= self.rule.times:
                return False
            self._struck.add(thing)
            return True


class Arsenal:
    """All rules in play, by kind. Rules are added from any thread and seen at once."""

    def __init__(self, seed: int, start_ms: int, rules: Iterable[Rule]) -> None:
        self._seed = seed
        self._start_ms = start_ms
        self._lock = threading.Lock()
        self._count = 0
        self._by_kind: dict[str, tuple[Armed, ...]] = {}
        self._noted: set[tuple[object, ...]] = set()
        self.counts: Counter[str] = Counter()
        #: Whether a rule strikes between the closes.
        self.inside = False
        for rule in rules:
            self.add(rule)

    def add(self, rule: Rule) -> Armed:
        """Put a rule into play, after those that are."""
        with self._lock:
            armed = Armed(rule, self._count, self._seed, self._start_ms)
            self._count += 1
            # A new mapping: whoever reads the old one in another thread goes on with it.
            self._by_kind = {**self._by_kind, rule.kind: (*self.of(rule.kind), armed)}
            self.inside = self.inside or bool(rule.options.get("inside"))
        return armed

    def of(self, kind: str) -> tuple[Armed, ...]:
        """The rules of one kind, in their order."""
        return self._by_kind.get(kind, ())

    def has(self, kinds: Iterable[str]) -> bool:
        """Whether a rule of any of these kinds is in play."""
        return any(kind in self._by_kind for kind in kinds)

    def count(self, kind: str) -> None:
        """Note that a fault was done."""
        with self._lock:
            self.counts[kind] += 1

    def count_once(self, kind: str, *thing: object) -> None:
        """Note that a fault was done to `thing`, unless that is noted already."""
        with self._lock:
            if (kind, *thing) not in self._noted:
                self._noted.add((kind, *thing))
                self.counts[kind] += 1
