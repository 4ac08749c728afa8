"""`alpha_forge train`: what it learns, what it never sees, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.fake_source import ScriptedSource, VirtualClock
from tests.market_truth import features, random_market

from alpha_forge.contracts.errors import AlphaForgeError
from alpha_forge.dsl import parse
from alpha_forge.plan.compiler import compile_document
from alpha_forge.registry import discover
from alpha_forge.runtime.training import Trainer

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT.parent / "shared" / "data" / "klines" / "spot_1h_4y"
EXAMPLE = ROOT / "examples" / "08_signal_generation" / "minimal_signal_generation.yaml"

CONFIG = """
name: training
using: {{capabilities: [shared, middlefreq]}}
signal_generation:
  mode: stream
  warmup: {{lookback_days: auto}}
  on_prediction: [{{using: sinks.csv_append, params: {{path: unused.csv}}}}]
pipeline:
- data: {data}
- features: {{using: features.momentum, inputs: {{column: ohlcv.close}}, outputs: {{columns: [mom_20]}}, params: {{window: 20}}}}
- features: {{using: features.rsi, inputs: {{column: ohlcv.close}}, outputs: {{columns: [rsi_14]}}, params: {{window: 14}}}}
- model:
    using: models.pytorch_bilstm_predictor
    inputs: {{frame: ohlcv, model_ref: small.unified}}
    outputs: {{columns: [model.prediction]}}
    params: {{window_size: 12, checkpoint_dir: {folder}}}
training: {{horizon: {horizon}, history_days: {days}, epochs: {epochs}, seed: 3, options: {{hidden: 8}}}}
"""


def run_command(*args: str, cwd: Path) -> dict:
    command = [sys.executable, "-m", "alpha_forge", "train", *args, "--format", "json", "--quiet"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_planted_signal_of_the_local_exchange_is_learned(tmp_path):
    report = run_command(
        str(EXAMPLE),
        "--sandbox",
        "--set",
        "training.history_days=150",
        "--set",
        "training.epochs=6",
        cwd=tmp_path,
    )
    result = report["result"]
    assert result["validation_mse"] <= 0.9 * result["naive_mse"]
    assert result["information_coefficient"] > 0.2
    assert report["training_range"][1] < report["validation_range"][0]
    assert sorted(p.name for p in (tmp_path / "tmp/models/my_checkpoint").iterdir()) == [
        "my_model.unified.json",
        "my_model.unified.safetensors",
    ]


@pytest.mark.real_data
@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded klines are not here")
def test_on_recorded_bars_it_does_not_do_worse_than_the_mean(tmp_path):
    universe = "[BTCUSDT, ETHUSDT, SOLUSDT, XRPUSDT]"
    data = f"{{using: data.files, outputs: {{frame: ohlcv}}, params: {{path: {RECORDED}, universe: {universe}, interval: 1h}}}}"
    config = tmp_path / "recorded.yaml"
    config.write_text(
        CONFIG.format(data=data, folder=tmp_path / "model", horizon=1, days=1500, epochs=2), "utf-8"
    )
    result = run_command(str(config), cwd=tmp_path)["result"]
    assert result["validation_mse"] <= 1.005 * result["naive_mse"]
    assert np.isfinite(result["information_coefficient"])


def trainer(tmp_path: Path, market, *, horizon: int = 3, days: int = 20) -> tuple[Trainer, object]:
    universe = ", ".join(market)
    data = f"{{using: data.binance_futures, outputs: {{frame: ohlcv}}, params: {{universe: [{universe}], interval: 1h}}}}"
    text = CONFIG.format(data=data, folder=tmp_path / "model", horizon=horizon, days=days, epochs=1)
    document, diagnostics = parse(text, "training.yaml")
    dag = compile_document(document, discover(capabilities=document.capabilities), diagnostics, training=True)
    diagnostics.raise_if_any()
    newest = max(int(bars.index[-1]) for bars in market.values())
    clock = VirtualClock(newest)
    source = ScriptedSource(market, [(newest, next(iter(market)))], clock, 3600 * 10**9)
    return Trainer(document, dag, clock=clock, sources={"ohlcv": source}), source


class Spy:
    """Takes the place of the model's fit and keeps what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def __call__(self, windows, targets, validation, progress, **about):
        self.calls.append((windows, targets, validation, about))
        progress(1, 1, 1.0, 1.0)
        return object()


@pytest.mark.parametrize("symbols", [1, 4])
def test_samples_are_those_of_pandas_and_no_target_crosses_the_split(tmp_path, monkeypatch, symbols):
    market = random_market(symbols, 480, seed=4)
    hole = next(iter(market))
    market[hole] = market[hole].drop(market[hole].index[[200, 201, 330]])
    training, _ = trainer(tmp_path, market)
    spy = Spy()
    monkeypatch.setattr(type(training._model), "fit", lambda self, *args, **more: spy(*args, **more))
    asyncio.run(training.run())
    (windows, targets, (late_windows, late_targets), about) = spy.calls[0]
    assert about["columns"] == ("mom_20", "rsi_14")
    assert windows.dtype == np.float32
    assert windows.shape[1:] == (12, 2)

    # Everything again, by pandas: the target, and where the window of each sample ends.
    wanted: dict[bytes, tuple[float, int, int]] = {}
    for bars in market.values():
        close = bars["close"]
        ahead = close.shift(-3) / close - 1
        momentum = features(bars)["mom_20"].astype(np.float32)
        when = bars.index.to_numpy()
        for k in range(12, len(bars) - 3):
            wanted[momentum.iloc[k - 11 : k + 1].to_numpy().tobytes()] = (
                ahead.iloc[k],
                int(when[k]),
                int(when[k + 3]),
            )
    early = [wanted[np.ascontiguousarray(w[:, 0]).tobytes()] for w in windows]
    late = [wanted[np.ascontiguousarray(w[:, 0]).tobytes()] for w in late_windows]
    assert np.allclose([e[0] for e in early], targets, rtol=1e-12, atol=0)
    assert np.allclose([e[0] for e in late], late_targets, rtol=1e-12, atol=0)
    assert max(e[2] for e in early) < min(e[1] for e in late)
    assert len(late) == pytest.approx(0.2 * (len(early) + len(late)), rel=0.1)


def test_a_history_too_short_says_so(tmp_path):
    market = random_market(1, 60, seed=1)
    training, source = trainer(tmp_path, market)
    with pytest.raises(AlphaForgeError) as caught:
        asyncio.run(training.run())
    assert caught.value.code == "AF7023"
    assert source.closed == 1
