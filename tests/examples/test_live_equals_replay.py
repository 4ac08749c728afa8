"""The large example's features over a real recording: streamed row by row through the local exchange, and replayed as a
whole, they have one hash."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from alpha_forge.cli.local_exchange import endpoint_overrides
from alpha_forge.plan.compiler import load
from alpha_forge.runtime.replay.outputs import Digest, Nowhere, column_pairs
from alpha_forge.runtime.replay.replayer import Replayer
from alpha_forge.runtime.runner import RealTimeRunner
from alpha_forge.runtime.verify.values import Collector
from alpha_forge_sdk.sandbox import SandboxConfig
from alpha_forge_sdk.testing.exchange import running_exchange
from tests.examples.test_examples_on_real_data import DATA, EXAMPLES

CONFIG = EXAMPLES / "bilstm_realtime_signal.yaml"
QUARTER = 15 * 60 * 10**9
BARS = 240
"""Closes that are streamed: 30 rows of the resampled frame."""

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason="the recorded klines are not there"),
]


def graph(overrides: tuple[str, ...]):
    """The example without its model: nothing is trained here. A wider epsilon, since the recording is short."""
    compiled = load(CONFIG, ("warmup.epsilon=1e-4", *overrides), training=True)
    nodes = {key: node for key, node in compiled.dag.nodes.items() if node.kind != "model"}
    flows = tuple(
        dataclasses.replace(flow, nodes=tuple(n for n in flow.nodes if n in nodes))
        for flow in compiled.dag.flows
    )
    return compiled.document, dataclasses.replace(compiled.dag, nodes=nodes, flows=flows, sinks=(), models={})


def test_streamed_row_by_row_and_replayed_as_a_whole(tmp_path: Path) -> None:
    first = pd.read_feather(DATA / "BTC_USDT_USDT-15m-futures.feather")["date"].iloc[0]
    start = int(first.timestamp() * 1000) + 30 * 86_400_000
    symbols = graph(())[1].frames["ohlcv_15m"].symbols
    config = SandboxConfig(data=DATA, symbols=symbols, speed=72_000, hold=True, start_ms=start)
    with running_exchange(config) as exchange:
        document, dag = graph(tuple(endpoint_overrides(graph(())[1], exchange.url)))
        runner = RealTimeRunner(document, dag, bars=BARS, cache_dir=tmp_path)
        streamed = Collector()
        runner.engine.observe(streamed.add)
        summary = asyncio.run(asyncio.wait_for(runner.run(), 120))
        assert summary.warmup is not None
        anchor = summary.warmup.frames["ohlcv_15m"].anchor
        end = anchor + BARS * QUARTER
        pairs = column_pairs(dag, features=True)
        replayer = Replayer(dag, anchor, end, pairs, scheduled=False, cache_dir=tmp_path)
        replayed = asyncio.run(asyncio.wait_for(replayer.run(Nowhere()), 60))
    assert replayed.evaluation == "whole arrays"
    digest, cells = Digest(), streamed.cells()
    for frame, column in pairs:
        cut = cells[(frame, column)]
        kept = (cut.ts > anchor) & (cut.ts <= end)
        digest.add(frame, column, cut.ts[kept], cut.symbols[kept], cut.values[kept])
    assert digest.columns() == replayed.digest.columns()
    # One of the symbols lacks some bars of the recording; of what is left, every column has every row.
    assert set(digest.counts.values()) == {max(digest.counts.values())}
    assert max(digest.counts.values()) > 0.9 * len(symbols) * BARS // 8
