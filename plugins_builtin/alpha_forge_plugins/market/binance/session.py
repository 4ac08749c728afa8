"""One connection's decisions, without I/O: what to subscribe and when, and whether it still deserves trust.

Every method is given the instant, in seconds of one monotonic clock. The socket loop carries out what comes back.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from alpha_forge_plugins.market.binance.messages import Shutdown, Stream, request

_IN_REQUEST = 200  # names; more have not been seen to be taken
_LOOKS = 8  # looks at the streams in the time of `silence`
_LITTLE = 1.5
_MANY = 4  # a stream is missed when it is silent for so many times its longest silence


@dataclass(frozen=True, slots=True)
class Patience:
    """Real seconds: they guard sockets, not market time.

    ``silence`` is how long a lively stream may say nothing, ``lifetime`` how old a connection may grow, ``bar`` how
    long a bar lasts, ``pace`` what lies between two messages to the exchange at least.
    """

    silence: float
    lifetime: float
    bar: float
    pace: float


class Habit:
    """What is known of a symbol over all connections: its longest silence that ended, and how often it was missed.

    A market that trades once in five minutes must not cost a connection every minute. ``doubts`` counts the
    connections that were replaced for its sake since it spoke last; none is before ``patient_until``.
    """

    __slots__ = ("doubts", "longest", "patient_until")

    def __init__(self) -> None:
        self.longest = 0.0
        self.doubts = 0
        self.patient_until = -math.inf


class _Watched:
    """A stream under watch.

    ``since`` is when its silence began: when it was subscribed, or spoke last. ``again`` says that it was subscribed a
    second time since, at ``asked``. Both instants are infinite until the request is out.
    """

    __slots__ = ("again", "asked", "habit", "name", "since", "stream")

    def __init__(self, name: str, stream: Stream, habit: Habit) -> None:
        self.name = name
        self.stream = stream
        self.habit = habit
        self.since = math.inf
        self.asked = math.inf
        self.again = False


class Session:
    """Subscriptions, watchdogs and age of one open connection.

    ``streams`` are those of its decoder, which notes when each was ``seen``; ``in_url`` are subscribed by the URL, the
    others by requests, one every ``pace`` seconds. The reader sets ``heard`` at every frame.
    """

    def __init__(
        self,
        streams: Mapping[bytes, Stream],
        in_url: Iterable[str],
        habits: Mapping[str, Habit],
        patience: Patience,
        now: float,
    ) -> None:
        self._patience = patience
        self._watched = {
            name.decode(): _Watched(name.decode(), stream, habits[stream.symbol])
            for name, stream in streams.items()
        }
        self._outgoing: deque[tuple[str, list[str]]] = deque()
        self._numbers = itertools.count(1)
        self._send_at = now + patience.pace
        self._look_at = now + patience.silence / _LOOKS
        self._age_at = now + patience.lifetime
        self._ending = ""
        self._silent = ""
        self.heard = now
        self.stalled: tuple[str, ...] = ()
        """Symbols that stayed silent although they were subscribed a second time."""
        self.resubscribed = 0
        first = set(in_url)
        for name in first:
            self._watched[name].since = now
        self._queue("SUBSCRIBE", [name for name in self._watched if name not in first])

    @property
    def wake_at(self) -> float:
        """When `tick` has something to do, at the latest."""
        return min(self._look_at, self._send_at) if self._outgoing else self._look_at

    @property
    def ending(self) -> str:
        """Why this connection must be replaced whatever it delivers; empty if it need not."""
        return self._ending

    @property
    def silent(self) -> str:
        """Why this connection is not trusted; empty again when it speaks again."""
        return self._silent

    @property
    def subscribed(self) -> bool:
        """True if every subscription has been sent."""
        return not self._outgoing

    def tick(self, now: float) -> str | None:
        """The message to send now, if any. Updates `ending`, `silent` and `stalled`."""
        if now >= self._age_at and not self._ending:
            self._ending = f"it is {self._patience.lifetime:.0f} s old and the exchange cuts at 24 h"
        if now >= self._look_at:
            self._look_at = now + self._patience.silence / _LOOKS
            self._look(now)
        if not self._outgoing or now < self._send_at:
            return None
        method, names = self._outgoing.popleft()
        self._send_at = now + self._patience.pace
        if method == "SUBSCRIBE":
            for watched in map(self._watched.__getitem__, names):
                watched.asked = now
                watched.since = min(watched.since, now)
        return request(method, names, next(self._numbers))

    def received(self, message: object) -> None:
        """A control message."""
        if isinstance(message, Shutdown):
            self._ending = self._ending or "the server announced its shutdown"

    def resubscribe(self, names: Iterable[str]) -> list[str]:
        """Subscribe these once more, unless that was done since they spoke last; returns those that it is done for.

        They are unsubscribed first: what the exchange believes to be subscribed already it may ignore.
        """
        fresh = [name for name in names if not self._watched[name].again]
        for name in fresh:
            self._watched[name].again = True
            self._watched[name].asked = math.inf  # until the request is out
        self._queue("UNSUBSCRIBE", fresh)
        self._queue("SUBSCRIBE", fresh)
        return fresh

    def heard_since(self, instant: float) -> set[str]:
        """Names of the streams that have spoken after `instant`."""
        streams = ((name, watched.stream.seen) for name, watched in self._watched.items())
        return {name for name, seen in streams if seen is not None and seen > instant}

    def limit(self) -> float:
        """Seconds of silence of all streams together after which the connection is missed."""
        return min(map(self._limit, self._watched.values()))

    def _limit(self, watched: _Watched) -> float:
        silence = self._patience.silence
        # Whoever trades at all shows at least one push a bar: the bar that closes.
        return min(max(silence, _MANY * watched.habit.longest), max(silence, self._patience.bar + silence))

    def _queue(self, method: str, names: list[str]) -> None:
        for at in range(0, len(names), _IN_REQUEST):
            self._outgoing.append((method, names[at : at + _IN_REQUEST]))

    def learn(self) -> None:
        """Note the silences that have ended, before the connection is let go: its streams' habits outlive it."""
        for watched in self._watched.values():
            if watched.stream.seen is not None and watched.stream.seen != watched.since:
                self._spoke(watched, watched.stream.seen)

    def _look(self, now: float) -> None:
        self.learn()
        missed, stalled = [], []
        for watched in self._watched.values():
            if watched.again:
                if now - watched.asked > self._patience.silence / 2:
                    stalled.append(watched.stream.symbol)
            elif now - watched.since > self._allowed(watched):
                missed.append(watched.name)
        self.stalled = tuple(stalled)
        self.resubscribed += len(self.resubscribe(missed))
        quiet = now - self.heard
        self._silent = ""
        if quiet > self.limit():
            self._silent = f"nothing received for {quiet:.0f} s"
        elif stalled:
            self._silent = f"{len(stalled)} stream(s) silent although subscribed again: {some(stalled)}"

    def _spoke(self, watched: _Watched, seen: float) -> None:
        """Note a silence that ended.

        One that ended right after a second subscription was probably no habit but a fault that it cured. Probably:
        so it counts for a little, or a market that always waits a moment longer would be doubted for ever.
        """
        silence, habit = self._patience.silence, watched.habit
        waited = seen - watched.since
        if waited > silence / _LOOKS:
            if watched.again and 0 <= seen - watched.asked <= silence / 4:
                waited = min(waited, _LITTLE * max(habit.longest, silence / _MANY))
            habit.longest = max(habit.longest, waited)
        watched.since = seen
        watched.again = False
        habit.doubts = 0
        habit.patient_until = -math.inf

    def _allowed(self, watched: _Watched) -> float:
        """Seconds of silence after which a stream is subscribed again."""
        if watched.stream.seen is None and not watched.habit.longest:
            return self._patience.silence / 2
        return self._limit(watched)


def some(names: Sequence[str]) -> str:
    """The first five, for a log."""
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
