"""Request weights: a budget a minute for each address, and what happens to those who overdraw it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from alpha_forge_sdk.sandbox.intervals import DAY, MINUTE

#: So many refused requests within one minute turn 429 into a ban.
PATIENCE: Final = 10

#: The first ban and the longest; each ban doubles the next.
FIRST_BAN_MS: Final = 2 * MINUTE
LONGEST_BAN_MS: Final = 3 * DAY


@dataclass(slots=True)
class _Account:
    minute: int = -1
    used: int = 0
    refused: int = 0
    bans: int = 0
    banned_until: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request is served. `status` is 200, 429 or 418; `until_ms` the exchange time from which it
    will be."""

    status: int
    used: int
    until_ms: int


class WeightLedger:
    """Weight used by each address in the fixed minute of the exchange clock; `limit` is the budget of a
    minute."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._accounts: dict[str, _Account] = {}

    def charge(self, address: str, weight: int, now_ms: int) -> Verdict:
        """Charge a request of `weight` at `now_ms`. Requests that are refused cost nothing but patience."""
        account = self._accounts.setdefault(address, _Account())
        minute = now_ms // MINUTE
        if minute != account.minute:
            account.minute, account.used, account.refused = minute, 0, 0
        if now_ms < account.banned_until:
            return Verdict(418, account.used, account.banned_until)
        if account.used + weight <= self.limit:
            account.used += weight
            return Verdict(200, account.used, now_ms)
        account.refused += 1
        if account.refused > PATIENCE:
            length = min(FIRST_BAN_MS << min(account.bans, 20), LONGEST_BAN_MS)
            account.bans += 1
            account.banned_until = now_ms + length
            return Verdict(418, account.used, account.banned_until)
        return Verdict(429, account.used, (minute + 1) * MINUTE)
