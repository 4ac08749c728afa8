"""RealTimeRunner: start-up, gapless warm-up, streaming, clean shutdown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from alpha_forge.contracts.clock import Clock
from alpha_forge.contracts.errors import SinkEmitError
from alpha_forge.contracts.interval import NS, iso, to_datetime
from alpha_forge.contracts.plugin import DataSource
from alpha_forge.contracts.types import BAR_CLOSE, BarBatch
from alpha_forge.dsl.document import Document
from alpha_forge.plan.graph import EventFlowDAG
from alpha_forge.runtime.catch_up import CatchUp
from alpha_forge.runtime.delivery.status import DeliveryReport
from alpha_forge.runtime.emitter import PredictionEmitter, SignalEmitter, create_emitter_from_dsl
from alpha_forge.runtime.engine import Engine, Journal
from alpha_forge.runtime.feed import Feed
from alpha_forge.runtime.ledger.recorder import BarLedger
from alpha_forge.runtime.memory import MemoryObserver
from alpha_forge.runtime.progress import Progress, Silent
from alpha_forge.runtime.repair import Repairer
from alpha_forge.runtime.sources import open_all
from alpha_forge.runtime.state import StateDirectory
from alpha_forge.runtime.warmup import WarmupOrchestrator, WarmupResult

log = logging.getLogger("alpha_forge.runner")


@dataclass(slots=True)
class RunSummary:
    """What a run did."""

    bars: int = 0
    emitted: int = 0
    caught_up: int = 0
    """Of those emitted: predictions of bars that closed while no process ran."""
    not_ready: int = 0
    repaired: int = 0
    absent: int = 0
    revised: int = 0
    """Bars that came again with other values."""
    warmup: WarmupResult | None = None
    interrupted: bool = False
    delivered: Mapping[str, int] = field(default_factory=dict)
    delivery: DeliveryReport = field(default_factory=DeliveryReport)
    """How the log and each sink stood at the end."""


class RealTimeRunner:
    """Runs a compiled configuration until it is stopped, its sources end, or ``bars`` closed bars a symbol are done.

    What must outlive the process is kept under ``state_dir``, which one run at a time may hold; without one,
    everything is in memory.
    ``clock`` and ``sources`` replace what the configuration would make (tests hand in a virtual clock and a source of
    their own); ``sources`` is by frame. ``journal`` hears all that the engine is given and answers.
    """

    def __init__(
        self,
        document: Document,
        dag: EventFlowDAG,
        *,
        bars: int | None = None,
        cache_dir: Path = Path(".alpha_forge/cache"),
        state_dir: Path | None = None,
        progress: Progress | None = None,
        clock: Clock | None = None,
        sources: Mapping[str, DataSource] | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._document = document
        self._dag = dag
        self._bars = bars
        self._cache_dir = cache_dir
        self._state = None if state_dir is None else StateDirectory(state_dir, dag.name)
        self._progress = progress or Silent()
        self._clock = clock
        self._sources = sources
        self._memory = MemoryObserver()
        self._silence = SilenceWatch(dag)
        self._stopping = False
        self._wake: asyncio.Event | None = None
        self._emitter: SignalEmitter | None = None
        self.engine = Engine(dag, journal)
        self.summary = RunSummary()
        self.ledger: BarLedger | None = None
        """The ledger of bars, once the sources are open."""

    def stop(self) -> None:
        """Ask the run to end cleanly. Call on the event loop."""
        self._stopping = True
        if self._emitter is not None:
            self._emitter.hurry()
        if self._wake is not None:
            self._wake.set()

    async def run(self) -> RunSummary:
        """The whole life of the service. Raises AlphaForgeError for what ends it, SinkEmitError for what was left,
        UsageError if another process runs on the state directory."""
        with self._state or nullcontext():
            return await self._run()

    async def _run(self) -> RunSummary:
        self._wake = asyncio.Event()
        feeds = self._make_feeds(self._wake)
        emitter = self._emitter = create_emitter_from_dsl(self._document, self._dag, self._state)
        compute = ThreadPoolExecutor(1, thread_name_prefix="compute")
        try:
            await asyncio.get_running_loop().run_in_executor(compute, self.engine.prepare)
            clock = await open_all([feed.source for feed in feeds], self._clock, self._cache_dir)
            emitter.start()
            await self._work(feeds, clock, emitter, compute)
        except BaseException:
            # What ended the run is told; what the sinks did not take on top of it is only logged.
            try:
                await self._shut_down(feeds, emitter, compute)
            except SinkEmitError as error:
                log.error("%s", error.message)
            raise
        await self._shut_down(feeds, emitter, compute)
        bars, emitted = self.summary.bars, self.summary.emitted
        log.info("Signal generation completed: %d bars, %d predictions", bars, emitted)
        return self.summary

    def _make_feeds(self, wake: asyncio.Event) -> list[Feed]:
        feeds = []
        for node in self._dag.data_nodes():
            source = self._sources[node.frame] if self._sources is not None else self._dag.make(node)
            feeds.append(Feed(node, self._dag.frames[node.frame], source, wake))
        return feeds

    async def _work(
        self, feeds: list[Feed], clock: Clock, emitter: SignalEmitter, compute: ThreadPoolExecutor
    ) -> None:
        buffer_ns = int(self._dag.buffer_seconds * NS)
        markets = [feed for feed in feeds if not feed.ticks]
        ledger = self.ledger = BarLedger(self._dag.name, markets, clock, buffer_ns, self._state)
        for feed in feeds:
            feed.start()
        catch_up = CatchUp(self._dag, emitter.log, self._document.signal.catch_up)
        predictions = PredictionEmitter(self._dag, emitter)
        orchestrator = WarmupOrchestrator(
            self._dag,
            self.engine,
            self._progress,
            compute,
            ledger,
            catch_up=catch_up,
            emit=predictions.emit_if_ready,
        )
        warming = asyncio.create_task(
            orchestrator.run(feeds, self._document.signal.warmup.first_event_seconds)
        )
        stopped = asyncio.create_task(self._until_stopped())
        try:
            await asyncio.wait((warming, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not warming.done():
                return
            result = warming.result()
        finally:
            for task in (warming, stopped):
                task.cancel()
            await asyncio.gather(warming, stopped, return_exceptions=True)
            self.summary.caught_up = self.summary.emitted = predictions.emitted
            self.summary.not_ready = predictions.not_ready
        self.summary.warmup = result
        catch_up.mark({name: warmed.anchor for name, warmed in result.frames.items()})
        if self._bars is not None:
            limit_bars(feeds, {name: warmed.anchor for name, warmed in result.frames.items()}, self._bars)
        log.info("Warm-up done: %d bars", result.bars)
        if predictions.emitted:
            log.info("Caught up: %d predictions of bars that closed meanwhile", predictions.emitted)
        log.info("Starting real-time signal generation (Ctrl+C to stop)")
        await self._stream(feeds, clock, predictions, compute, ledger)

    async def _until_stopped(self) -> None:
        assert self._wake is not None
        while not self._stopping:
            self._wake.clear()
            await self._wake.wait()

    async def _stream(
        self,
        feeds: list[Feed],
        clock: Clock,
        predictions: PredictionEmitter,
        compute: ThreadPoolExecutor,
        ledger: BarLedger,
    ) -> None:
        assert self._wake is not None
        repairer = Repairer(clock, int(self._dag.buffer_seconds * NS), self._wake)
        try:
            while not self._stopping:
                self._wake.clear()
                repairer.check()
                for feed in feeds:
                    feed.check()
                    if (revisions := feed.sort_in()) and not feed.ticks:
                        ledger.note([(feed.name, revisions)])
                batches = [item for feed in feeds for item in feed.take()]
                if batches:
                    batches.sort(key=lambda item: item[1].ts)
                    loop = asyncio.get_running_loop()
                    await loop.run_in_executor(compute, self._process, batches, predictions)
                    ledger.note([item for item in batches if not self._dag.is_ticking(item[0])])
                    continue  # more may have come meanwhile
                if all(feed.sequencer.finished for feed in feeds):
                    break
                ledger.tick()
                asked = repairer.start(feeds)
                if not asked and not repairer.busy and all(feed.ended or feed.ticks for feed in feeds):
                    break
                await self._wait(clock)
        finally:
            await repairer.stop()

    def _process(self, batches: list[tuple[str, BarBatch]], predictions: PredictionEmitter) -> None:
        """On the compute thread: bars through the graph under the frames' lock, predictions out of it outside."""
        for frame, batch in batches:
            self._announce(frame, batch)
        rows = self.engine.process(batches)
        predictions.emit_if_ready(rows)
        count = sum(len(batch.symbols) for _, batch in batches)
        self.summary.bars += count
        self.summary.emitted = predictions.emitted
        self.summary.not_ready = predictions.not_ready
        self._memory.observe(count)

    def _announce(self, frame: str, batch: BarBatch) -> None:
        self._silence.note(frame, batch)
        if not len(batch.symbols) or not log.isEnabledFor(logging.INFO):
            return
        symbols = self._dag.frames[frame].symbols
        names = [symbols[s] for s in batch.symbols[:4]]
        more = len(batch.symbols) - len(names)
        text = ", ".join(names) + (f" and {more} more" if more else "")
        log.info("Received event: %s @ %s (%s)", BAR_CLOSE, to_datetime(batch.ts).strftime("%H:%M"), text)

    async def _wait(self, clock: Clock) -> None:
        """Until something happens, or it is time to look for bars that are late."""
        assert self._wake is not None
        waiting = asyncio.create_task(self._wake.wait())
        ticking = asyncio.create_task(clock.sleep(min(max(self._dag.buffer_seconds / 4, 1.0), 30.0)))
        await asyncio.wait((waiting, ticking), return_when=asyncio.FIRST_COMPLETED)
        for task in (waiting, ticking):
            task.cancel()
        await asyncio.gather(waiting, ticking, return_exceptions=True)

    async def _shut_down(
        self, feeds: list[Feed], emitter: SignalEmitter, compute: ThreadPoolExecutor
    ) -> None:
        """Stop sources, drain sinks within their deadline, close them. Each step happens whatever the others do."""
        for feed in feeds:
            await feed.stop()
            self.summary.repaired += feed.sequencer.counts.repaired
            self.summary.absent += feed.sequencer.counts.absent
            self.summary.revised += feed.sequencer.counts.revised
        compute.shutdown(wait=True)
        if self.ledger is not None:
            await self.ledger.finish()
        self.summary.interrupted = self._stopping
        try:
            await asyncio.to_thread(emitter.close)
        finally:
            self.summary.delivery = emitter.report()
            self.summary.delivered = {
                name: sink.delivered for name, sink in self.summary.delivery.sinks.items()
            }


