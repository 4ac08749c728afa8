"""The request weight that may be spent in a UTC minute of the exchange's clock by all on one address."""

from __future__ import annotations

MINUTE = 60_000_000_000
_MARGIN = 500_000_000  # the exchange's minute may begin a little after ours


class WeightBudget:
    """Says when a request may go out. Sans-I/O: instants (ns, the exchange's clock) come in, instants go out.

    One for all clients of a host in this process; used on one event loop, where no other request can come between
    the look at what is left and the reservation. ``limit`` is the exchange's weight a minute; ``share`` of it is
    used, because what others on the same address spend is known only from the header of the next answer.
    """

    def __init__(self, limit: int = 2400, share: float = 0.9) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share must be in (0, 1], got {share}")
        self._share = share
        self._minute = 0
        self._used = 0
        self._blocked = 0
        self.limit = limit

    @property
    def limit(self) -> int:
        """The exchange's weight a minute."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"limit must be positive, got {limit}")
        self._limit = limit
        self._allowed = max(1, int(limit * self._share))

    @property
    def allowed(self) -> int:
        """The part of `limit` that is used."""
        return self._allowed

    def reserve(self, now: int, weight: int) -> int:
        """Reserve `weight` and return `now`; if it must wait, reserve nothing and return when to ask again.

        A request heavier than the whole allowance passes at the start of a fresh minute.
        """
        if now < self._blocked:
            return self._blocked
        minute = now // MINUTE
        if minute > self._minute:
            self._minute, self._used = minute, 0
        if self._used and self._used + weight > self._allowed:
            return (self._minute + 1) * MINUTE + _MARGIN
        self._used += weight
        return now

    def observe(self, sent: int, used: int) -> None:
        """The header of an answer: `used` is the weight of all on this address in the minute of `sent`."""
        if sent // MINUTE == self._minute:
            self._used = max(self._used, used)

    def block(self, until: int) -> None:
        """No request before `until`: the exchange said so."""
        self._blocked = max(self._blocked, until)

    def blocked_until(self, now: int) -> int | None:
        """When the block that holds at `now` ends; None if requests may go out."""
        return self._blocked if now < self._blocked else None

    def left(self, now: int) -> int:
        """Weight that could be reserved at once."""
        if now < self._blocked:
            return 0
        return self._allowed - (self._used if now // MINUTE == self._minute else 0)
