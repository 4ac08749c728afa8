"""The checkpoint: one JSON file. Nothing is ever unpickled."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from alpha_forge_sdk import ModelError


@dataclass(frozen=True)
class Checkpoint:
    """What `fit` learned. ``weights`` holds one row a bar of the window, oldest first, with a number a column."""

    columns: tuple[str, ...]
    window: int
    weights: tuple[tuple[float, ...], ...]
    intercept: float

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Raises ModelError for a file that is missing, damaged, or not of this form."""
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError as error:
            raise ModelError(
                "AF7001", f"there is no checkpoint {path}", "train it with `alpha_forge train CONFIG`"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise _damaged(path, error) from error
        try:
            found = json.loads(text)
            made = cls(
                tuple(str(name) for name in found["columns"]),
                int(found["window"]),
                tuple(tuple(float(weight) for weight in row) for row in found["weights"]),
                float(found["intercept"]),
            )
            made.check()
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(path, error) from error
        return made

    def check(self) -> None:
        """Raise ValueError if the parts don't fit one another."""
        if len(self.weights) != self.window or any(len(row) != len(self.columns) for row in self.weights):
            raise ValueError(f"weights are not {self.window} rows of {len(self.columns)}")
        if not all(math.isfinite(weight) for row in self.weights for weight in (*row, self.intercept)):
            raise ValueError("a weight is not finite")

    def write(self, path: Path) -> None:
        """Replace the file in one step: a reader sees the old one or the new one, never a half."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.new")
        new.write_text(json.dumps(asdict(self)), "utf-8")
        os.replace(new, path)


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(
        "AF7002", f"{path}: {type(error).__name__}: {error}", "copy the checkpoint again, or train it again"
    )
