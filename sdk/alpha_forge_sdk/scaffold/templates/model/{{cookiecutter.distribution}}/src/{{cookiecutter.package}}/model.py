"""The model `models.{{ cookiecutter.name }}`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from alpha_forge_sdk import Model, ModelError, ModelSpec
from alpha_forge_sdk import Params as BaseParams
from pydantic import Field

from {{ cookiecutter.package }}.checkpoint import Checkpoint
from {{ cookiecutter.package }}.report import FitResult

Windows = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]

_RIDGE = 1e-3
"""Weight of the weights themselves, relative to the samples: keeps columns that say the same from growing apart."""


class {{ cookiecutter.__class }}(Model):
    """{{ cookiecutter.description }}

    The checkpoint is ``{checkpoint_dir}/{model_ref}.json``, with columns, window and weights in it.
    """

    class Params(BaseParams):
        """Which checkpoint, and what the graph expects of it."""

        window_size: int = Field(8, ge=1, le=1000, description="bars in the window; must be the checkpoint's window")
        checkpoint_dir: str = Field(min_length=1, description="directory of the checkpoint")
        model_ref: str = Field(
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$",
            description="name of the checkpoint, without suffix; comes from the step's inputs.model_ref",
        )
        output_col: str = Field("model.prediction", min_length=1, description="the predicted column")

    examples = ({"window_size": 8, "checkpoint_dir": "models", "model_ref": "my_model"},)

    def __init__(self, params: Params) -> None:
        """Only remembers the parameters: files are read by `describe` and `load`."""
        super().__init__(params)
        self._loaded: Checkpoint | None = None

    def describe(self) -> ModelSpec:
        """Columns and window of the checkpoint. Raises ModelError if it is missing, damaged, or of another window."""
        checkpoint = self._read()
        return ModelSpec(checkpoint.columns, checkpoint.window)

    def load(self) -> None:
        """Read the weights. Raises what `describe` raises."""
        self._loaded = self._read()

    def predict(self, windows: Windows) -> Values:
        """(batch, window, features) float32 → (batch,) float64. A row that isn't finite predicts NaN."""
        checkpoint = self._loaded
        if checkpoint is None:
            raise ModelError("AF7011", "models.{{ cookiecutter.name }} is not loaded", "call load() first")
        known = np.asarray(np.isfinite(windows).all(axis=(1, 2)))
        inputs = np.where(known[:, None, None], windows, 0).astype(np.float64)
        values = np.full(len(windows), checkpoint.intercept)
        # Sums in a fixed order, row by row: a matrix product may give a row other bits beside other rows.
        for bar, row in enumerate(checkpoint.weights):
            for column, weight in enumerate(row):
                values += weight * inputs[:, bar, column]
        return np.where(known, values, np.nan)

    def fit(
        self,
        windows: Windows,
        targets: Values,
        validation: tuple[Windows, Values],
        progress: Callable[[int, int, float, float], None] | None = None,
        *,
        columns: Sequence[str],
        options: Mapping[str, Any] | None = None,
        **about: Any,
    ) -> FitResult:
        """Fit (n, window, features) windows to (n,) targets by least squares, and write the checkpoint.

        `validation` is a pair of the same form, from later bars. Called by ``alpha_forge train``; ``options`` (epochs,
        seed) and what else it tells mean nothing here. Raises ModelError if no sample is finite.
        """
        inputs, wanted = _finite(windows, targets)
        mean, average = inputs.mean(axis=0), wanted.mean()
        centred = inputs - mean
        penalty = _RIDGE * len(inputs) * np.eye(centred.shape[1])
        weights = np.linalg.solve(centred.T @ centred + penalty, centred.T @ (wanted - average))
        shape = (int(windows.shape[1]), len(columns))
        rows = tuple(tuple(float(weight) for weight in row) for row in weights.reshape(shape))
        Checkpoint(tuple(columns), shape[0], rows, float(average - mean @ weights)).write(self._path())
        later, truth = _finite(*validation)
        result = FitResult.of(
            centred @ weights + average, wanted, (later - mean) @ weights + average, truth, float(average)
        )
        if progress is not None:
            progress(1, 1, result.train_mse, result.validation_mse)
        return result

    def _path(self) -> Path:
        return Path(self.params.checkpoint_dir) / f"{self.params.model_ref}.json"

    def _read(self) -> Checkpoint:
        checkpoint = Checkpoint.read(self._path())
        if checkpoint.window != self.params.window_size:
            raise ModelError(
                "AF7003",
                f"{self._path()} has windows of {checkpoint.window} bars, but window_size is {self.params.window_size}",
                f"set window_size: {checkpoint.window}, or train again",
            )
        return checkpoint


def _finite(windows: Windows, targets: Values) -> tuple[Values, Values]:
    """(n, window * features) float64 inputs and (n,) targets, without the samples that aren't finite."""
    flat = windows.reshape(len(windows), -1).astype(np.float64)
    good = np.isfinite(flat).all(axis=1) & np.isfinite(targets)
    if not good.any():
        raise ModelError("AF7007", "no sample is finite", "check the columns, and the length of the history")
    return flat[good], targets[good]
