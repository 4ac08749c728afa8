"""ResultHandler: stores what steps computed, says which events follow, and collects predictions."""

from __future__ import annotations

from collections.abc import Callable
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


@dataclass(frozen=True, slots=True)
class _Targets:
    """Where a node's outputs go: (number of the column, its name, whether it is delivered) for each."""

    columns: tuple[tuple[int, str, bool], ...]


class ResultHandler:
    """Writes outputs into the frame and notes what follows from them."""

    def __init__(self, delivered: frozenset[tuple[str, str]]) -> None:
        self._delivered = delivered
        self._targets: dict[str, _Targets] = {}
        self._predictions: list[PredictedRow] = []
        self.observer: Observer | None = None

    def store(
        self, node: Node, frame: FrameLog, row: int, symbols: Int, outputs: tuple[Float, ...]
    ) -> list[Published] | None:
        """Store each output column at `row`; returns the events to publish, if there are any."""
        targets = self._targets.get(node.id)
        if targets is None:
            targets = self._targets[node.id] = _Targets(
                tuple((frame.index[c], c, (node.frame, c) in self._delivered) for c in node.outputs)
            )
        if len(outputs) != len(targets.columns):
            raise PluginError(
                "AF8003",
                f"the step {node.id} returned {len(outputs)} column(s), it declares {len(node.outputs)}",
                "compute and advance return one array, or a tuple in the order of 'outputs'",
            )
        for (number, column, delivered), values in zip(targets.columns, outputs, strict=True):
            if values.shape != symbols.shape:
                raise PluginError(
                    "AF8003",
                    f"the step {node.id} returned {values.shape} values for {len(symbols)} symbols",
                    "outputs have the shape of the inputs: (bars, symbols)",
                )
            frame.store(number, row, symbols, values)
            if self.observer is not None:
                self.observer(node.frame, column, frame.interval.ts(row), symbols, values.copy())
            if delivered:
                self.deliver(node.frame, column, frame, row, symbols)
        return self._events(node, frame, row, symbols, outputs[0]) if node.emits else None

    def deliver(self, name: str, column: str, frame: FrameLog, row: int, symbols: Int) -> None:
        """Note the values of a delivered column of the frame `name` at `row`."""
        # A copy: the ring is written to again, before the values have left it.
        values = frame.values(column, row, symbols).copy()
        self._predictions.append(PredictedRow(name, column, frame.interval.ts(row), symbols, values))

    def _events(self, node: Node, frame: FrameLog, row: int, symbols: Int, values: Float) -> list[Published]:
        finite = symbols[np.isfinite(values)]
        ts = frame.interval.ts(row)
        return [Published(event, ts, node.frame, finite) for event in node.emits] if len(finite) else []

    def take(self) -> list[PredictedRow]:
        """Predictions since the last call, in the order they were made."""
        found, self._predictions = self._predictions, []
        return found
