"""The connections of one shard of the universe, as decisions without I/O: which to open, trust, replace and drop.

Usually there is one connection; two while the next one proves itself before the old one is let go. Instants go in,
in seconds of one monotonic clock; `Action`s come out, and a thin loop carries them out.
"""

from __future__ import annotations

import itertools
import logging
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from alpha_forge_plugins.market.binance.connects import ConnectBudget
from alpha_forge_plugins.market.binance.messages import Control, FrameDecoder, stream_name
from alpha_forge_plugins.market.binance.session import Habit, Patience, Session, some
from alpha_forge_sdk import Interval, SourceError

log = logging.getLogger(__name__)

CONNECTED = "source.connected"
RECONNECTED = "source.reconnected"

_URL_LIMIT = 2000  # characters of names in a URL, which every proxy takes
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0
_STABLE = 5.0  # seconds that a connection must live for its loss to count as the first one
_ATTEMPTS = 6  # to make the very first connection, before the exchange counts as unreachable
_OVERLAP = 2.0  # seconds that an old connection stays beside the next one at least, while both deliver
_JITTER = 0.1  # of a lifetime: shards that were born together must not be replaced together
_MOST_PATIENT = 3600.0


@dataclass(frozen=True, slots=True)
class Connect:
    """Open connection `number`; ``query`` goes behind the base URL."""

    number: int
    query: str


@dataclass(frozen=True, slots=True)
class Send:
    """Send a text message."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Close a connection."""

    number: int


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the reader of the events: a connection has proved that it delivers."""

    kind: str


@dataclass(frozen=True, slots=True)
class Fail:
    """Give up: no retry mends this."""

    error: SourceError


Action = Connect | Send | Drop | Announce | Fail


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a connection could not be made, or ended.

    Before ``wait`` seconds have passed no connection may be opened; ``fatal`` is raised if there never was one.
    """

    cause: str
    wait: float = 0.0
    fatal: SourceError | None = None
    unreachable: SourceError | None = None
    """Raised instead if it is still so after several attempts, and there never was a connection."""


class Life:
    """One connection, from the decision to open it to its end."""

    __slots__ = ("deadline", "decoder", "in_url", "number", "opened_at", "session", "verified_at")

    def __init__(self, number: int, decoder: FrameDecoder, in_url: Sequence[str], deadline: float) -> None:
        self.number = number
        self.decoder = decoder
        self.in_url = in_url
        self.deadline = deadline
        self.opened_at = math.inf
        self.verified_at = math.inf
        self.session: Session | None = None


