"""What a training came to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FitResult:
    """Errors are mean squared, in the target's units. ``naive_mse`` is that of always predicting the training mean."""

    epochs: int
    best_epoch: int
    train_samples: int
    validation_samples: int
    train_mse: float
    validation_mse: float
    naive_mse: float
    information_coefficient: float

    @classmethod
    def of(cls, fitted: Values, targets: Values, predicted: Values, truth: Values, average: float) -> FitResult:
        """From values and targets of the training part, those of the validation part, and the training mean."""
        return cls(
            epochs=1,
            best_epoch=1,
            train_samples=len(targets),
            validation_samples=len(truth),
            train_mse=float(np.mean((fitted - targets) ** 2)),
            validation_mse=float(np.mean((predicted - truth) ** 2)),
            naive_mse=float(np.mean((average - truth) ** 2)),
            information_coefficient=_rank_correlation(predicted, truth),
        )


def _rank_correlation(one: Values, other: Values) -> float:
    """Spearman's rank correlation (1904); NaN where a side is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    ranks = [np.argsort(np.argsort(side)) for side in (one, other)]
    return float(np.asarray(np.corrcoef(ranks))[0, 1])
