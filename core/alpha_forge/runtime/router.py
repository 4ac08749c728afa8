"""EventRouter and EventBus: from events to the flows that subscribe, and from flows to the events they publish."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from alpha_forge.contracts.errors import FlowExecutionError
from alpha_forge.plan.graph import FlowDefinition
from alpha_forge.runtime.results import Published

MAX_DEPTH = 100


class EventRouter:
    """Event id → flows that subscribe to it, in the order of the plan."""

    def __init__(self, flows: Sequence[FlowDefinition]) -> None:
        self._flows: dict[str, list[FlowDefinition]] = {}
        for flow in flows:
            self._flows.setdefault(flow.event, []).append(flow)

    def route(self, event: str) -> Sequence[FlowDefinition]:
        return self._flows.get(event, ())


@dataclass(frozen=True, slots=True)
class Queued:
    """A published event and the chain of events that led to it."""

    published: Published
    chain: tuple[str, ...]


class EventBus:
    """Events that wait for their flows, first come first served. The chain behind each is limited."""

    def __init__(self) -> None:
        self._queue: deque[Queued] = deque()

    def publish(self, published: Published, chain: tuple[str, ...]) -> None:
        """Queue an event. Raises FlowExecutionError, naming the chain's end, beyond `MAX_DEPTH`."""
        longer = (*chain, published.event)
        if len(longer) > MAX_DEPTH:
            raise FlowExecutionError(
                "AF8002",
                f"events chained {MAX_DEPTH} deep and did not come to rest: … → {' → '.join(longer[-6:])}",
                "take one 'emits' or 'on' out of the chain",
            )
        self._queue.append(Queued(published, longer))

    def take(self) -> Queued | None:
        return self._queue.popleft() if self._queue else None
