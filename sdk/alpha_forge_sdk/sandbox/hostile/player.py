"""`HostileFaults`: the faults of a script, done at the points where the exchange asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from alpha_forge_sdk.sandbox.faults import Deed, Faults, Later, Stage
from alpha_forge_sdk.sandbox.feed import Push
from alpha_forge_sdk.sandbox.hostile.archive import ArchiveFaults
from alpha_forge_sdk.sandbox.hostile.dice import Arsenal
from alpha_forge_sdk.sandbox.hostile.http import HttpFaults
from alpha_forge_sdk.sandbox.hostile.market import HoleyMarket
from alpha_forge_sdk.sandbox.hostile.script import FaultScript, make_rule
from alpha_forge_sdk.sandbox.hostile.stream import StreamFaults
from alpha_forge_sdk.sandbox.http import Request, Response
from alpha_forge_sdk.sandbox.market import Market


class HostileFaults(Faults):
    """Plays `script` for one exchange. `inject` adds rules from any thread.

    `counts` tells by kind what was done: a fault that hits each of three connections counts three times.
    """

    def __init__(self, script: FaultScript | None = None) -> None:
        self.script = script or FaultScript()
        self._arsenal: Arsenal | None = None

    @property
    def counts(self) -> Counter[str]:
        """What was done so far, by kind."""
        return Counter() if self._arsenal is None else Counter(self._arsenal.counts)

    def inject(self, kind: str, **options: Any) -> Callable[[], None]:
        """Put a rule into play; see `SandboxExchange.inject`. Raises FaultScriptError, or RuntimeError before
        `begin`."""
        if self._arsenal is None:
            raise RuntimeError("these faults serve no exchange yet; put the rule into their script")
        said = {"from" if name == "from_" else name: value for name, value in options.items()}
        return self._arsenal.add(make_rule({"kind": kind, **said})).end

    def begin(self, stage: Stage) -> None:
        """Arm the rules. Raises RuntimeError if these faults serve an exchange already."""
        if self._arsenal is not None:
            raise RuntimeError("these faults serve another exchange; make new ones")
        self._arsenal = arsenal = Arsenal(self.script.seed, stage.start_ms, self.script.rules)
        self._stream = StreamFaults(arsenal)
        self._http = HttpFaults(arsenal, stage, self.violations)
        self._archive = ArchiveFaults(arsenal)

    def market(self, market: Market) -> Market:
        """The market with the holes that the rules make."""
        assert self._arsenal is not None
        return HoleyMarket(market, self._arsenal)

    def accept(self, path: str, now_ms: float) -> Response | None:
        """Refuses handshakes: `refuse_connect`."""
        return self._stream.accept(path, now_ms)

    def connected(self, connection: int, now_ms: float) -> Sequence[Later]:
        """Bounds a connection's life: `daily_disconnect`."""
        return self._stream.connected(connection, now_ms)

    def subscribed(self, connection: int, stream: str, now_ms: float) -> None:
        """Takes note of a subscription: `silent_subscription`."""
        self._stream.subscribed(connection, stream, now_ms)

    def ended(self, connection: int) -> None:
        """Forgets a connection."""
        self._stream.ended(connection)

    def publish(self, push: Push) -> Sequence[Push | Later]:
        """The kinds that concern all connections alike."""
        return self._stream.publish(push)

    def push(self, connection: int, push: Push) -> Sequence[Deed]:
        """The kinds that concern one connection."""
        return self._stream.deliver(connection, push)

    def intercept(self, request: Request, address: str, now_ms: float, budget_ms: float) -> Response | None:
        """Errors and bans."""
        return self._http.intercept(request, address, now_ms, budget_ms)

    def unpublished(self, symbol: str, interval: str, now_ms: float) -> int | None:
        """`rest_lag`."""
        return self._http.unpublished(symbol, interval, now_ms)

    def answered(self, request: Request, response: Response, now_ms: float) -> Response:
        """Spoilt bodies and clocks."""
        return self._http.answered(request, response, now_ms)

    def listed_until(self, now_ms: float) -> float:
        """`stale_listing`."""
        return self._http.listed_until(now_ms)

    def content(self, key: str, body: bytes, now_ms: float) -> bytes | None:
        """Altered files."""
        return self._archive.content(key, body, now_ms)

    def archived(self, key: str, body: bytes, now_ms: float) -> bytes | None:
        """Missing files and wrong checksums."""
        return self._archive.archived(key, body, now_ms)
