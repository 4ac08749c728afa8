"""How each kind of step runs on a chunk of whole arrays. Bit for bit what `runtime.steps` makes of single rows."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from alpha_forge.contracts.errors import PluginError
from alpha_forge.contracts.plugin import Feature, Model, RecursiveFeature
from alpha_forge.plan.graph import EventFlowDAG, Node
from alpha_forge.plan.lookback import generation_bars
from alpha_forge.runtime import compiled
from alpha_forge.runtime.generations import NEVER, SLOTS
from alpha_forge.runtime.replay.bars import NONE, AlignedRows, OwnBars

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

PACK = 2048
"""Columns that a recursive feature is given at once where runs of single symbols are put side by side."""
FEW = 16
"""From this many symbols on, a run of all of them is worth a call of its own."""
WINDOWS = 4096
"""Windows of a model that are gathered at once."""


class ArrayStep(Protocol):
    """Computes a node's outputs for a chunk."""

    node: Node

    def own_context(self) -> int:
        """Own bars before the chunk that it reads."""

    def aligned_context(self) -> int:
        """Aligned rows before the chunk that it reads; 0 for a step that reads own bars."""

    def run(self, own: OwnBars, aligned: AlignedRows, reach: int) -> tuple[Float, ...]:
        """(places of the chunk, symbols) by own bars for each output; of a panel step (rows of the chunk, symbols)."""


def _as_outputs(node: Node, found: Any, shape: tuple[int, ...]) -> tuple[Float, ...]:
    """What a plugin returned, checked as `ResultHandler` checks it."""
    outputs = found if isinstance(found, tuple) else (found,)
    if len(outputs) != len(node.outputs):
        raise PluginError(
            "AF8003",
            f"the step {node.id} returned {len(outputs)} column(s), it declares {len(node.outputs)}",
            "compute and advance return one array, or a tuple in the order of 'outputs'",
        )
    for output in outputs:
        if output.shape != shape:
            raise PluginError(
                "AF8003",
                f"the step {node.id} returned {output.shape} values for inputs of {shape}",
                "outputs have the shape of the inputs: (bars, symbols)",
            )
    return outputs


def _too_wide(own: OwnBars, window: int, reach: int) -> tuple[Int, Int]:
    """(places of the chunk, symbols) of bars whose window of own bars spans more rows than a ring lets it."""
    newest = own.rows[own.context :]
    oldest = own.rows[own.context - window + 1 : len(own.rows) - window + 1]
    wide = (newest != NONE) & (oldest != NONE) & (newest - oldest >= reach)
    places, symbols = np.nonzero(wide)
    return places.astype(np.int64), symbols.astype(np.int64)


class FeatureStep:
    """A symbol-scope `Feature` over own bars."""

    def __init__(self, node: Node, feature: Feature) -> None:
        self.node = node
        self._feature = feature
        self._before = node.lookback - 1

    def own_context(self) -> int:
        return self._before

    def aligned_context(self) -> int:
        return 0

    def run(self, own: OwnBars, aligned: AlignedRows, reach: int) -> tuple[Float, ...]:
        columns = [own.tail(c, self._before) for c in self.node.inputs]
        found = _as_outputs(self.node, self._feature.compute(*columns), columns[0].shape)
        outputs = tuple(output[self._before :] for output in found)
        if not own.regular:
            outputs = self._mend(own, columns, outputs, reach)
        return outputs

    def _mend(
        self, own: OwnBars, columns: list[Float], outputs: tuple[Float, ...], reach: int
    ) -> tuple[Float, ...]:
        """Windows over wide holes: the ring has only the part within `reach`, so each is computed as it has it."""
        places, symbols = _too_wide(own, self.node.lookback, reach)
        if not len(places):
            return outputs
        outputs = tuple(output.copy() for output in outputs)
        for i, s in zip(places, symbols, strict=True):
            rows = own.rows[own.context + i - self._before : own.context + i + 1, s]
            within = (rows != NONE) & (rows[-1] - rows < reach)
            window = [np.where(within, c[i : i + self.node.lookback, s], np.nan)[:, None] for c in columns]
            found = _as_outputs(self.node, self._feature.compute(*window), window[0].shape)
            for output, values in zip(outputs, found, strict=True):
                output[i, s] = values[-1, 0]
        return outputs


