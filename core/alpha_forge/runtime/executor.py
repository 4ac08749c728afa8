"""FlowExecutor: runs a flow's steps in dependency order on one row, and the flows that follow from it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alpha_forge.plan.graph import EventFlowDAG, FlowDefinition
from alpha_forge.runtime.frames import FrameLog
from alpha_forge.runtime.inputs import InputResolver, longest_windows
from alpha_forge.runtime.results import Observer, PredictedRow, Published, ResultHandler
from alpha_forge.runtime.router import EventBus, EventRouter
from alpha_forge.runtime.steps import ModelRunner, RecursiveRunner, StepRunner, at, blame, make_runner

Int = npt.NDArray[np.int64]


class FlowExecutor:
    """Executes flows on frames. Owns the steps' states; called from one thread.

    ``models`` can be left out: warm-up needs only what models read, unless a step reads a model's column.
    """

    def __init__(self, dag: EventFlowDAG, frames: dict[str, FrameLog]) -> None:
        self._dag = dag
        self._frames = frames
        self.router = EventRouter(dag.flows)
        self._bus = EventBus()
        self._results = ResultHandler(dag.sink_columns())
        self._delivered_base = {
            f.event: tuple(c for c in f.base_columns if (f.name, c) in dag.sink_columns())
            for f in dag.frames.values()
        }
        self._runners: dict[str, StepRunner] = {
            n.id: make_runner(dag, n) for n in dag.nodes.values() if n.kind in ("features", "model")
        }
        self._longest = {
            flow.name: longest_windows(w for i in flow.nodes for w in self._runners[i].windows())
            for flow in dag.flows
        }
        read = {(n.frame, c) for n in dag.nodes.values() for c in n.inputs}
        read |= {
            (f, c)
            for n in dag.nodes.values()
            for f, cs in zip(n.source_frames, n.source_columns, strict=True)
            for c in cs
        }
        self._idle_models = frozenset(
            n.id
            for n in dag.nodes.values()
            if n.kind == "model" and not n.emits and not any((n.frame, c) in read for c in n.outputs)
        )
        self._steps = {
            flow.name: [
                (
                    self._runners[i],
                    self._results.writer(dag.nodes[i], frames[dag.nodes[i].frame]),
                    i in self._idle_models,
                )
                for i in flow.nodes
            ]
            for flow in dag.flows
        }
        """Of each flow: what runs, what stores its outputs, and whether it idles in warm-up."""
        self.warming = False
        """While True, models whose column nobody reads are left out: their values would be thrown away."""

    def load_models(self) -> None:
        """Read every checkpoint. Raises ModelError."""
        for runner in self._runners.values():
            if isinstance(runner, ModelRunner):
                runner.load()

    def known_from(self, frame: str, rows: Int) -> None:
        """Tell the recursive features of a frame from which row on its bars are known."""
        for runner in self._runners.values():
            if isinstance(runner, RecursiveRunner) and runner.node.frame == frame:
                runner.generations.known_from(rows)

    def run(self, flow: FlowDefinition, row: int, symbols: Int) -> None:
        """Run a flow on the bars of `symbols` at `row`, then everything that its events trigger."""
        frame = self._frames[flow.frame]
        if flow.event == self._dag.frames[flow.frame].event:
            for column in self._delivered_base[flow.event]:
                self._results.deliver(flow.frame, column, frame, row, symbols)
        self._run_steps(flow, row, symbols, (flow.event,))
        while (queued := self._bus.take()) is not None:
            self._follow(queued.published, queued.chain)

    def _follow(self, published: Published, chain: tuple[str, ...]) -> None:
        source = self._frames[published.frame]
        for flow in self.router.route(published.event):
            frame = self._frames[flow.frame]
            row = frame.interval.row(published.ts)
            symbols = published.symbols
            if flow.frame != published.frame:
                symbols = translate(source, frame, symbols)
            if row <= frame.newest - frame.capacity or row > frame.newest:
                continue  # this frame has no bar there (yet): nothing to work on
            symbols = symbols[frame.present(row)[symbols]]
            if len(symbols):
                self._run_steps(flow, row, symbols, chain)

    def _run_steps(self, flow: FlowDefinition, row: int, symbols: Int, chain: tuple[str, ...]) -> None:
        frame = self._frames[flow.frame]
        inputs = InputResolver(frame, row, symbols, self._longest[flow.name])
        for runner, writer, idle in self._steps[flow.name]:
            if idle and self.warming:
                continue
            try:
                outputs = runner.run(inputs)
            except Exception as error:
                raise blame(runner.node, at(frame.interval.ts(row)), error) from error
            published = writer.store(row, symbols, outputs)
            if published is not None:
                for event in published:
                    self._bus.publish(event, chain)

    def observe(self, observer: Observer) -> None:
        """See `Engine.observe`."""
        self._results.observer = observer

    def take_predictions(self) -> list[PredictedRow]:
        """Values of delivered columns since the last call."""
        return self._results.take()


def translate(source: FrameLog, target: FrameLog, symbols: Int) -> Int:
    """Positions in `target` of the symbols at positions `symbols` of `source`; those it lacks are left out."""
    if source.symbols == target.symbols:
        return symbols
    place = {name: i for i, name in enumerate(target.symbols)}
    found = [place[source.symbols[s]] for s in symbols if source.symbols[s] in place]
    return np.array(sorted(found), dtype=np.int64)
