"""ResultHandler: stores what steps computed, says which events follow, and collects predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.errors import PluginError
from alpha_forge.plan.graph import Node
from alpha_forge.runtime.frames import FrameLog

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


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
    """Writes outputs into the frame and notes what follows from them."""

    def __init__(self, delivered: frozenset[tuple[str, str]]) -> None:
        self._delivered = delivered
        self.predictions: list[PredictedRow] = []

    def store(
        self, node: Node, frame: FrameLog, row: int, symbols: Int, outputs: tuple[Float, ...]
    ) -> list[Published]:
        """Store each output column at `row`; returns the events to publish."""
        if len(outputs) != len(node.outputs):
            raise PluginError(
                "AF8003",
                f"the step {node.id} returned {len(outputs)} column(s), it declares {len(node.outputs)}",
                "compute and advance return one array, or a tuple in the order of 'outputs'",
            )
        ts = frame.interval.ts(row)
        for column, values in zip(node.outputs, outputs, strict=True):
            if values.shape != symbols.shape:
                raise PluginError(
                    "AF8003",
                    f"the step {node.id} returned {values.shape} values for {len(symbols)} symbols",
                    "outputs have the shape of the inputs: (bars, symbols)",
                )
            frame.store(column, row, symbols, values)
            if (node.frame, column) in self._delivered:
                # A copy: the output may be a view of an array that the plugin uses again.
                self.predictions.append(PredictedRow(node.frame, column, ts, symbols, values.copy()))
        if not node.emits:
            return []
        finite = symbols[np.isfinite(outputs[0])]
        return [Published(event, ts, node.frame, finite) for event in node.emits] if len(finite) else []

    def take(self) -> list[PredictedRow]:
        """Predictions since the last call, in the order they were made."""
        found, self.predictions = self.predictions, []
        return found
