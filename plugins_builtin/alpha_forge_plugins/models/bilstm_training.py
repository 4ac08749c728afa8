"""Training: minibatches, early stopping, figures, checkpoint."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.torch
import torch
from torch import nn

from alpha_forge_plugins.models.bilstm_checkpoint import (
    Architecture,
    Checkpoint,
    CheckpointFiles,
    Scaler,
    Target,
    TrainingRange,
    figures,
    sha256,
)
from alpha_forge_plugins.models.bilstm_network import BiLSTM, Predictor
from alpha_forge_plugins.models.bilstm_options import FitOptions, FitResult, Progress
from alpha_forge_sdk import ModelError

if TYPE_CHECKING:
    import numpy.typing as npt

    Windows = npt.NDArray[np.float32]
    Values = npt.NDArray[np.float64]

_CHUNK = 512
"""Windows in a forward pass that only measures; large ones leave the cache."""


@dataclass(frozen=True, slots=True)
class Description:
    """What the checkpoint says about its training."""

    columns: tuple[str, ...]
    symbols: tuple[str, ...]
    training_range: tuple[str, str]
    target: str
    horizon: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """Training and validation samples, finite throughout."""

    windows: Windows
    targets: Values
    validation_windows: Windows
    validation_targets: Values

    @classmethod
    def checked(
        cls,
        windows: Windows,
        targets: Values,
        validation_windows: Windows,
        validation_targets: Values,
        *,
        window: int,
        columns: int,
    ) -> Dataset:
        """Checks the shapes and leaves out samples that aren't finite. Raises ModelError AF7007."""
        parts: list[npt.NDArray[Any]] = []
        for name, inputs, outputs in (
            ("training", windows, targets),
            ("validation", validation_windows, validation_targets),
        ):
            if inputs.shape != (len(outputs), window, columns) or outputs.ndim != 1:
                raise _unusable(
                    f"{name} windows have shape {inputs.shape} and targets {outputs.shape}, but "
                    f"(n, {window}, {columns}) and (n,) are needed: window_size and columns say so"
                )
            known = np.isfinite(inputs).all(axis=(1, 2)) & np.isfinite(outputs)
            inputs, outputs = np.asarray(inputs, np.float32), np.asarray(outputs, np.float64)
            # Indexing copies, and the windows may be most of the memory: only when something goes.
            parts += [inputs, outputs] if known.all() else [inputs[known], outputs[known]]
            if len(parts[-1]) < 2:
                raise _unusable(
                    f"the {name} part has {len(parts[-1])} complete samples; at least 2 are needed"
                )
        dataset = cls(*parts)
        if float(dataset.targets.std()) <= 0.0:
            raise _unusable("every training target has the same value: there is nothing to learn")
        return dataset


def train(
    files: CheckpointFiles,
    dataset: Dataset,
    about: Description,
    options: FitOptions,
    progress: Progress | None,
    *,
    batch: int,
    threads: int,
) -> FitResult:
    """Fit, measure, write the checkpoint; see `BiLSTMPredictor.fit`. ``batch`` is the shape of inference."""
    scaler = fit_scaler(dataset.windows, options.feature_clip)
    target = Target(
        name=about.target,
        horizon=about.horizon,
        mean=float(dataset.targets.mean()),
        scale=float(dataset.targets.std()),
    )
    architecture = Architecture(
        hidden=options.hidden,
        layers=options.layers,
        dropout=options.dropout,
        bidirectional=options.bidirectional,
    )
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        # Dropout and initial weights draw from torch's global generator; fork_rng puts its state back.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            network = BiLSTM(len(about.columns), architecture)
            # The first prediction is the training mean, the naive answer: only what is learned moves it away.
            nn.init.zeros_(network.head.weight)
            nn.init.zeros_(network.head.bias)
            epochs, best = _Run(network, scaler, target, dataset, options).until_no_better(progress)
        result = _measure(Predictor(network, scaler, target), dataset, epochs, best, batch)
    finally:
        torch.set_num_threads(threads_before)
    weights = safetensors.torch.save(network.state_dict())
    parts = {
        "scaler": scaler,
        "target": target,
        "architecture": architecture,
        "weights_sha256": sha256(weights),
    }
    files.write(_checkpoint(about, dataset, result, **parts), weights)
    return result


def _checkpoint(about: Description, dataset: Dataset, result: FitResult, **parts: Any) -> Checkpoint:
    start, end = about.training_range
    return Checkpoint(
        columns=about.columns,
        window=dataset.windows.shape[1],
        training_range=TrainingRange(start=start, end=end),
        symbols=about.symbols,
        validation=_figures(result),
        **parts,
    )


def fit_scaler(windows: Windows, clip: float) -> Scaler:
    """Mean and standard deviation of each column over all windows; a constant one keeps scale 1."""
    count = windows.shape[0] * windows.shape[1]
    mean = np.zeros(windows.shape[2])
    for start in range(0, len(windows), _CHUNK):
        mean += windows[start : start + _CHUNK].astype(np.float64).sum(axis=(0, 1))
    mean /= count
    squares = np.zeros_like(mean)
    for start in range(0, len(windows), _CHUNK):
        squares += np.square(windows[start : start + _CHUNK].astype(np.float64) - mean).sum(axis=(0, 1))
    deviation = np.sqrt(squares / count).astype(np.float32)
    # Below float32's resolution of the mean a deviation is rounding; dividing by it would make it the signal.
    constant = deviation <= np.abs(mean) * np.finfo(np.float32).eps
    scale = np.where(constant, np.float32(1.0), deviation)
    return Scaler(
        mean=tuple(map(float, mean.astype(np.float32))), scale=tuple(map(float, scale)), clip=float(clip)
    )


