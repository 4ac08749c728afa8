"""ResultHandler: stores what steps computed, says which events follow, and collects predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.errors import PluginError
from alpha_forge.plan.graph import Node
from alpha_forge.runtime.frames import FrameLog

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


Observer = Callable[[str, str, int, Int, Float], None]
"""Called with frame, column, ts, positions of the symbols (n,) and values (n,)."""


@dataclass(frozen=True, slots=True)
class PredictedRow:
    """Values of one delivered column at one close: ``symbols`` are positions in the frame, ``values`` (n,)."""

    frame: str
    column: str
    ts: int
    symbols: Int
    values: Float


@dataclass(frozen=True, slots=True)
class Published:
    """An event that a step publishes: for the symbols whose value is finite."""

    event: str
    ts: int
    frame: str
    symbols: Int


class ResultHandler:
    """Takes the outputs of steps into their frames and notes what follows from them."""

    def __init__(self, delivered: frozenset[tuple[str, str]]) -> None:
        self._delivered = delivered
        self._predictions: list[PredictedRow] = []
        self.observer: Observer | None = None

    def writer(self, node: Node, frame: FrameLog) -> Writer:
        """What stores the outputs of a node in its frame."""
        return Writer(self, node, frame, [c for c in node.outputs if (node.frame, c) in self._delivered])

    def deliver(self, name: str, column: str, frame: FrameLog, row: int, symbols: Int) -> None:
        """Note the values of a delivered column of the frame `name` at `row`."""
        # A copy: the ring is written to again, before the values have left it.
        values = frame.values(column, row, symbols).copy()
        self._predictions.append(PredictedRow(name, column, frame.interval.ts(row), symbols, values))

    def take(self) -> list[PredictedRow]:
        """Predictions since the last call, in the order they were made."""
        found, self._predictions = self._predictions, []
        return found


class Writer:
    """Stores the outputs of one node. Where they go is found once: this runs for every step of every close."""

    __slots__ = ("_delivered", "_frame", "_handler", "_node", "_numbers")

    def __init__(self, handler: ResultHandler, node: Node, frame: FrameLog, delivered: Sequence[str]) -> None:
        self._handler = handler
        self._node = node
        self._frame = frame
        self._numbers = tuple(frame.index[c] for c in node.outputs)
        self._delivered = tuple(delivered)

    def store(self, row: int, symbols: Int, outputs: tuple[Float, ...]) -> list[Published] | None:
        """Store each output column at `row`; returns the events to publish, if there are any."""
        node, frame, handler = self._node, self._frame, self._handler
        if len(outputs) != len(self._numbers):
            raise PluginError(
                "AF8003",
                f"the step {node.id} returned {len(outputs)} column(s), it declares {len(node.outputs)}",
                "compute and advance return one array, or a tuple in the order of 'outputs'",
            )
        for values in outputs:
            if values.shape != symbols.shape:
                raise PluginError(
                    "AF8003",
                    f"the step {node.id} returned {values.shape} values for {len(symbols)} symbols",
                    "outputs have the shape of the inputs: (bars, symbols)",
                )
        frame.store(self._numbers, row, symbols, outputs)
        if handler.observer is not None:
            for column, values in zip(node.outputs, outputs, strict=True):
                handler.observer(node.frame, column, frame.interval.ts(row), symbols, values.copy())
        for column in self._delivered:
            handler.deliver(node.frame, column, frame, row, symbols)
        return self._events(row, symbols, outputs[0]) if node.emits else None

    def _events(self, row: int, symbols: Int, values: Float) -> list[Published]:
        finite = symbols[np.isfinite(values)]
        node, ts = self._node, self._frame.interval.ts(row)
        return [Published(event, ts, node.frame, finite) for event in node.emits] if len(finite) else []
