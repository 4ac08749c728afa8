"""How each kind of step runs on a row: features, recursive features, models. One runner a node, made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.errors import AlphaForgeError, PluginError
from alpha_forge.contracts.interval import iso
from alpha_forge.contracts.plugin import Feature, Model, RecursiveFeature
from alpha_forge.plan.graph import EventFlowDAG, Node
from alpha_forge.runtime.generations import SLOTS, Generations
from alpha_forge.runtime.inputs import InputResolver, tile

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
T = TypeVar("T")


class StepRunner(Protocol):
    """Computes a node's outputs at one row."""

    node: Node

    def run(self, inputs: InputResolver) -> tuple[Float, ...]:
        """(n,) for each output, for the symbols of `inputs`."""

    def windows(self) -> tuple[tuple[str, int], ...]:
        """(column, rows) that it reads by `InputResolver.own`."""


def blame(node: Node, when: str, error: Exception) -> AlphaForgeError:
    """What a step raised, as an error that names the step; errors with a code stay as they are.

    The run stops on it: going on would lose this bar's prediction for good, while a restart makes it up.
    """
    if isinstance(error, AlphaForgeError):
        return error
    return PluginError(
        "AF8001",
        f"the step {node.id} raised {type(error).__name__} {when}: {error}",
        "'alpha_forge plugins validate' finds what the plugin does wrong; ALPHA_FORGE_DEBUG=1 shows the traceback",
    )


def guarded(node: Node, when: str, call: Callable[[], T]) -> T:
    """Run a plugin's code; whatever it raises is told by `blame`: an isolation border."""
    try:
        return call()
    except Exception as error:
        raise blame(node, when, error) from error


class FeatureRunner:
    """A `Feature`: each symbol's own bars, or, in panel scope, all symbols aligned by ts."""

    def __init__(self, node: Node, feature: Feature) -> None:
        self.node = node
        self._compute = feature.compute
        self._panel = node.scope == "panel"
        self._rows = node.lookback
        self._columns = node.inputs
        self._single = node.inputs[0] if len(node.inputs) == 1 else None

    def windows(self) -> tuple[tuple[str, int], ...]:
        return () if self._panel else tuple((c, self.node.lookback) for c in self.node.inputs)

    def run(self, inputs: InputResolver) -> tuple[Float, ...]:
        rows = self._rows
        if self._panel:
            found = self._compute(*[inputs.panel(c, rows) for c in self._columns])
        elif self._single is not None:
            found = self._compute(inputs.own(self._single, rows))
        else:
            found = self._compute(*[inputs.own(c, rows) for c in self._columns])
        newest = tuple([o[-1] for o in found]) if isinstance(found, tuple) else (found[-1],)
        if self._panel and len(inputs.symbols) != inputs.frame.size:
            return tuple(output[inputs.symbols] for output in newest)
        return newest


class RecursiveRunner:
    """A `RecursiveFeature`, read from grid-anchored generations."""

    def __init__(self, dag: EventFlowDAG, node: Node, feature: RecursiveFeature) -> None:
        self.node = node
        self._panel = node.scope == "panel"
        symbols = len(dag.frames[node.frame].symbols)
        plain = all(dag.is_plain(node.frame, c) for c in node.inputs)
        self.generations = Generations(
            feature,
            node.settle,
            symbols,
            node.upstream,
            plain=plain,
            # A bar at hand has all its columns; a bucket may lack one, and what other steps made may be unknown.
            always_known=plain and not self._panel and dag.is_data(node.frame),
        )
        # Several events, or one that several steps publish, may tell of the same bar.
        self._newest = np.full(symbols, -1, dtype=np.int64) if node.on else None

    def windows(self) -> tuple[tuple[str, int], ...]:
        return ()

    def run(self, inputs: InputResolver) -> tuple[Float, ...]:
        symbols = inputs.frame.everyone if self._panel else inputs.symbols
        if self._newest is not None:
            fresh = self._newest[symbols] < inputs.row
            self._newest[symbols] = inputs.row
            if not fresh.all():
                outputs = self._step_some(inputs, symbols, fresh)
                return tuple(o[inputs.symbols] for o in outputs) if self._panel else outputs
        if self._panel:
            rows = [inputs.now(c, everyone=True)[None, :] for c in self.node.inputs]
            return tuple(o[inputs.symbols] for o in self.generations.step(inputs.row, symbols, rows))
        return self.generations.step(inputs.row, symbols, [inputs.tiled(c, SLOTS) for c in self.node.inputs])

    def _step_some(self, inputs: InputResolver, symbols: Int, fresh: Bool) -> tuple[Float, ...]:
        """Move on only the states that have not seen this row; the others have its value already."""
        outputs = tuple(inputs.frame.values(c, inputs.row, symbols).copy() for c in self.node.outputs)
        if fresh.any():
            values = [inputs.now(c, everyone=self._panel)[fresh] for c in self.node.inputs]
            given = [tile(v, 1 if self._panel else SLOTS) for v in values]
            for output, found in zip(
                outputs, self.generations.step(inputs.row, symbols[fresh], given), strict=True
            ):
                output[fresh] = found
        return outputs


class ModelRunner:
    """A `Model`, always in micro-batches of its fixed shape, zero-padded."""

    def __init__(self, node: Node, model: Model) -> None:
        self.node = node
        self._model = model
        self._batch = model.batch

    def load(self) -> None:
        guarded(self.node, "while its checkpoint was loaded", self._model.load)

    def windows(self) -> tuple[tuple[str, int], ...]:
        return tuple((c, self.node.lookback) for c in self.node.inputs)

    def run(self, inputs: InputResolver) -> tuple[Float, ...]:
        columns = self.node.inputs
        windows = np.empty((len(inputs.symbols), self.node.lookback, len(columns)), dtype=np.float32)
        for i, column in enumerate(columns):
            windows[:, :, i] = inputs.own(column, self.node.lookback).T
        values = np.full(len(windows), np.nan)
        # A row's bits don't depend on its companions, so only rows that can give a value are put together.
        ready = np.flatnonzero(np.isfinite(windows).all(axis=(1, 2)))
        for start in range(0, len(ready), self._batch):
            rows = ready[start : start + self._batch]
            chunk = np.zeros((self._batch, *windows.shape[1:]), dtype=np.float32)
            chunk[: len(rows)] = windows[rows]
            values[rows] = self._model.predict(chunk)[: len(rows)]
        return (values,)


def make_runner(dag: EventFlowDAG, node: Node) -> StepRunner:
    """The runner of a feature or model node."""
    instance: Any = guarded(node, "when it was made", lambda: dag.make(node))
    if isinstance(instance, Model):
        return ModelRunner(node, instance)
    if isinstance(instance, RecursiveFeature):
        return guarded(node, "when its state was made", lambda: RecursiveRunner(dag, node, instance))
    assert isinstance(instance, Feature)
    return FeatureRunner(node, instance)


def at(ts: int) -> str:
    """For messages: at which bar."""
    return f"at the bar {iso(ts)}"