def limit_bars(feeds: Sequence[Feed], anchors: Mapping[str, int], bars: int) -> None:
    """Have each gate close after `bars` bars a symbol past its anchor (ns); ticks go on until the last of them."""
    end = 0
    for feed in feeds:
        if not feed.ticks:
            feed.sequencer.limit = feed.spec.interval.row(anchors[feed.name]) + bars
            end = max(end, feed.spec.interval.ts(feed.sequencer.limit))
    for feed in feeds:
        if feed.ticks:
            feed.sequencer.limit = feed.spec.interval.row(end)


class SilenceWatch:
    """Warns when a frame has had no bar of any symbol for long: an outage, or a recording that is over."""

    FIRST = 12
    """Closes without a bar before the first warning; each further one comes after twice as many."""

    def __init__(self, dag: EventFlowDAG) -> None:
        frames = [node.frame for node in dag.data_nodes() if not dag.is_ticking(node.frame)]
        self._intervals = {name: dag.frames[name].interval for name in frames}
        self._last: dict[str, int] = {}
        self._warn_at: dict[str, int] = {}

    def note(self, frame: str, batch: BarBatch) -> None:
        """See a batch of a data frame."""
        if frame not in self._intervals:  # a schedule may well be silent
            return
        if len(batch.symbols) or frame not in self._last:
            self._last[frame] = batch.ts
            self._warn_at[frame] = self.FIRST
            return
        closes = (batch.ts - self._last[frame]) // self._intervals[frame].ns
        if closes >= self._warn_at[frame]:
            self._warn_at[frame] *= 2
            log.warning(
                "%s: no symbol has had a bar for %d closes, since %s: an outage, or the source has no more",
                frame,
                closes,
                iso(self._last[frame]),
            )