class Shard:
    """Keeps one verified connection for `symbols`."""

    def __init__(
        self,
        symbols: Sequence[str],
        interval: Interval,
        patience: Patience,
        open_timeout: float,
        budget: ConnectBudget,
        chance: random.Random,
        every: float = 1.0,
    ) -> None:
        self._symbols = symbols
        self._interval = interval
        self._patience = patience
        self._open_timeout = open_timeout
        self._budget = budget
        self._chance = chance
        self._every = every
        self._overlap = min(_OVERLAP, patience.silence / 8)
        self._names = [stream_name(symbol, interval.name) for symbol in symbols]
        self._in_url = _that_fit(self._names)
        self._habits = {symbol: Habit() for symbol in symbols}
        self._numbers = itertools.count(1)
        self._lives: dict[int, Life] = {}
        self._current: Life | None = None
        self._candidate: Life | None = None
        self._retiring: list[Life] = []
        self._connect_at = -math.inf
        self._wanted = ""
        self._attempt = 0
        self._failures = 0
        self._ever = False
        self._actions: list[Action] = []

    # What happens.

    def opened(self, number: int, now: float) -> Life:
        """The handshake is done. Returns what the reader of the connection needs."""
        life = self._lives[number]
        lifetime = self._patience.lifetime * (1 - _JITTER * self._chance.random())
        patience = Patience(self._patience.silence, lifetime, self._patience.bar, self._patience.pace)
        life.opened_at = now
        life.session = Session(life.decoder.streams, life.in_url, self._habits, patience, now)
        life.deadline = now + life.session.limit()
        return life

    def verified(self, number: int, now: float) -> None:
        """The first kline came: an acknowledgement proves nothing."""
        life = self._lives.get(number)
        if life is None or life is not self._candidate:
            return
        life.verified_at = now
        if self._current is not None:
            self._current.deadline = now + self._patience.silence
            self._retiring.append(self._current)
            if len(self._retiring) > 1:
                self._drop(self._retiring.pop(0))
        self._current, self._candidate, self._wanted = life, None, ""
        self._failures = 0
        self._actions.append(Announce(RECONNECTED if self._ever else CONNECTED))
        self._ever = True

    def lost(self, number: int, failure: Failure, now: float) -> None:
        """A connection could not be made, or has ended by itself."""
        life = self._lives.pop(number, None)
        if life is None:
            return
        if failure.wait:
            self._budget.block(now + failure.wait * self._chance.uniform(1.0, 1.2))
        if life in self._retiring:
            self._retiring.remove(life)
        elif life is self._candidate:
            self._candidate = None
            self._failed(failure, now)
        else:
            self._current = self._retiring.pop() if self._retiring else None
            if now - life.verified_at >= _STABLE:
                self._attempt = 0
            self._retry(f"connection lost: {failure.cause}", now)

    def control(self, number: int, message: Control) -> None:
        """A message that is no kline."""
        life = self._lives.get(number)
        if life is not None and life.session is not None:
            life.session.received(message)

    # What follows.

    def step(self, now: float) -> list[Action]:
        """Everything to be done at `now`, in order."""
        self._judge(now)
        self._open(now)
        self._hand_over(now)
        for life in self._lives.values():
            if life.session is not None and (text := life.session.tick(now)) is not None:
                self._actions.append(Send(life.number, text))
        actions, self._actions = self._actions, []
        return actions

    def wake_at(self, now: float) -> float:
        """When `step` has something to do, at the latest. Anything that happens may make it earlier."""
        instants = [life.session.wake_at for life in self._lives.values() if life.session is not None]
        if self._retiring and self._current is not None:
            settled = self._current.verified_at + self._overlap
            instants.append(settled if settled > now else min(old.deadline for old in self._retiring))
        if self._candidate is not None:
            instants.append(self._candidate.deadline)
        elif self._current is None or self._wanted:
            instants.append(self._connect_at)
        return min(instants, default=math.inf)

    def _judge(self, now: float) -> None:
        """Whether the candidate has had its time, and whether the current connection must be replaced."""
        if self._candidate is not None and now > self._candidate.deadline:
            cause = "no handshake" if self._candidate.session is None else "subscribed, but no event came"
            self._drop(self._candidate)
            self._candidate = None
            self._failed(Failure(cause), now)
        if self._current is None or self._current.session is None:
            return
        session = self._current.session
        if session.ending or self._missed(session, now):
            if not self._wanted:
                self._wanted = session.ending or session.silent
                if now - self._current.verified_at >= _STABLE:
                    self._attempt = 0
                log.warning("replacing a connection of %d stream(s): %s", len(self._names), self._wanted)
        elif self._wanted and not session.silent:
            # It speaks again: the market was quiet, not the connection.
            self._wanted = ""
            if self._candidate is not None:
                self._drop(self._candidate)
                self._candidate = None

    def _missed(self, session: Session, now: float) -> bool:
        """Whether the session's silence is worth another connection. Of streams that stay silent on every new one,
        each time for twice as long as the time before."""
        if not session.silent:
            return False
        if not session.stalled:
            return True
        habits = [self._habits[symbol] for symbol in session.stalled]
        if not any(habit.patient_until <= now for habit in habits):
            return False
        for habit in habits:
            wait = self._patience.silence * 2.0 ** min(habit.doubts, 12)
            habit.doubts += 1
            habit.patient_until = now + min(_MOST_PATIENT, wait) * self._chance.uniform(0.75, 1.25)
        return True

    def _open(self, now: float) -> None:
        if self._candidate is not None or (self._current is not None and not self._wanted):
            return
        if now < self._connect_at:
            return
        self._connect_at = self._budget.reserve(now)
        if self._connect_at > now:
            return
        decoder = FrameDecoder(self._symbols, self._interval, self._every)
        number = next(self._numbers)
        life = Life(number, decoder, self._in_url, now + 2 * self._open_timeout)
        self._lives[number] = self._candidate = life
        query = quote("/".join(self._in_url), safe="/@_")
        self._actions.append(Connect(number, f"/stream?streams={query}"))

    def _hand_over(self, now: float) -> None:
        """Let an old connection go once nothing speaks on it that is still silent on the next one."""
        current = self._current
        if current is None or current.session is None:
            return
        for old in list(self._retiring):
            assert old.session is not None
            since = current.verified_at
            lacking = old.session.heard_since(since) - current.session.heard_since(-math.inf)
            if now > since + self._patience.silence / 4:
                current.session.resubscribe(sorted(lacking))
            settled = now >= since + self._overlap and current.session.subscribed
            if now >= old.deadline and lacking:
                log.warning(
                    "%d stream(s) not heard on the new connection: %s", len(lacking), some(sorted(lacking))
                )
            if now >= old.deadline or (settled and not lacking):
                self._retiring.remove(old)
                self._drop(old)

    def _drop(self, life: Life) -> None:
        if life.session is not None:
            life.session.learn()
        del self._lives[life.number]
        self._actions.append(Drop(life.number))

    def _failed(self, failure: Failure, now: float) -> None:
        """A candidate came to nothing."""
        self._failures += 1
        error = failure.fatal or (failure.unreachable if self._failures >= _ATTEMPTS else None)
        if error is not None and not self._ever:
            self._actions.append(Fail(error))
        self._retry(failure.cause, now)

    def _retry(self, cause: str, now: float) -> None:
        """Connect again after a pause: exponential with full jitter (Brooker, AWS, 2015)."""
        delay = self._chance.uniform(0.0, min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(self._attempt, 30)))
        self._attempt += 1
        self._connect_at = max(now + delay, self._budget.blocked_until)
        log.warning("%s; connecting again in %.1f s", cause, self._connect_at - now)


def _that_fit(names: Sequence[str]) -> list[str]:
    """The first names, as many as a URL takes."""
    length, fit = 0, []
    for name in names:
        length += len(quote(name, safe="@_")) + 1
        if length > _URL_LIMIT:
            break
        fit.append(name)
    return fit
