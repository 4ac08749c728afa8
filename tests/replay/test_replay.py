"""A replay delivers what the run delivered; its tables hold those values to the bit; bad ranges are told."""

from __future__ import annotations

import asyncio

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from alpha_forge.cli import main
from alpha_forge.contracts.errors import SourceError, UsageError
from alpha_forge.runtime.emitter import create_emitter_from_dsl
from alpha_forge.runtime.replay.outputs import Nowhere, SinkOutput, TableFile, column_pairs
from alpha_forge.runtime.replay.replayer import Replayer, ReplayReport
from tests.fake_source import ScriptedSource, VirtualClock
from tests.market_truth import HOUR, features, random_market, worst
from tests.pipelines import COLUMNS, arrivals_of, compiled, config, read_column, run_scripted, shuffled

SCHEDULE = "  scheduling: {buffer_minutes: 2}\n"


def holed(market: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """One symbol begins late, another has a hole in the streamed part."""
    names = list(market)
    market = dict(market)
    bars = market[names[-1]]
    market[names[-1]] = bars.drop(bars.index[[-9, -8, -30]])
    return market


def replay(text: str, market, start: int, end: int | None, output=None, **options) -> ReplayReport:
    document, dag = compiled(text)
    newest = max(int(bars.index[-1]) for bars in market.values())
    clock = VirtualClock(newest + HOUR // 2)
    source = ScriptedSource(market, [], clock, HOUR)
    if output == "sinks":
        output = SinkOutput(dag, create_emitter_from_dsl(document, dag))
    wide = options.pop("features", False)
    replayer = Replayer(
        dag,
        start,
        end,
        column_pairs(dag, features=wide),
        scheduled=not wide,
        sources={"ohlcv": source},
        clock=clock,
        **options,
    )
    return asyncio.run(asyncio.wait_for(replayer.run(output or Nowhere()), 120))


@pytest.mark.parametrize("symbols", [2, 500])
def test_replay_delivers_what_the_run_delivered(symbols, tmp_path):
    """Streamed with shuffled arrivals into one set of files, replayed into another: equal to the byte of each value."""
    bars, streamed = (700, 60) if symbols == 2 else (200, 12)
    columns = COLUMNS if symbols == 2 else ["mom_20", "sma_20"]
    steps = {} if symbols == 2 else {"steps": LIGHT}
    market = holed(random_market(symbols, bars, seed=4))
    closes = sorted({int(t) for b in market.values() for t in b.index})
    arrivals = shuffled(arrivals_of(market, closes[-streamed]), seed=3, block=symbols * 3)
    names = list(market)
    run_scripted(config(names, tmp_path / "live", columns, **steps), market, arrivals)
    start = min(ts for ts, _ in arrivals) - HOUR
    text = config(names, tmp_path / "replayed", columns, **steps)
    report = replay(text, market, start, closes[-1], "sinks", rows=50)
    assert report.evaluation == "whole arrays"
    for column in columns:
        live = read_column(tmp_path / "live" / f"{column}.csv").sort_index()
        again = read_column(tmp_path / "replayed" / f"{column}.csv").sort_index()
        pd.testing.assert_series_equal(live, again, check_exact=True)
        assert len(live) == len(arrivals)


LIGHT = """
- features: {using: features.momentum, inputs: {column: F.close}, outputs: {columns: [mom_20]}, params: {window: 20}}
- features: {using: features.sma, inputs: {column: F.close}, outputs: {columns: [sma_20]}, params: {window: 20}}
"""


def test_chunks_and_ways_give_one_digest(tmp_path):
    market = holed(random_market(3, 900, seed=8))
    text = config(list(market), tmp_path, COLUMNS)
    closes = sorted({int(t) for b in market.values() for t in b.index})
    start, end = closes[500], closes[-20]
    whole = replay(text, market, start, end)
    assert whole.records > 3 * 360 * len(COLUMNS)
    for options in ({"rows": 7}, {"rows": 100}, {"bar_by_bar": True}, {"bar_by_bar": True, "rows": 90}):
        other = replay(text, market, start, end, **options)
        assert other.digest.columns() == whole.digest.columns(), options
        assert (other.records, other.not_ready, other.bars) == (whole.records, whole.not_ready, whole.bars)
    # From another start, what both have is the same: no value knows where the replay began.
    late = TableFile(tmp_path / "late.parquet", compiled(text)[1], wide=True, frames=1)
    early = TableFile(tmp_path / "early.parquet", compiled(text)[1], wide=True, frames=1)
    replay(text, market, closes[560], end, late, features=True)
    replay(text, market, start, end, early, features=True)
    a, b = pd.read_parquet(tmp_path / "early.parquet"), pd.read_parquet(tmp_path / "late.parquet")
    a = a[a.ts > pd.Timestamp(closes[560], tz="UTC")].reset_index(drop=True)
    pd.testing.assert_frame_equal(a, b, check_exact=True)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_feature_table_holds_the_truth(ending, tmp_path):
    market = holed(random_market(3, 700, seed=5))
    text = config(list(market), tmp_path, ["mom_20"])
    dag = compiled(text)[1]
    closes = sorted({int(t) for b in market.values() for t in b.index})
    path = tmp_path / f"features{ending}"
    report = replay(
        text, market, closes[400], None, TableFile(path, dag, wide=True, frames=1), features=True, rows=64
    )
    table = pd.read_csv(path) if ending == ".csv" else pd.read_parquet(path)
    assert not list(tmp_path.glob(".*.part"))
    table["ts"] = pd.to_datetime(table["ts"], utc=True).dt.as_unit("ns").astype("int64")
    assert list(zip(table.ts, table.symbol, strict=True)) == sorted(
        (int(t), s) for s, bars in market.items() for t in bars.index if t > closes[400]
    )
    for symbol, bars in market.items():
        truth = features(bars)
        mine = table[table.symbol == symbol].set_index("ts")
        for column in ("mom_20", "sma_20", "zscore_20", "rsi_14"):
            assert worst(mine[column].to_numpy(), truth[column].reindex(mine.index).to_numpy()) < 1e-6
    assert report.absent == {"ohlcv": 3}


def test_predictions_to_a_csv_are_exact(tmp_path):
    market = random_market(2, 300, seed=5)
    text = config(list(market), tmp_path, ["mom_20"], steps=LIGHT)
    dag = compiled(text)[1]
    start = int(next(iter(market.values())).index[250])
    report = replay(text, market, start, None, TableFile(tmp_path / "p.csv", dag, wide=False, frames=1))
    table = pd.read_csv(tmp_path / "p.csv")
    assert list(table.columns) == ["ts", "symbol", "prediction", "frame", "column"]
    assert len(table) == report.records == 2 * 49
    close = next(iter(market.values()))["close"].to_numpy()
    first = table[table.symbol == next(iter(market))].prediction.to_numpy()
    np.testing.assert_array_equal(first, close[251:] / close[231:-20] - 1.0)


def test_a_failed_replay_leaves_no_file(tmp_path):
    market = random_market(2, 300, seed=5)
    text = config(list(market), tmp_path, ["mom_20"], steps=LIGHT)
    dag = compiled(text)[1]
    start = int(next(iter(market.values())).index[-1])
    with pytest.raises(UsageError, match="in the future"):
        replay(
            text, market, start, start + 50 * HOUR, TableFile(tmp_path / "p.csv", dag, wide=False, frames=1)
        )
    with pytest.raises(SourceError, match="no bar of 'ohlcv'"):
        replay(
            text, market, HOUR * 1000, HOUR * 2000, TableFile(tmp_path / "p.csv", dag, wide=False, frames=1)
        )
    assert not [*tmp_path.glob("*.csv"), *tmp_path.glob(".*")]


def test_a_range_partly_before_listing_is_told(tmp_path, caplog):
    market = random_market(2, 300, seed=5)
    second = list(market)[1]
    market[second] = market[second].iloc[200:]
    text = config(list(market), tmp_path, ["mom_20"], steps=LIGHT)
    start = int(next(iter(market.values())).index[50])
    report = replay(text, market, start, None)
    assert report.first_bars["ohlcv"] == {second: int(market[second].index[0])}
    assert f"history begins within the range for {second}" in caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--start", "2026-01-05", "--end", "2026-01-04"], "is not before --end"),
        (["--start", "yesterday"], "is no instant"),
        (["--start", "2026-01-01", "--out", "x.json"], "AF8101"),
        (["--start", "2026-01-01", "--features"], "--features needs --out"),
        ([], "--start"),
    ],
)
def test_wrong_usage(options, said, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(config(["BTCUSDT"], tmp_path, ["mom_20"], steps=LIGHT))
    result = CliRunner().invoke(main, ["replay", str(path), *options], standalone_mode=True)
    assert result.exit_code == 2
    assert said in result.output


def test_the_command_over_the_local_exchange(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(config(["BTCUSDT", "ETHUSDT"], tmp_path, ["mom_20"], steps=LIGHT))
    shared = [
        "--sandbox",
        "--start",
        "2025-12-01",
        "--end",
        "2025-12-20",
        "--cache",
        str(tmp_path / "cache"),
        "--quiet",
    ]
    digests = []
    for more in ([], ["--bar-by-bar", "--digest"]):
        result = CliRunner().invoke(main, ["replay", str(path), *shared, *more])
        assert result.exit_code == 0, result.output
        digests.append(next(line for line in result.output.splitlines() if line.startswith("sha256")))
        assert "912 values, 0 not ready" in result.output
    assert digests[0] == digests[1]
    assert len(read_column(tmp_path / "mom_20.csv")) == 912
