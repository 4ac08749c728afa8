"""A planted signal, and small models that are quickly trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from alpha_forge_plugins.models.bilstm_options import FitResult
from alpha_forge_plugins.models.pytorch_bilstm_predictor import BiLSTMPredictor

COLUMNS = ["momentum", "noise", "level"]
WINDOW = 12
SMALL = {"hidden": 8, "epochs": 2, "batch_size": 64}

Samples = tuple[np.ndarray, np.ndarray]


def planted(count: int, seed: int) -> Samples:
    """Windows of an AR(1) return, noise and a slow level; the target follows the AR part's newest values.

    About half of the target's variance can be known from the window.
    """
    rng = np.random.default_rng(seed)
    steps = count + WINDOW
    shocks = rng.normal(size=steps)
    momentum = np.empty(steps)
    momentum[0] = shocks[0]
    for t in range(1, steps):
        momentum[t] = 0.6 * momentum[t - 1] + 0.8 * shocks[t]
    columns = np.stack(
        [momentum * 1e-2, rng.normal(size=steps), 50.0 + rng.normal(size=steps).cumsum() * 0.01]
    )
    view = np.lib.stride_tricks.sliding_window_view(columns, WINDOW, axis=1)[:, :count]
    windows = np.ascontiguousarray(view.transpose(1, 2, 0), dtype=np.float32)
    newest = momentum[WINDOW - 1 : WINDOW - 1 + count]
    before = momentum[WINDOW - 4 : WINDOW - 4 + count]
    targets = 1e-3 * (newest - 0.5 * before + rng.normal(size=count)) + 2e-4
    return windows, targets


def params(directory: Path, reference: str = "small.unified", **others: Any) -> Any:
    return BiLSTMPredictor.Params(
        **{"checkpoint_dir": str(directory), "model_ref": reference, "window_size": WINDOW, **others}
    )


def model(directory: Path, reference: str = "small.unified", **others: Any) -> BiLSTMPredictor:
    return BiLSTMPredictor(params(directory, reference, **others))


def fit(directory: Path, reference: str = "small.unified", *, count: int = 300, **options: Any) -> FitResult:
    windows, targets = planted(count, seed=1)
    return model(directory, reference).fit(
        windows,
        targets,
        planted(count // 2, seed=2),
        columns=COLUMNS,
        symbols=["BTCUSDT", "ETHUSDT"],
        training_range=("2025-01-01T00:00:00Z", "2025-02-01T00:00:00Z"),
        horizon=1,
        options={**SMALL, **options},
    )
