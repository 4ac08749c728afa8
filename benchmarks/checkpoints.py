"""Untrained checkpoints: a model of the right shape, and files that `check` and `signal` take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch

from alpha_forge_plugins.models.bilstm_checkpoint import (
    Architecture,
    Checkpoint,
    CheckpointFiles,
    Scaler,
    Target,
    TrainingRange,
    sha256,
)
from alpha_forge_plugins.models.bilstm_network import BiLSTM


def write_random(directory: Path, reference: str, columns: Sequence[str], window: int = 30) -> None:
    """A bidirectional LSTM of 2 layers of 64 with random weights, seeded."""
    architecture = Architecture(hidden=64, layers=2, dropout=0.0, bidirectional=True)
    torch.manual_seed(0)
    weights = safetensors.torch.save(BiLSTM(len(columns), architecture).state_dict())
    ones = (1.0,) * len(columns)
    checkpoint = Checkpoint(
        columns=tuple(columns),
        window=window,
        scaler=Scaler(mean=(0.0,) * len(columns), scale=ones, clip=10.0),
        target=Target(name="forward_return", horizon=1, mean=0.0, scale=0.01),
        architecture=architecture,
        training_range=TrainingRange(start="2025-01-01T00:00:00Z", end="2025-06-01T00:00:00Z"),
        symbols=(),
        validation={},
        weights_sha256=sha256(weights),
    )
    CheckpointFiles(str(directory), reference).write(checkpoint, weights)
