"""What the conformance kit has to know of the model: how to come by a small checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alpha_forge_sdk.conformance import ModelConformance


class {{ cookiecutter._case }}(ModelConformance):
    """Proves that the model keeps what it declares."""

    plugin = "models.{{ cookiecutter.name }}"

    def params(self, tmp_path: Path) -> Mapping[str, Any]:
        return {"window_size": 6, "checkpoint_dir": str(tmp_path / "checkpoint"), "model_ref": "small"}

    def checkpoint(self, tmp_path: Path) -> None:
        """Fit it to noise."""
        import numpy as np

        random = np.random.default_rng(3)
        windows = random.normal(0, 1, (256, 6, 3)).astype(np.float32)
        targets = windows[:, -1, 0] * 0.1 + random.normal(0, 0.05, 256)
        self.make(tmp_path).fit(
            windows[:192],
            targets[:192],
            (windows[192:], targets[192:]),
            columns=("rsi_14", "momentum_20", "volume_ratio"),
        )
