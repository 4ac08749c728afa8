"""Runs of a configuration against a hostile local exchange, each verified: ``alpha_forge verify CONFIG``."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from alpha_forge.cli.local_exchange import endpoint_overrides
from alpha_forge.contracts.errors import AlphaForgeError
from alpha_forge.contracts.plugin import Sink
from alpha_forge.contracts.types import Prediction
from alpha_forge.plan.compiler import load
from alpha_forge.plan.graph import EventFlowDAG, SinkSpec
from alpha_forge.registry import discover
from alpha_forge.runtime.recording.identity import identity
from alpha_forge.runtime.recording.reader import read
from alpha_forge.runtime.recording.recorder import Recorder
from alpha_forge.runtime.runner import RealTimeRunner, RunSummary
from alpha_forge.runtime.verify.delivered import check_sink
from alpha_forge.runtime.verify.findings import Verdict
from alpha_forge.runtime.verify.market import check_market
from alpha_forge.runtime.verify.recompute import InOrder
from alpha_forge.runtime.verify.recorded import verify_segment

Float = npt.NDArray[np.float64]


@dataclass(slots=True)
class HostileRun:
    """One run, what was done to it, and whether it holds."""

    seed: int
    verdict: Verdict
    faults: Counter[str] = field(default_factory=Counter)
    summary: RunSummary | None = None
    error: str = ""

    @property
    def holds(self) -> bool:
        return self.verdict.holds and not self.error


class _Gathered:
    """What a sink of a verified run received: in place of the configuration's own destination."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[tuple[str, object], Prediction] = {}

    def add(self, records: Sequence[Prediction]) -> None:
        with self._lock:
            self._records |= {(record.symbol, record.ts): record for record in records}

    def read_back(self, params: Mapping[str, Any]) -> list[Prediction]:
        with self._lock:
            return list(self._records.values())


def gathering(spec: SinkSpec) -> tuple[SinkSpec, _Gathered]:
    """The same sink, but what it is handed stays in memory."""
    gathered = _Gathered()

    class Gathering(Sink):
        """Keeps what it is handed."""

        Params = spec.plugin.Params
        idempotent_by: ClassVar[tuple[str, ...]] = ("ts", "symbol")

        def emit_batch(self, predictions: Sequence[Prediction]) -> None:
            gathered.add(predictions)

    return dataclasses.replace(spec, plugin=Gathering), gathered


def hostile_run(
    config: Path, overrides: tuple[str, ...], *, seed: int, bars: int, speed: float, folder: Path
) -> HostileRun:
    """Run `config` for `bars` closed bars against the exchange and the faults of `seed`, and verify what it did.

    Nothing reaches the configuration's sinks. ``folder`` takes the recording and the run's state.
    """
    from alpha_forge_sdk.sandbox import DEFAULT_START_MS, FaultScript, SandboxConfig
    from alpha_forge_sdk.testing.exchange import running_exchange

    dag = load(config, overrides).dag
    symbols = tuple(sorted({s for n in dag.data_nodes() for s in dag.frames[n.frame].symbols}))
    interval_ms = max(dag.frames[n.frame].interval.ns for n in dag.data_nodes()) // 1_000_000
    script = FaultScript.random(
        seed,
        symbols=symbols,
        interval_ms=interval_ms,
        start_ms=DEFAULT_START_MS,
        until_ms=DEFAULT_START_MS + bars * interval_ms,
    )
    outcome = HostileRun(seed, Verdict())
    exchange_config = SandboxConfig(seed=seed, symbols=symbols, speed=speed, hold=True)
    with running_exchange(exchange_config, faults=script) as exchange:
        endpoints = [*endpoint_overrides(dag, exchange.url), *_patience(dag)]
        try:
            _run(config, (*overrides, *endpoints), exchange, bars, folder, outcome)
        except AlphaForgeError as error:
            outcome.error = str(error)
        outcome.faults = Counter(getattr(exchange.faults, "counts", {}))
    return outcome


def _patience(dag: EventFlowDAG) -> list[str]:
    """Overrides with which a ban of hours is waited for: here it is over in a blink, and the run is to go on."""
    nodes = [n for n in dag.data_nodes() if "patience" in n.plugin.Params.model_fields]
    return [".".join(map(str, (*n.path, "params", "patience"))) + "=1000000" for n in nodes]


def _run(
    config: Path, overrides: tuple[str, ...], exchange: Any, bars: int, folder: Path, outcome: HostileRun
) -> None:
    compiled = load(config, overrides)
    pairs = [gathering(spec) for spec in compiled.dag.sinks]
    dag = dataclasses.replace(compiled.dag, sinks=tuple(spec for spec, _ in pairs))
    catalogue = discover(capabilities=compiled.document.capabilities)
    path = folder / "run.afrec"
    recorder = Recorder(path, dag, identity(compiled.dag, catalogue, config, overrides))
    runner = RealTimeRunner(
        compiled.document,
        dag,
        bars=bars,
        cache_dir=folder / "cache",
        state_dir=folder / "state",
        journal=recorder,
    )
    try:
        outcome.summary = asyncio.run(runner.run())
    finally:
        recorder.close()
    for segment in read(path):
        verdict = verify_segment(dag, segment)
        check_market(dag, InOrder(dag, segment), _Market(dag, exchange).bars, verdict)
        for spec, gathered in pairs:
            check_sink(dag, spec, segment.predicted(), gathered.read_back, verdict)
        _add(outcome.verdict, verdict)


def _add(total: Verdict, verdict: Verdict) -> None:
    total.predictions += verdict.predictions
    total.bars += verdict.bars
    total.checks += [check for check in verdict.checks if check not in total.checks]
    total.notes += verdict.notes
    total.findings += verdict.findings


class _Market:
    """The exchange's own bars, as a frame has them."""

    def __init__(self, dag: EventFlowDAG, exchange: Any) -> None:
        self._dag = dag
        self._exchange = exchange

    def bars(self, frame: str, first: int, last: int) -> Float:
        """(5, rows, symbols), NaN where the exchange has none."""
        from alpha_forge_sdk.testing.exchange import market_bars

        spec = self._dag.frames[frame]
        values = np.full((5, last - first + 1, len(spec.symbols)), np.nan)
        start, end = spec.interval.ts(first - 1), spec.interval.ts(last)
        for place, symbol in enumerate(spec.symbols):
            for bar in market_bars(self._exchange, symbol, spec.interval.name, start, end):
                values[:, spec.interval.row(bar.ts) - first, place] = bar[1:]
        return values