class PanelStep:
    """A panel-scope `Feature` over rows aligned by ts."""

    def __init__(self, node: Node, feature: Feature) -> None:
        self.node = node
        self._feature = feature

    def own_context(self) -> int:
        return 0

    def aligned_context(self) -> int:
        return self.node.lookback - 1

    def run(self, own: OwnBars, aligned: AlignedRows, reach: int) -> tuple[Float, ...]:
        before = min(aligned.fresh, self.node.lookback - 1)
        start = aligned.fresh - before
        columns = [aligned.columns[c][start:] for c in self.node.inputs]
        found = _as_outputs(self.node, self._feature.compute(*columns), columns[0].shape)
        outputs = tuple(output[before:] for output in found)
        numbers = aligned.numbers
        new = np.arange(aligned.fresh, len(numbers))
        oldest = np.maximum(new - self.node.lookback + 1, 0)
        wide = new[numbers[new] - numbers[oldest] >= reach]
        if len(wide):
            outputs = tuple(output.copy() for output in outputs)
        for at in wide:
            first = int(np.searchsorted(numbers, numbers[at] - reach + 1))
            window = [aligned.columns[c][first : at + 1] for c in self.node.inputs]
            one = _as_outputs(self.node, self._feature.compute(*window), window[0].shape)
            for output, values in zip(outputs, one, strict=True):
                output[at - aligned.fresh] = values[-1]
        return outputs


class RecursiveStep:
    """A `RecursiveFeature`, read from grid-anchored states: each is run over exactly the bars that it has seen."""

    def __init__(self, dag: EventFlowDAG, node: Node, feature: RecursiveFeature) -> None:
        self.node = node
        self._feature = feature
        self._every = generation_bars(node.settle)
        size = len(dag.frames[node.frame].symbols)
        plain = all(dag.is_plain(node.frame, c) for c in node.inputs)
        self._upstream = 0 if plain else max(1, node.upstream)
        self._always_known = plain and dag.is_data(node.frame)
        self._ready_row = np.full(size, NEVER, dtype=np.int64)
        self._own_bars = np.zeros(size, dtype=np.int64)
        self._last = np.full(size, -1, dtype=np.int64)
        self._slots = {name: np.zeros((SLOTS, size), dtype=np.int64) for name in ("seen", "start")}
        self._generation = np.full((SLOTS, size), -1, dtype=np.int64)

    def known_from(self, rows: Int) -> None:
        """See `Generations.known_from`."""
        if self._upstream == 0:
            self._ready_row[:] = rows

    def own_context(self) -> int:
        return SLOTS * self._every

    def aligned_context(self) -> int:
        return 0

    def run(self, own: OwnBars, aligned: AlignedRows, reach: int) -> tuple[Float, ...]:
        columns = [own.columns[c] for c in self.node.inputs]
        known = self._known(own, columns)
        together = own.regular and known is None and self._in_step()
        starts = self._choose(own, known, together)
        outputs = tuple(np.full((own.new, own.size), np.nan) for _ in self.node.outputs)
        if together and own.size >= FEW:
            self._run_together(own, columns, starts[:, 0], outputs)
        else:
            self._run_apart(own, columns, starts, outputs)
        self._slots["start"] -= own.counts[None, :]
        return outputs

    def _known(self, own: OwnBars, columns: list[Float]) -> Bool | None:
        """(places of the chunk, symbols): whose inputs are known; None for all."""
        if self._always_known:
            return None
        known: Bool = ~np.isnan(columns[0][own.context :])
        for column in columns[1:]:
            known &= ~np.isnan(column[own.context :])
        return None if known.all() else known

    def _in_step(self) -> bool:
        """True if the generations of all symbols are the same."""
        arrays = (self._ready_row, self._own_bars, self._last, self._generation, *self._slots.values())
        return all(bool((a == a[..., :1]).all()) for a in arrays)

    def _choose(self, own: OwnBars, known: Bool | None, together: bool) -> Int:
        """(places of the chunk, symbols, or one for all) place at which the state to read began; -1: none is ready."""
        n = 1 if together else own.size
        starts = np.full((own.new, n), -1, dtype=np.int64)
        if known is None:
            known = np.ones((own.new, n), dtype=np.bool_)
        arrays = (self._ready_row, self._own_bars, self._last, self._generation, *self._slots.values())
        ready, bars, last, generation, seen, start = (np.ascontiguousarray(a[..., :n]) for a in arrays)
        compiled.choose_starts(
            np.ascontiguousarray(own.rows[:, :n]),
            own.context,
            own.counts,
            self._every,
            self.node.settle,
            known,
            ready,
            bars,
            self._upstream,
            last,
            generation,
            seen,
            start,
            starts,
        )
        for mine, moved in zip(arrays, (ready, bars, last, generation, seen, start), strict=True):
            mine[...] = moved
        return starts

    def _run_together(
        self, own: OwnBars, columns: list[Float], starts: Int, outputs: tuple[Float, ...]
    ) -> None:
        """One call for each state, over all symbols: they have the same rows."""
        for start, first, last in _runs(starts):
            begin, stop = start, own.context + last + 1
            found = self._advance([c[begin:stop] for c in columns])
            served = own.context + first - begin
            for output, values in zip(outputs, found, strict=True):
                output[first : last + 1] = values[served:]

    def _run_apart(self, own: OwnBars, columns: list[Float], starts: Int, outputs: tuple[Float, ...]) -> None:
        """Runs of single symbols, side by side as columns; those of about the same length together."""
        jobs = []
        for s in range(own.size):
            one = starts[: own.counts[s], s if starts.shape[1] > 1 else 0]
            jobs += [(start, first, last, s) for start, first, last in _runs(one)]
        table = np.array(jobs, dtype=np.int64).reshape(-1, 4)
        lengths = own.context + table[:, 2] + 1 - table[:, 0]
        table = table[np.argsort(lengths, kind="stable")]
        for at in range(0, len(table), PACK):
            self._run_pack(own, columns, table[at : at + PACK], outputs)

    def _run_pack(self, own: OwnBars, columns: list[Float], jobs: Int, outputs: tuple[Float, ...]) -> None:
        start, first, last, symbol = jobs.T
        length = int((own.context + last + 1 - start).max())
        places = start[None, :] + np.arange(length)[:, None]
        # What comes after a run's end changes nothing before it.
        np.minimum(places, len(own.rows) - 1, out=places)
        found = self._advance([np.ascontiguousarray(c[places, symbol[None, :]]) for c in columns])
        count = last - first + 1
        job = np.repeat(np.arange(len(jobs)), count)
        step = np.arange(len(job)) - np.repeat(np.cumsum(count) - count, count)
        to = first[job] + step
        at = own.context + to - start[job]
        for output, values in zip(outputs, found, strict=True):
            output[to, symbol[job]] = values[at, job]

    def _advance(self, columns: list[Float]) -> tuple[Float, ...]:
        state = self._feature.start(columns[0].shape[1])
        return _as_outputs(self.node, self._feature.advance(state, *columns), columns[0].shape)


