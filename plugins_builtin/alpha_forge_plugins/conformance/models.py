"""Cases of the built-in models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alpha_forge_sdk.conformance import ModelConformance


class BiLSTMConformance(ModelConformance):
    """The BiLSTM on a checkpoint trained for two epochs on noise."""

    plugin = "models.pytorch_bilstm_predictor"

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        return {
            "window_size": 6,
            "checkpoint_dir": str(tmp_path / "checkpoint"),
            "model_ref": "small.unified",
        }

    def checkpoint(self, tmp_path: Path) -> None:
        import numpy as np

        rng = np.random.default_rng(3)
        windows = rng.normal(0, 1, (256, 6, 3)).astype(np.float32)
        targets = windows[:, -1, 0] * 0.1 + rng.normal(0, 0.05, 256)
        model = self.make(tmp_path)
        model.fit(
            windows[:192],
            targets[:192],
            (windows[192:], targets[192:]),
            columns=("rsi_14", "mom_20", "volume_ratio"),
            symbols=("AAAUSDT",),
            options={"hidden": 8, "epochs": 2, "batch_size": 64},
        )
