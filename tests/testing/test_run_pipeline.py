"""The harness that runs configurations: clock, scripted source, and what a run gives back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import yaml

from alpha_forge.contracts.types import Bar
from alpha_forge_sdk.testing.bars import made_bars
from alpha_forge_sdk.testing.clock import VirtualClock
from alpha_forge_sdk.testing.pipeline import EPOCH, PipelineRun, run_pipeline
from alpha_forge_sdk.testing.source import ScriptedSource, Series, arrivals_in_order

HOUR = 3_600_000_000_000
CONFIG = """
name: harness
using: {capabilities: [shared, middlefreq]}
signal_generation:
  mode: stream
  warmup: {lookback_days: auto}
  on_prediction:
    - {using: sinks.csv_append, column: ohlcv.sma, params: {path: OUT/predictions.csv}}
pipeline:
  - data: {using: data.binance_futures, outputs: {frame: ohlcv}, params: {universe: [BTCUSDT, ETHUSDT], interval: 1h}}
  - features: {using: features.sma, inputs: {column: ohlcv.close}, outputs: {columns: [sma]}, params: {window: 4}}
"""


def config(folder: Path) -> str:
    return CONFIG.replace("OUT", str(folder))


def market(bars: int = 30) -> dict[str, dict[str, np.ndarray]]:
    columns = made_bars(bars, 2, seed=7)
    ts = EPOCH + HOUR * np.arange(1, bars + 1)
    return {
        symbol: {"ts": ts, **{name: values[:, n] for name, values in columns.items()}}
        for n, symbol in enumerate(("BTCUSDT", "ETHUSDT"))
    }


class TestVirtualClock:
    def test_sleepers_wake_in_order_when_time_passes_them(self) -> None:
        async def scene() -> list[str]:
            clock, woken = VirtualClock(0), []

            async def sleeper(name: str, seconds: float) -> None:
                await clock.sleep(seconds)
                woken.append(name)

            tasks = [asyncio.create_task(sleeper(n, s)) for n, s in (("b", 2), ("a", 1), ("never", 9))]
            await asyncio.sleep(0)
            clock.advance_by(2)
            for _ in range(3):
                await asyncio.sleep(0)
            tasks[2].cancel()
            clock.advance_by(100)  # a cancelled sleeper is not woken
            return woken

        assert asyncio.run(scene()) == ["a", "b"]

    def test_it_never_goes_back(self) -> None:
        clock = VirtualClock(5)
        clock.advance(3)
        assert clock.now() == 5


class TestScriptedSource:
    def test_history_is_open_at_the_start_and_closed_at_the_end(self) -> None:
        series = Series(market(5)["BTCUSDT"])
        block = series.block("BTCUSDT", int(series.ts[1]), int(series.ts[3]))
        assert block.ts.tolist() == series.ts[2:4].tolist()

    def test_closes_must_ascend(self) -> None:
        columns = market(3)["BTCUSDT"]
        with pytest.raises(ValueError, match="ascend"):
            Series({**columns, "ts": columns["ts"][::-1]})

    def test_the_stream_brings_the_arrivals_in_their_order(self) -> None:
        bars = market(3)
        arrivals = arrivals_in_order(bars, 0)[::-1]
        source = ScriptedSource(bars, arrivals, VirtualClock(0), HOUR)

        async def scene() -> list[tuple[int, str | None]]:
            return [(e.ts, e.symbol) async for e in source.stream() if e.closed]

        assert asyncio.run(scene()) == arrivals
        assert source.clock.now() == max(ts for ts, _ in arrivals)


class TestRunPipeline:
    def test_every_bar_after_the_history_predicts_what_the_formula_says(self, tmp_path: Path) -> None:
        bars = market()
        run = run_pipeline(config(tmp_path), bars=bars, history=6)
        values = run.values("sma")
        assert len(values) == len(run.predictions) == 2 * 24 == run.summary.emitted
        close = bars["BTCUSDT"]["close"]
        for at in range(6, 30):
            # Four values are summed up in their order, as the kernel does.
            want = sum(close[at - 3 : at + 1]) / 4
            assert values["BTCUSDT", int(bars["BTCUSDT"]["ts"][at])] == pytest.approx(want, rel=1e-12)

    def test_nothing_is_written_unless_asked_for(self, tmp_path: Path) -> None:
        run_pipeline(config(tmp_path), bars=20)
        assert list(tmp_path.iterdir()) == []
        run = run_pipeline(config(tmp_path), bars=20, deliver=True)
        written = (tmp_path / "predictions.csv").read_text().splitlines()
        assert len(written) - 1 == len(run.predictions)

    def test_how_the_bars_arrive_does_not_matter(self, tmp_path: Path) -> None:
        bars = market()
        ordered = run_pipeline(config(tmp_path), bars=bars, history=0)
        streamed = []
        for at in range(30):
            for symbol in sorted(bars, reverse=bool(at % 2)):
                columns = bars[symbol]
                names = ("open", "high", "low", "close", "volume")
                streamed.append(
                    (symbol, Bar(int(columns["ts"][at]), *(float(columns[n][at]) for n in names)))
                )
        assert run_pipeline(config(tmp_path), bars=iter(streamed), per_turn=7).values() == ordered.values()

    def test_text_path_and_mapping_are_the_same_configuration(self, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_text(config(tmp_path))
        runs: list[PipelineRun] = [
            run_pipeline(form, bars=20, seed=3)
            for form in (config(tmp_path), tmp_path / "config.yaml", yaml.safe_load(config(tmp_path)))
        ]
        assert runs[0].values() == runs[1].values() == runs[2].values()
        assert run_pipeline(config(tmp_path), bars=20, seed=4).values() != runs[0].values()

    def test_frames_hold_the_newest_rows(self, tmp_path: Path) -> None:
        bars = market()
        frame = run_pipeline(config(tmp_path), bars=bars, history=0).frames["ohlcv"]
        assert frame.symbols == ("BTCUSDT", "ETHUSDT")
        assert frame.ts.tolist() == bars["BTCUSDT"]["ts"].tolist()
        assert np.array_equal(frame.columns["close"][:, 1], bars["ETHUSDT"]["close"])
        assert np.isnan(frame.columns["sma"][:3]).all()
        assert np.isfinite(frame.columns["sma"][3:]).all()

    def test_a_mistake_is_told_as_by_check(self, tmp_path: Path) -> None:
        from alpha_forge.dsl.diagnostics import ConfigError

        with pytest.raises(ConfigError, match=r"features\.sma"):
            run_pipeline(config(tmp_path).replace("features.sma", "features.smaa"))

    def test_a_symbol_without_bars_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no bars of ETHUSDT"):
            run_pipeline(config(tmp_path), bars={"BTCUSDT": market()["BTCUSDT"]})
