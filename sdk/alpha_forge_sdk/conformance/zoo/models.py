"""Models that each break one promise, and correct ones. Plain NumPy; a checkpoint is two small files."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from alpha_forge.contracts.errors import ModelError
from alpha_forge.contracts.params import Params as BaseParams
from alpha_forge.contracts.plugin import Model, ModelSpec
from alpha_forge_sdk.conformance.case import Conformance, ModelConformance
from alpha_forge_sdk.conformance.zoo import Specimen

COLUMNS = ("rsi", "momentum", "volume")
WINDOW = 4


class LinearModel(Model):
    """A weighted sum of the window, squashed: a correct model."""

    class Params(BaseParams):
        """Where the checkpoint is."""

        directory: str = Field("checkpoint", description="directory with weights.bin and model.json")

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self.weights: Any = None

    def _meta(self) -> dict[str, Any]:
        path = Path(self.params.directory) / "model.json"
        try:
            meta = json.loads(path.read_text("utf-8"))
            assert isinstance(meta["columns"], list)
            return {"columns": tuple(meta["columns"]), "window": int(meta["window"]), "sha": str(meta["sha"])}
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise ModelError("AF7002", f"{path.name} can't be read: {error}", "train again") from error

    def describe(self) -> ModelSpec:
        meta = self._meta()
        return ModelSpec(meta["columns"], meta["window"])

    def read_weights(self) -> Any:
        meta = self._meta()
        path = Path(self.params.directory) / "weights.bin"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError("AF7002", f"{path.name} can't be read: {error}", "train again") from error
        if hashlib.sha256(data).hexdigest() != meta["sha"]:
            raise ModelError("AF7002", f"{path.name} is damaged", "copy it again")
        count = meta["window"] * len(meta["columns"])
        return np.array(struct.unpack(f"<{count}d", data)).reshape(meta["window"], len(meta["columns"]))

    def load(self) -> None:
        self.weights = self.read_weights()

    def score(self, windows: Any) -> Any:
        """(n,) sums in a fixed order: NumPy's own reductions change bits with the shape."""
        total = np.zeros(len(windows))
        for bar in range(windows.shape[1]):
            for column in range(windows.shape[2]):
                total += self.weights[bar, column] * windows[:, bar, column].astype(np.float64)
        return np.tanh(total)

    def predict(self, windows: Any) -> Any:
        known = np.isfinite(windows).all(axis=(1, 2))
        values = self.score(np.where(known[:, None, None], windows, 0).astype(np.float32))
        return np.where(known, values, np.nan)


class SpecMutates(LinearModel):
    """Describes other columns each time."""

    asked = 0

    def describe(self) -> ModelSpec:
        type(self).asked += 1
        spec = super().describe()
        return ModelSpec(spec.columns[::-1] if type(self).asked % 2 else spec.columns, spec.window)


class SortsItsColumns(LinearModel):
    """Describes its columns in alphabetical order; the weights stand in the checkpoint's."""

    def describe(self) -> ModelSpec:
        spec = super().describe()
        return ModelSpec(tuple(sorted(spec.columns)), spec.window)


class ReturnsColumnVector(LinearModel):
    """Returns (batch, 1)."""

    def predict(self, windows: Any) -> Any:
        return super().predict(windows)[:, None]


class NormalizesOverBatch(LinearModel):
    """Subtracts the batch's mean: a row depends on its companions."""

    def score(self, windows: Any) -> Any:
        values = super().score(windows)
        return values - values.mean()


class RemembersLastBatch(LinearModel):
    """Adds a little of the last call's loudest window: state between calls."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.echo = 0.0

    def predict(self, windows: Any) -> Any:
        values = super().predict(windows) + self.echo
        # Only unusually loud batches leave an echo.
        self.echo = 1e-6 if np.nanmax(np.abs(windows)) < 30 and np.nanstd(windows) > 2 else self.echo
        return values


class WorksOnMainThreadOnly(LinearModel):
    """Keeps its weights with the thread that made the process."""

    def predict(self, windows: Any) -> Any:
        values = super().predict(windows)
        return values if threading.current_thread() is threading.main_thread() else values + 1e-12


class TreatsNanAsZero(LinearModel):
    """Fills unknown values with zero, and predicts all the same."""

    def predict(self, windows: Any) -> Any:
        return self.score(np.nan_to_num(windows))


class ScalesInPlace(LinearModel):
    """Standardises the caller's array."""

    def predict(self, windows: Any) -> Any:
        values = super().predict(windows)
        windows *= np.float32(0.5)
        return values


