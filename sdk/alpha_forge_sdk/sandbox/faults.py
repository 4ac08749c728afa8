"""The seam through which an exchange misbehaves on purpose.

The server asks `Faults` at every point where a real exchange goes wrong. The class itself does nothing; a hostile
exchange overrides what it needs. Methods are called from the server's event loop, except `content`, `archived` and
`listed_until`, which are called from the archive's worker thread; none may block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from alpha_forge_sdk.sandbox.feed import Push
from alpha_forge_sdk.sandbox.http import Request, Response
from alpha_forge_sdk.sandbox.market import Market
from alpha_forge_sdk.sandbox.venue import Venue


@dataclass(frozen=True, slots=True)
class Hangup:
    """End the connection: with a close frame of `code`, or by cutting the TCP connection if `code` is None.

    With `torn` the cut comes inside the frame of that push, after `share` of its bytes; `reset` makes it a TCP reset.
    """

    code: int | None = None
    reason: str = ""
    torn: Push | None = None
    share: float = 0.0
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes that go on the wire as they are."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Mute:
    """From here on the connection says nothing, and stays open."""


@dataclass(frozen=True, slots=True)
class Later:
    """`item`, once the exchange clock shows `due_ms`."""

    item: Push | Hangup
    due_ms: float


#: What is done on a connection.
Deed = Push | Hangup | Frame | Mute | Later


@dataclass(frozen=True, slots=True)
class Stage:
    """The exchange that faults are planted in: where its clock starts and how fast it runs."""

    start_ms: int
    speed: float
    venue: Venue


class Faults:
    """An exchange without faults; override methods to plant some."""

    @property
    def violations(self) -> Counter[str]:
        """What clients did that the exchange forbids, by kind: `message_rate`, `too_many_streams`, `connect_rate`,
        `weight`, `banned`."""
        # Not made in __init__: a subclass has no need to call it.
        found: Counter[str] = self.__dict__.setdefault("_violations", Counter())
        return found

    def begin(self, stage: Stage) -> None:
        """Called once, before everything else."""

    def market(self, market: Market) -> Market:
        """The market that is traded in place of `market`; it serves one thread."""
        return market

    def accept(self, path: str, now_ms: float) -> Response | None:
        """A refusal for a WebSocket handshake on `path`, or None to let it in."""
        return None

    def connected(self, connection: int, now_ms: float) -> Sequence[Later]:
        """What will happen to a connection that was just opened."""
        return ()

    def subscribed(self, connection: int, stream: str, now_ms: float) -> None:
        """A connection asked for a stream, for the first time or again."""

    def ended(self, connection: int) -> None:
        """A connection is gone."""

    def publish(self, push: Push) -> Sequence[Push | Later]:
        """What is published in place of `push`, to all connections alike."""
        return (push,)

    def push(self, connection: int, push: Push) -> Sequence[Deed]:
        """What is sent in place of `push` on the connection of that number: `(push,)` unless something goes
        wrong."""
        return (push,)

    def intercept(self, request: Request, address: str, now_ms: float, budget_ms: float) -> Response | None:
        """An answer in place of the exchange's to an HTTP request, or None to have it served.

        `budget_ms` is the exchange time by which request budgets are renewed.
        """
        return None

    def unpublished(self, symbol: str, interval: str, now_ms: float) -> int | None:
        """Open time from which on REST lacks the symbol's bars, the one in progress with them; None for none."""
        return None

    def rest(self, path: str, response: Response, now_ms: float) -> Response:
        """What is answered in place of `response` to a REST request for `path` (without query)."""
        return response

    def answered(self, request: Request, response: Response, now_ms: float) -> Response:
        """What is answered in place of `response` to any HTTP request."""
        return response

    def listed_until(self, now_ms: float) -> float:
        """The instant up to which the archive's listing is complete."""
        return now_ms

    def content(self, key: str, body: bytes, now_ms: float) -> bytes | None:
        """The zip that the archive holds in place of `body`, before its checksum is taken; None for none. It must
        depend on the key, and on `now_ms` only as far as an archive changes."""
        return body

    def archived(self, key: str, body: bytes, now_ms: float) -> bytes | None:
        """What is served in place of the archive object `body`; None for a missing object."""
        return body
