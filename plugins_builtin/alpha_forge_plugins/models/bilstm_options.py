"""What a training takes and gives: options, progress, result. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import Field, ValidationError

from alpha_forge_sdk import ModelError, Params


class Progress(Protocol):
    """Told after each epoch, on the training thread."""

    def __call__(self, epoch: int, epochs: int, train_loss: float, validation_loss: float) -> None:
        """``epoch`` of at most ``epochs`` is done. Each loss is a mean squared error divided by that of predicting
        the training part's mean: below 1.0, something was learned, whatever the target's units."""


class FitOptions(Params):
    """Options of a training; the defaults suit some ten thousand to some hundred thousand windows."""

    hidden: int = Field(64, ge=1, le=1024, description="units of each direction")
    layers: int = Field(1, ge=1, le=8, description="LSTM layers")
    dropout: float = Field(0.1, ge=0.0, lt=1.0, description="dropout between layers and before the head")
    bidirectional: bool = Field(True, description="read the window in both directions")
    epochs: int = Field(30, ge=1, le=10_000, description="epochs at most")
    patience: int = Field(5, ge=1, description="stop after this many epochs without a better validation loss")
    batch_size: int = Field(256, ge=1, le=65_536, description="windows in a step of the optimiser")
    learning_rate: float = Field(1e-3, gt=0.0, le=1.0, description="AdamW's step size")
    weight_decay: float = Field(1e-2, ge=0.0, le=10.0, description="AdamW's decoupled weight decay")
    loss: Literal["mse", "huber"] = Field(
        "mse", description="`huber` weighs outliers of the target less; what is reported is always the MSE"
    )
    gradient_clip: float = Field(1.0, gt=0.0, description="largest norm of a step's gradient")
    feature_clip: float = Field(
        10.0, gt=0.0, description="standardised inputs are cut off at this many standard deviations"
    )
    target_clip: float = Field(
        3.0,
        gt=0.0,
        description="training targets are cut off at this many standard deviations from their mean; returns have "
        "heavy tails, and a few bars would outweigh all others. Validation sees them as they are",
    )
    samples_per_epoch: int | None = Field(
        20_000,
        ge=1,
        description="windows drawn at random for each epoch, at most; null draws all. On long histories it lets "
        "validation stop the training before it has learned the noise",
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of initial weights, order and dropout")


def parse_options(options: Mapping[str, Any]) -> FitOptions:
    """Validated options. Raises ModelError AF7006 that names the option, and what is known."""
    try:
        return FitOptions.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join(FitOptions.model_fields)
        if first["type"] == "extra_forbidden":
            raise ModelError("AF7006", f"unknown training option '{name}'", f"known: {known}") from error
        raise ModelError(
            "AF7006",
            f"training option '{name}' is {first['input']!r}: {first['msg']}",
            FitOptions.model_fields[name].description or ""
            if name in FitOptions.model_fields
            else f"known: {known}",
        ) from error


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a training came to. Errors are mean squared, in the target's units, of the weights that were kept.

    ``naive_mse`` is the validation error of predicting the training part's mean.
    ``information_coefficient`` is Spearman's rank correlation of prediction and target over the validation
    part (ties share their mean rank), ``correlation`` Pearson's; NaN where one side is constant. ``epochs``
    ran, of which ``best_epoch`` (from 1) was kept. The counts are of the samples that were used.
    """

    epochs: int
    best_epoch: int
    train_samples: int
    validation_samples: int
    train_mse: float
    validation_mse: float
    naive_mse: float
    information_coefficient: float
    correlation: float

    @property
    def ratio(self) -> float:
        """``validation_mse / naive_mse``: below 1, something was learned."""
        return self.validation_mse / self.naive_mse if self.naive_mse else float("nan")
