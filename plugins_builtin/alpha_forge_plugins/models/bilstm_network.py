"""The network itself, and inference in batches of one shape. The only importers are `load` and `fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

from alpha_forge_plugins.models.bilstm_checkpoint import (
    CONVERT,
    Architecture,
    Checkpoint,
    CheckpointFiles,
    Scaler,
    Target,
    looks_pickled,
)
from alpha_forge_sdk import ModelError

if TYPE_CHECKING:
    import numpy.typing as npt


class BiLSTM(nn.Module):
    """(n, window, features) float32, scaled → (n,): an LSTM read in both directions, and a linear head.

    The head sees the last layer's final state of each direction: the forward one after the newest bar, the
    backward one after the oldest (Graves & Schmidhuber, 2005). Dropout lies between layers and before the
    head.
    """

    def __init__(self, features: int, architecture: Architecture) -> None:
        super().__init__()
        self.directions = 2 if architecture.bidirectional else 1
        self.lstm = nn.LSTM(
            features,
            architecture.hidden,
            architecture.layers,
            batch_first=True,
            bidirectional=architecture.bidirectional,
            # nn.LSTM warns about a dropout that has no layer to stand behind.
            dropout=architecture.dropout if architecture.layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(architecture.dropout)
        self.head = nn.Linear(architecture.hidden * self.directions, 1)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        _, (hidden, _) = self.lstm(windows)
        last = torch.cat(list(hidden[-self.directions :]), dim=1)
        value: torch.Tensor = self.head(self.dropout(last)).squeeze(1)
        return value


class Predictor:
    """A network in eval mode, its scaler and target: raw windows in, values in the target's units out."""

    def __init__(self, network: BiLSTM, scaler: Scaler, target: Target) -> None:
        self.network = network.eval().requires_grad_(False)
        self.scaler = scaler
        self.target = target

    def __call__(self, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """(n, window, features) float32 → (n,) float64; a row with a value that isn't finite gives NaN.

        Row i depends on row i alone, to the last bit, as long as n is the same from call to call.
        """
        known = np.isfinite(windows).reshape(len(windows), -1).all(axis=1)
        with torch.inference_mode():
            output = self.network(torch.from_numpy(self.scaler.apply(windows))).numpy()
        values: npt.NDArray[np.float64] = output.astype(np.float64) * self.target.scale + self.target.mean
        values[~known] = np.nan  # an infinity was cut off, and left a finite answer
        return values

    def in_batches(self, windows: npt.NDArray[np.float32], batch: int) -> npt.NDArray[np.float64]:
        """Any number of windows, in zero-padded batches of `batch` rows: the bits that the runtime gets."""
        values = np.empty(len(windows), np.float64)
        padded = np.zeros((batch, *windows.shape[1:]), np.float32)
        for start in range(0, len(windows), batch):
            part = windows[start : start + batch]
            padded[: len(part)] = part
            padded[len(part) :] = 0.0
            values[start : start + batch] = self(padded)[: len(part)]
        return values


def load_predictor(files: CheckpointFiles, checkpoint: Checkpoint) -> Predictor:
    """Read the weights into a network of the described architecture.

    Raises ModelError: AF7002 damaged, AF7004 a pickle under the name of safetensors, AF7005 other weights
    than described.
    """
    content = files.read_weights(checkpoint)
    try:
        tensors = safetensors.torch.load(content)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        if looks_pickled(content):
            raise ModelError("AF7004", f"{files.weights} is a pickle by another name", CONVERT) from error
        raise ModelError(
            "AF7002",
            f"{files.weights} is not a safetensors file: {error}",
            "copy the checkpoint again, or train it again",
        ) from error
    # On the meta device nothing is allocated or drawn: the global random state stays as it was.
    with torch.device("meta"):
        network = BiLSTM(len(checkpoint.columns), checkpoint.architecture)
    _check_weights(files, network.state_dict(), tensors)
    network.load_state_dict(tensors, assign=True)
    return Predictor(network, checkpoint.scaler, checkpoint.target)


def _check_weights(
    files: CheckpointFiles, expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]
) -> None:
    wrong = [
        f"{name} is {_form(found.get(name))}, not {_form(expected.get(name))}"
        for name in sorted({*expected, *found})
        if _form(found.get(name)) != _form(expected.get(name))
    ]
    wrong += [
        f"{name} holds values that are not finite"
        for name, tensor in found.items()
        if not bool(torch.isfinite(tensor).all())
    ]
    if wrong:
        raise ModelError(
            "AF7005",
            f"the weights in {files.weights} do not fit {files.description.name}: {'; '.join(wrong[:3])}",
            "the two come from different trainings, or one is damaged: copy both again, or train again",
        )


def _form(tensor: torch.Tensor | None) -> str:
    return "absent" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