class _Run:
    """One training run: the network, its data in standardised units, and the optimiser."""

    def __init__(
        self, network: BiLSTM, scaler: Scaler, target: Target, dataset: Dataset, options: FitOptions
    ) -> None:
        self.network = network
        self.scaler = scaler
        self.dataset = dataset
        self.options = options
        self.random = np.random.default_rng(options.seed)
        self.targets = _standardised(dataset.targets, target)
        self.validation_targets = _standardised(dataset.validation_targets, target)
        # Validation targets that all equal the training mean leave nothing to compare with.
        self.naive_squared = float(self.validation_targets.double().square().sum()) or 1.0
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.loss = nn.HuberLoss() if options.loss == "huber" else nn.MSELoss()

    def until_no_better(self, progress: Progress | None) -> tuple[int, int]:
        """Train until the patience ends; the network keeps the best epoch's weights. → (epochs run, best)."""
        best, best_loss, kept = 0, float("inf"), copy.deepcopy(self.network.state_dict())
        epoch = 0
        for epoch in range(1, self.options.epochs + 1):
            train_loss = self._epoch()
            validation_loss = self._validate()
            if progress is not None:
                progress(epoch, self.options.epochs, train_loss, validation_loss)
            if validation_loss < best_loss:
                best, best_loss, kept = epoch, validation_loss, copy.deepcopy(self.network.state_dict())
            elif epoch - best >= self.options.patience:
                break
        if best == 0:
            raise ModelError(
                "AF7008",
                "the training diverged: no epoch had a finite validation loss",
                "use a smaller learning_rate or gradient_clip, and look for extreme values in the features",
            )
        self.network.load_state_dict(kept)
        return epoch, best

    def _epoch(self) -> float:
        """One pass over the samples in random order; the mean squared error on the way, over the naive one."""
        self.network.train()
        order = self.random.permutation(len(self.targets))[: self.options.samples_per_epoch]
        squared = 0.0
        for start in range(0, len(order), self.options.batch_size):
            # Sorted, the gather walks through memory once; order within a batch makes no difference.
            chosen = np.sort(order[start : start + self.options.batch_size])
            inputs = torch.from_numpy(self.scaler.apply(self.dataset.windows[chosen]))
            wanted = self.targets[torch.from_numpy(chosen)]
            self.optimiser.zero_grad(set_to_none=True)
            output = self.network(inputs)
            loss = self.loss(output, wanted.clamp(-self.options.target_clip, self.options.target_clip))
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), self.options.gradient_clip)
            self.optimiser.step()
            squared += float((output.detach() - wanted).square().sum())
        # In standardised units the training targets' variance, the naive error, is 1.
        return squared / len(order)

    def _validate(self) -> float:
        """The validation part's mean squared error, over that of predicting the training part's mean."""
        self.network.eval()
        squared = 0.0
        with torch.inference_mode():
            for start in range(0, len(self.validation_targets), _CHUNK):
                part = slice(start, start + _CHUNK)
                inputs = torch.from_numpy(self.scaler.apply(self.dataset.validation_windows[part]))
                error = self.network(inputs) - self.validation_targets[part]
                squared += float(error.double().square().sum())
        return squared / self.naive_squared


def _standardised(values: Values, target: Target) -> torch.Tensor:
    # A target beyond float32 becomes an infinity, and the training then says that it diverged.
    with np.errstate(over="ignore"):
        return torch.from_numpy(((values - target.mean) / target.scale).astype(np.float32))


def _measure(predictor: Predictor, dataset: Dataset, epochs: int, best: int, batch: int) -> FitResult:
    """The figures of the kept weights, by the very path that serves: `load` and `predict` reproduce them."""
    predicted = predictor.in_batches(dataset.validation_windows, batch)
    wanted = dataset.validation_targets
    fitted = predictor.in_batches(dataset.windows, batch)
    return FitResult(
        epochs=epochs,
        best_epoch=best,
        train_samples=len(dataset.targets),
        validation_samples=len(wanted),
        train_mse=float(np.mean((fitted - dataset.targets) ** 2)),
        validation_mse=float(np.mean((predicted - wanted) ** 2)),
        naive_mse=float(np.mean((dataset.targets.mean() - wanted) ** 2)),
        information_coefficient=_correlation(_ranks(predicted), _ranks(wanted)),
        correlation=_correlation(predicted, wanted),
    )


def _figures(result: FitResult) -> dict[str, float | int | None]:
    return figures(
        {
            "samples": result.validation_samples,
            "mse": result.validation_mse,
            "naive_mse": result.naive_mse,
            "ratio": result.ratio,
            "information_coefficient": result.information_coefficient,
            "correlation": result.correlation,
            "train_samples": result.train_samples,
            "train_mse": result.train_mse,
            "epochs": result.epochs,
            "best_epoch": result.best_epoch,
        }
    )


def _ranks(values: Values) -> Values:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Values = ((2 * last - counts + 1) / 2.0)[inverse]
    return ranks


def _correlation(a: Values, b: Values) -> float:
    """Pearson's correlation; NaN where one side is constant."""
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0.0 else float("nan")


def _unusable(message: str) -> ModelError:
    return ModelError("AF7007", message, "give it a longer history, or a shorter window or horizon")