class IgnoresItsWindow(LinearModel):
    """Always predicts the same."""

    def score(self, windows: Any) -> Any:
        return np.full(len(windows), 0.25)


class PicklesCheckpoint(LinearModel):
    """Reads a pickle beside its weights."""

    def load(self) -> None:
        super().load()
        pickle.loads(pickle.dumps(ModelSpec(("a",), 1)))  # noqa: S301 - the defect itself


class TakesPicklesToo(LinearModel):
    """Still reads the weights of an older format, a pickle, should it find one."""

    def read_weights(self) -> Any:
        path = Path(self.params.directory) / "weights.bin"
        if path.exists() and path.read_bytes()[:1] == pickle.PROTO:
            return pickle.loads(path.read_bytes())  # noqa: S301 - the defect itself
        return super().read_weights()


class LoadsDamagedWeights(LinearModel):
    """Takes whatever bytes are there for weights."""

    def read_weights(self) -> Any:
        meta = self._meta()
        path = Path(self.params.directory) / "weights.bin"
        count = meta["window"] * len(meta["columns"])
        data = path.read_bytes() if path.exists() else b""
        return np.array(struct.unpack(f"<{count}d", data.ljust(8 * count, b"\0")[: 8 * count])).reshape(
            meta["window"], len(meta["columns"])
        )


class ZooModel(ModelConformance):
    """The case of a zoo model: its checkpoint is written by hand."""

    model = LinearModel

    def params(self, tmp_path: Path) -> dict[str, Any]:
        return {"directory": str(tmp_path / "checkpoint")}

    def checkpoint(self, tmp_path: Path) -> None:
        folder = tmp_path / "checkpoint"
        folder.mkdir(parents=True, exist_ok=True)
        weights = np.random.default_rng(5).normal(0, 0.3, WINDOW * len(COLUMNS))
        data = struct.pack(f"<{len(weights)}d", *weights)
        (folder / "weights.bin").write_bytes(data)
        meta = {"columns": list(COLUMNS), "window": WINDOW, "sha": hashlib.sha256(data).hexdigest()}
        (folder / "model.json").write_text(json.dumps(meta), "utf-8")
        (folder / "training.log").write_text("epoch 1: 0.25\n", "utf-8")


def _case(model: type[Model]) -> type[Conformance]:
    return type(f"{model.__name__}Case", (ZooModel,), {"plugin": model, "__module__": __name__})


BROKEN: tuple[Specimen, ...] = (
    Specimen(_case(SpecMutates), "AF-M01", "the same for every instance"),
    Specimen(_case(SortsItsColumns), "AF-M01", "the checkpoint's order"),
    Specimen(_case(ReturnsColumnVector), "AF-M02", "float64"),
    Specimen(_case(NormalizesOverBatch), "AF-M03", "depends on row i alone"),
    Specimen(_case(RemembersLastBatch), "AF-M04", "after other windows"),
    Specimen(_case(WorksOnMainThreadOnly), "AF-M05", "on another thread"),
    Specimen(_case(TreatsNanAsZero), "AF-M06", "a NaN anywhere"),
    Specimen(_case(ScalesInPlace), "AF-M07", "had changed"),
    Specimen(_case(IgnoresItsWindow), "AF-M08", "the same bits in every row"),
    Specimen(_case(PicklesCheckpoint), "AF-M09", "out of a pickle"),
    Specimen(_case(TakesPicklesToo), "AF-M09", "in the place of weights.bin"),
    Specimen(_case(LoadsDamagedWeights), "AF-M10", "weights.bin"),
)
CORRECT: tuple[type[Conformance], ...] = (_case(LinearModel),)
