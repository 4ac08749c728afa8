"""Both examples, through the command line, on recorded bars of a real exchange: every bar once, every feature right.

Truth comes from the files themselves, by TA-Lib and pandas.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import talib
import yaml

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "klines" / "usdm_2025"
EXAMPLES = ROOT / "examples" / "08_signal_generation"
COMMAND = (sys.executable, "-m", "alpha_forge")

SPEED = 36_000
"""Exchange seconds in a second: an hourly bar every tenth of a second. The recording has three days to stream."""
DEADLINE = 100.0

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"the recorded klines are not at {DATA}"),
]


def recorded(symbol: str, interval: str) -> pd.DataFrame:
    """A file's bars by close."""
    bars = pd.read_feather(DATA / f"{symbol.removesuffix('USDT')}_USDT_USDT-{interval}-futures.feather")
    bars.index = pd.DatetimeIndex(bars.pop("date")) + pd.Timedelta(interval.replace("m", "min"))
    return bars


def resampled(bars: pd.DataFrame, interval: str) -> pd.DataFrame:
    grouped = bars.resample(interval, closed="right", label="right")
    merged = grouped.agg({"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"})
    # A bucket whose bars the recording holds in part only is no bar.
    step = pd.Timedelta(interval) // (bars.index[1] - bars.index[0])
    return merged[grouped["close"].count() == step]


def minimal_truth(bars: pd.DataFrame) -> dict[str, np.ndarray]:
    close = bars["close"].to_numpy()
    return {"mom_20": talib.ROCP(close, 20), "rsi_14": talib.RSI(close, 14)}


def bilstm_truth(bars: pd.DataFrame) -> dict[str, np.ndarray]:
    close, high, low, volume = (bars[c].to_numpy() for c in ("close", "high", "low", "volume"))
    columns = {f"rsi{n}": talib.RSI(close, n) for n in (6, 12, 24)}
    for n in (5, 10, 20, 60):
        mean = bars["close"].rolling(n).mean()
        columns[f"ma{n}rocp"] = (10 * (mean / mean.shift(1) - 1)).to_numpy()
    for n in (10, 20, 60):
        columns[f"resistance{n}"] = (talib.MAX(high, n) - close) / close
        columns[f"support{n}"] = (close - talib.MIN(low, n)) / close
    columns["volume_ratio20"] = volume / talib.SMA(volume, 20)
    columns["volatility20"] = bars["close"].pct_change().rolling(20).std(ddof=1).to_numpy()
    return columns


def tolerance(column: str, epsilon: float) -> float:
    """1e-9 relative; of RSI three epsilon: its start weighs less than epsilon, but may be off by more than its value."""
    return 3 * epsilon if column.startswith("rsi") else 1e-9


@contextmanager
def exchange() -> Iterator[str]:
    """A sandbox exchange that plays the recording, as a process of its own; its clock starts with the first subscription."""
    arguments = ("--data", str(DATA), "--speed", str(SPEED), "--hold", "--parent-watch", "--format", "json")
    process = subprocess.Popen(
        (*COMMAND, "sandbox", *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.kill()
        process.communicate()


def derived(example: str, columns: list[str], out: Path) -> Path:
    """The example with a sink for every feature column beside the model's, each with a file of its own under `out`."""
    text = yaml.safe_load((EXAMPLES / example).read_text(encoding="utf-8"))
    model = text["pipeline"][-1]["model"]
    model["params"]["checkpoint_dir"] = str(out / "checkpoint")
    sinks = text["signal_generation"]["on_prediction"]
    assert len(sinks) == 1
    sinks[0]["params"]["path"] = str(out / "prediction.csv")
    frame = model["inputs"]["frame"]
    for column in columns:
        path = str(out / f"{column}.csv")
        sinks.append({"using": "sinks.csv_append", "column": f"{frame}.{column}", "params": {"path": path}})
    config = out / example
    config.write_text(yaml.safe_dump(text, sort_keys=False), encoding="utf-8")
    return config


def forge(*arguments: str, cwd: Path) -> tuple[str, str]:
    done = subprocess.run(
        (*COMMAND, *arguments), cwd=cwd, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def read(path: Path) -> pd.DataFrame:
    """Predictions as a table, ts by symbol. Raises on a key that comes twice."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [(pd.Timestamp(r["ts"]), r["symbol"], float(r["prediction"])) for r in csv.DictReader(file)]
    return pd.DataFrame(rows, columns=["ts", "symbol", "value"]).pivot(
        index="ts", columns="symbol", values="value"
    )


def worst(got: np.ndarray, want: np.ndarray, column: np.ndarray) -> float:
    """Largest relative difference, with a floor of 1e-3 of the column's standard deviation."""
    floor = 1e-3 * np.nanstd(column)
    return float(np.max(np.abs(got - want) / np.maximum(np.abs(want), floor)))


CASES = {
    "minimal": ("minimal_signal_generation.yaml", "1h", "1h", minimal_truth, 20, 1e-9, 25, 60),
    "bilstm": ("bilstm_realtime_signal.yaml", "15m", "2h", bilstm_truth, 26, 1e-4, 27, 240),
}


@pytest.mark.parametrize("case", CASES)
def test_every_bar_has_one_prediction_and_every_feature_is_right(tmp_path, case, record_property):
    example, source, target, truth_of, days, epsilon, history_days, bars = CASES[case]
    symbols = yaml.safe_load((EXAMPLES / example).read_text(encoding="utf-8"))["pipeline"][0]["data"][
        "params"
    ]["universe"]
    truth = {}
    for symbol in symbols:
        own = recorded(symbol, source)
        own = own if source == target else resampled(own, target.replace("m", "min"))
        truth[symbol] = pd.DataFrame(truth_of(own), index=own.index)
    columns = list(truth[symbols[0]])
    config = derived(example, columns, tmp_path)
    with exchange() as url:
        settings = ["--set", f"data.params.endpoints={url}", "--set", f"warmup.lookback_days={days}"]
        settings += ["--set", f"warmup.epsilon={epsilon}"] if epsilon != 1e-9 else []
        tiny = ("--set", "training.epochs=1", "--set", f"training.history_days={history_days}")
        forge("train", str(config), *settings, *tiny, cwd=tmp_path)
        _, log = forge("signal", str(config), *settings, "--bars", str(bars), cwd=tmp_path)

    anchor = re.search(r"Warming \w+: \d+ bars up to (\S+)", log)
    assert anchor is not None
    first = pd.Timestamp(anchor[1])
    last = first + bars * pd.Timedelta(source.replace("m", "min"))
    step = pd.Timedelta(target)
    expected = pd.date_range(first.floor(step) + step, last.floor(step), freq=step)
    assert len(expected) >= 25

    predictions = read(tmp_path / "prediction.csv")
    assert sorted(predictions.columns) == sorted(symbols)
    assert list(predictions.index) == list(expected)
    assert np.isfinite(predictions.to_numpy()).all()
    for column in columns:
        got = read(tmp_path / f"{column}.csv")
        assert list(got.index) == list(expected), column
        found = 0.0
        for symbol in symbols:
            own = truth[symbol][column]
            found = max(found, worst(got[symbol].to_numpy(), own.loc[expected].to_numpy(), own.to_numpy()))
        record_property(f"{case}.{column}", found)
        print(f"{case} {column} {found:.1e}")
        assert found <= tolerance(column, epsilon), (column, found)
