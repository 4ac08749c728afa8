"""``models.pytorch_bilstm_predictor``: one bidirectional LSTM for all symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from alpha_forge_plugins.models.bilstm_checkpoint import Checkpoint, CheckpointFiles
from alpha_forge_plugins.models.bilstm_options import FitOptions, FitResult, Progress, parse_options
from alpha_forge_sdk import MissingExtraError, Model, ModelError, ModelSpec
from alpha_forge_sdk import Params as BaseParams

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from alpha_forge_plugins.models.bilstm_network import Predictor

    Windows = npt.NDArray[np.float32]
    Values = npt.NDArray[np.float64]

_NAME = "models.pytorch_bilstm_predictor"


class BiLSTMPredictor(Model):
    """Predicts with a bidirectional LSTM over a window of columns, one model for all symbols.

    The checkpoint is ``{checkpoint_dir}/{model_ref}.json`` (columns, window, scaler, target, architecture,
    training range) and ``.safetensors`` (weights). Inputs are standardised inside, by the checkpoint's
    scaler. `predict` runs in eval mode on batches of exactly ``batch`` rows, so that a prediction has the
    same bits whoever comes together with it.
    """

    class Params(BaseParams):
        """Which checkpoint, and what the graph expects of it."""

        strategy: Literal["unified"] = Field("unified", description="`unified`: one model for all symbols")
        window_size: int = Field(
            30, ge=1, le=10_000, description="bars in the window; must be the checkpoint's window"
        )
        output_col: str = Field(
            "model.prediction", min_length=1, description="the predicted column; the step's only output"
        )
        checkpoint_dir: str = Field(min_length=1, description="directory of the checkpoint's two files")
        model_ref: str = Field(
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$",
            description="name of the checkpoint, without suffix; comes from the step's `inputs.model_ref`",
        )
        threads: int = Field(
            1,
            ge=1,
            le=256,
            description="torch's threads, for the whole process; more than one stalls on a busy machine",
        )

    examples = (
        {
            "strategy": "unified",
            "window_size": 30,
            "output_col": "model.prediction",
            "checkpoint_dir": "tmp/models/my_checkpoint",
            "model_ref": "my_model.unified",
        },
    )

    FitOptions = FitOptions
    """What `fit` takes as ``options``: a `Params` model, so that it has a schema and describes itself."""

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._files = CheckpointFiles(params.checkpoint_dir, params.model_ref)
        self._predictor: Predictor | None = None

    def describe(self) -> ModelSpec:
        """The columns in the checkpoint's order and its window, from the JSON alone; no torch.

        Raises ModelError: AF7001 missing, AF7002 damaged, AF7003 another window than ``window_size``, AF7004
        only a pickle is there.
        """
        checkpoint = self._checkpoint()
        return ModelSpec(checkpoint.columns, checkpoint.window)

    def load(self) -> None:
        """Read the weights. Raises what `describe` raises, ModelError AF7005 for weights that don't fit the
        JSON, and MissingExtraError without torch.

        torch has one setting of threads for the whole process; it becomes ``threads`` here, if it is another.
        """
        checkpoint = self._checkpoint()
        _need_torch()
        import torch

        from alpha_forge_plugins.models.bilstm_network import load_predictor

        predictor = load_predictor(self._files, checkpoint)
        if torch.get_num_threads() != self.params.threads:
            torch.set_num_threads(self.params.threads)
        self._predictor = predictor

    def predict(self, windows: Windows) -> Values:
        """(batch, window, features) float32 → (batch,) float64, in the target's units.

        A row that holds a NaN or an infinity gives NaN. Raises ModelError: AF7010 for any other shape or
        type, AF7011 before `load`.
        """
        if self._predictor is None:
            raise ModelError("AF7011", f"{_NAME} was asked to predict before load()", "call load() first")
        columns = len(self._predictor.scaler.mean)
        expected = (self.batch, self.params.window_size, columns)
        if windows.shape != expected or windows.dtype.name != "float32":
            raise ModelError(
                "AF7010",
                f"{_NAME} predicts float32 windows of shape {expected} (batch, window, features), "
                f"got {windows.dtype.name} {tuple(windows.shape)}",
                "pad the batch with zero rows: another shape would give other bits",
            )
        return self._predictor(windows)

    def fit(
        self,
        windows: Windows,
        targets: Values,
        validation: tuple[Windows, Values],
        progress: Progress | None = None,
        *,
        columns: Sequence[str],
        symbols: Sequence[str] = (),
        training_range: tuple[str, str] = ("", ""),
        target: str = "forward_return",
        horizon: int = 1,
        options: Mapping[str, Any] | None = None,
    ) -> FitResult:
        """Train on (n, window, features) float32 windows and (n,) float64 targets; write the checkpoint.

        ``validation`` is a pair of the same form, from later bars: it decides when to stop and which epoch's
        weights are kept, and its figures are reported. Samples with a value that isn't finite are left out.
        ``columns`` names the features in order; ``training_range`` is the first and last close (ISO 8601),
        ``target`` and ``horizon`` say what is predicted: all of it is written down beside the weights.
        ``options`` are those of `FitOptions`. The same data, options and machine give the same bits; torch's
        global random state and threads are put back afterwards. The new checkpoint isn't loaded: call `load`.

        Raises ModelError: AF7006 an unknown or wrong option, AF7007 data that can't be trained on, AF7008 the
        training diverged, AF7009 the checkpoint can't be written; MissingExtraError without torch.
        """
        chosen = parse_options(options or {})
        _need_torch()
        from alpha_forge_plugins.models.bilstm_training import Dataset, Description, train

        dataset = Dataset.checked(
            windows, targets, *validation, window=self.params.window_size, columns=len(columns)
        )
        about = Description(tuple(columns), tuple(symbols), training_range, target, horizon)
        return train(
            self._files, dataset, about, chosen, progress, batch=self.batch, threads=self.params.threads
        )

    def _checkpoint(self) -> Checkpoint:
        checkpoint = self._files.read()
        if checkpoint.window != self.params.window_size:
            raise ModelError(
                "AF7003",
                f"the checkpoint '{self.params.model_ref}' was trained on windows of {checkpoint.window} "
                f"bars, but window_size is {self.params.window_size}",
                f"set window_size: {checkpoint.window}, or train again",
            )
        return checkpoint


def _need_torch() -> None:
    try:
        for name in ("torch", "safetensors.torch"):
            import_module(name)
    except ImportError as error:
        raise MissingExtraError(_NAME, "torch") from error