def _runs(starts: Int) -> list[tuple[int, int, int]]:
    """(start, first, last) of each stretch of places that read the same state; those that read none are left out."""
    if not len(starts):
        return []
    edges = np.flatnonzero(np.diff(starts)) + 1
    firsts = np.concatenate(([0], edges))
    lasts = np.concatenate((edges, [len(starts)])) - 1
    found = zip(starts[firsts].tolist(), firsts.tolist(), lasts.tolist(), strict=True)
    return [run for run in found if run[0] >= 0]


class ModelStep:
    """A `Model` over windows of own bars, in micro-batches of its fixed shape."""

    def __init__(self, node: Node, model: Model) -> None:
        self.node = node
        self._model = model

    def load(self) -> None:
        self._model.load()

    def own_context(self) -> int:
        return self.node.lookback - 1

    def aligned_context(self) -> int:
        return 0

    def run(self, own: OwnBars, aligned: AlignedRows, reach: int) -> tuple[Float, ...]:
        window = self.node.lookback
        values = np.full((own.new, own.size), np.nan)
        places, symbols = self._ready(own, window, reach)
        for at in range(0, len(places), WINDOWS):
            here, who = places[at : at + WINDOWS], symbols[at : at + WINDOWS]
            windows = np.empty((len(here), window, len(self.node.inputs)), dtype=np.float32)
            rows = own.context + here[:, None] + np.arange(1 - window, 1)[None, :]
            with np.errstate(over="ignore"):
                for i, column in enumerate(self.node.inputs):
                    windows[:, :, i] = own.columns[column][rows, who[:, None]]
            finite = np.flatnonzero(np.isfinite(windows).all(axis=(1, 2)))
            values[here[finite], who[finite]] = self._predict(windows[finite])
        return (values,)

    def _ready(self, own: OwnBars, window: int, reach: int) -> tuple[Int, Int]:
        """Bars of the chunk, row by row, at which every column of the whole window is known."""
        known: Bool = np.ones((own.new + window - 1, own.size), dtype=np.bool_)
        for column in self.node.inputs:
            known &= np.isfinite(own.tail(column, window - 1))
        total: Int = np.zeros((len(known) + 1, own.size), dtype=np.int64)
        np.cumsum(known, axis=0, out=total[1:])
        whole: Bool = total[window:] - total[:-window] == window
        whole[_too_wide(own, window, reach)] = False
        whole &= own.rows[own.context :] != NONE
        places, symbols = np.nonzero(whole)
        return places.astype(np.int64), symbols.astype(np.int64)

    def _predict(self, windows: npt.NDArray[np.float32]) -> Float:
        batch = self._model.batch
        values = np.empty(len(windows))
        for at in range(0, len(windows), batch):
            part = windows[at : at + batch]
            if len(part) < batch:
                part = np.concatenate((part, np.zeros((batch - len(part), *part.shape[1:]), np.float32)))
            values[at : at + batch] = self._model.predict(part)[: len(values) - at]
        return values


def make_step(dag: EventFlowDAG, node: Node) -> ArrayStep:
    """The step of a feature or model node."""
    instance: Any = dag.make(node)
    if isinstance(instance, Model):
        return ModelStep(node, instance)
    if isinstance(instance, RecursiveFeature):
        return RecursiveStep(dag, node, instance)
    assert isinstance(instance, Feature)
    return PanelStep(node, instance) if node.scope == "panel" else FeatureStep(node, instance)
