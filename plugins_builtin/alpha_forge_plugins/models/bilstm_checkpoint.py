"""The checkpoint of a BiLSTM on disk: ``NAME.json`` says what it is, ``NAME.safetensors`` holds the weights.

Nothing here needs torch, and nothing is ever unpickled: whoever can write a pickle can run code in the
process that reads it, and a checkpoint often comes from somebody else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from alpha_forge_sdk import ModelError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FORMAT = "alpha_forge.bilstm"
VERSION = 1
PICKLED = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib")
"""Suffixes of files that are, or may hold, pickles."""

CONVERT = (
    "pickles run code when they are read, so only safetensors are: train again with `alpha_forge train`, or, "
    "if you trust the file, convert it once with torch.load(FILE, weights_only=True) and "
    "safetensors.torch.save_file(state_dict, 'NAME.safetensors'), and write NAME.json beside it"
)


class _Section(BaseModel):
    """Frozen, finite numbers only. Unknown keys are let through: a note beside the figures does no harm."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, protected_namespaces=())


class Scaler(_Section):
    """How inputs become comparable: ``(x - mean) / scale`` per column, cut off at ``±clip``."""

    mean: tuple[float, ...]
    scale: tuple[Annotated[float, Field(gt=0)], ...]
    clip: Annotated[float, Field(gt=0)]

    def apply(self, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(n, window, features) float32 → a new contiguous array of the same shape, each element on its own.

        Elementwise float32 operations only: each has one correctly rounded answer, so that a value never
        depends on its neighbours or on the shape. What isn't finite stays not finite, or is cut off.
        """
        import numpy as np

        # One long row a window: NumPy's loops over a handful of columns cost more than the arithmetic.
        flat = windows.reshape(len(windows), -1)
        mean = np.tile(np.asarray(self.mean, np.float32), windows.shape[1])
        scale = np.tile(np.asarray(self.scale, np.float32), windows.shape[1])
        bound = np.float32(self.clip)
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = np.subtract(flat, mean, order="C")
            scaled /= scale
            np.maximum(scaled, -bound, out=scaled)
            np.minimum(scaled, bound, out=scaled)
        return scaled.reshape(windows.shape)


class Target(_Section):
    """What is predicted: its name, how many bars ahead, and the training part's mean and deviation."""

    name: str
    horizon: Annotated[int, Field(ge=1)]
    mean: float
    scale: Annotated[float, Field(gt=0)]


class Architecture(_Section):
    """The network's shape. Bounded, so that a damaged file can't ask for all memory."""

    hidden: Annotated[int, Field(ge=1, le=4096)]
    layers: Annotated[int, Field(ge=1, le=16)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    bidirectional: bool


class TrainingRange(_Section):
    """First and last close (ISO 8601) of the samples that the weights were fitted to."""

    start: str
    end: str


class Checkpoint(_Section):
    """Everything about a checkpoint but its weights: the content of ``NAME.json``."""

    format: Literal["alpha_forge.bilstm"] = "alpha_forge.bilstm"
    version: Literal[1] = 1
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    window: Annotated[int, Field(ge=1)]
    scaler: Scaler
    target: Target
    architecture: Architecture
    training_range: TrainingRange
    symbols: tuple[str, ...]
    validation: dict[str, float | int | None]
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

    @model_validator(mode="after")
    def _agree(self) -> Checkpoint:
        if len(set(self.columns)) != len(self.columns):
            raise ValueError(f"a column is named twice in {list(self.columns)}")
        if not len(self.columns) == len(self.scaler.mean) == len(self.scaler.scale):
            raise ValueError(
                f"{len(self.columns)} columns, but the scaler has {len(self.scaler.mean)} means "
                f"and {len(self.scaler.scale)} scales"
            )
        return self


class CheckpointFiles:
    """Where a checkpoint lies: ``{directory}/{reference}.json`` and ``.safetensors``."""

    def __init__(self, directory: str, reference: str) -> None:
        self.directory = Path(directory)
        self.reference = reference

    @property
    def description(self) -> Path:
        return self.directory / f"{self.reference}.json"

    @property
    def weights(self) -> Path:
        return self.directory / f"{self.reference}.safetensors"

    def read(self) -> Checkpoint:
        """The JSON, validated. Looks whether the weights exist, but doesn't open them.

        Raises ModelError: AF7001 missing, AF7002 damaged, AF7004 only a pickle is there.
        """
        for path in (self.description, self.weights):
            if not path.is_file():
                self._refuse_pickles()
                raise ModelError(
                    "AF7001",
                    f"the checkpoint '{self.reference}' has no file {path}",
                    "train it with `alpha_forge train CONFIG`, or mend checkpoint_dir and model_ref",
                )
        try:
            found = json.loads(self.description.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise self._damaged(f"{self.description} can't be read: {error}") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise self._damaged(
                f"{self.description} does not describe a BiLSTM checkpoint (format '{FORMAT}')"
            )
        if found.get("version") != VERSION:
            raise ModelError(
                "AF7002",
                f"{self.description} has format version {found.get('version')!r}; known is {VERSION}",
                "use the release of alpha-forge that wrote it, or train again",
            )
        try:
            return Checkpoint.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise self._damaged(f"{self.description}: {place or 'content'}: {first['msg']}") from error

    def read_weights(self, checkpoint: Checkpoint) -> bytes:
        """The bytes of the safetensors file, checked against the JSON's sha256 (ModelError AF7005)."""
        try:
            content = self.weights.read_bytes()
        except OSError as error:
            raise self._damaged(f"{self.weights} can't be read: {error}") from error
        if hashlib.sha256(content).hexdigest() != checkpoint.weights_sha256:
            raise ModelError(
                "AF7005",
                f"{self.weights} is not the file that {self.description.name} describes: its sha256 differs",
                "the two come from different trainings, or one is damaged: copy both again, or train again",
            )
        return content

    def write(self, checkpoint: Checkpoint, weights: bytes) -> None:
        """Both files, each by a synced temporary file and a rename, the JSON last.

        A reader sees the old checkpoint, the new one, or (killed between the two renames) AF7005; never
        half a file. Raises ModelError AF7009 if the directory can't be written.
        """
        content = checkpoint.model_dump(mode="json")
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            _replace(self.weights, weights)
            _replace(self.description, text.encode())
        except OSError as error:
            raise self.unwritable(error) from error

    def unwritable(self, error: OSError) -> ModelError:
        return ModelError(
            "AF7009",
            f"the checkpoint '{self.reference}' can't be written to {self.directory}: "
            f"{error.strerror or error}",
            "give checkpoint_dir a directory that this user can write to",
        )

    def _refuse_pickles(self) -> None:
        stem = self.directory / self.reference
        candidates = [stem, *(stem.with_name(stem.name + suffix) for suffix in PICKLED)]
        for path in candidates:
            if path.suffix.lower() in PICKLED and (path.is_file() or path == stem):
                raise ModelError("AF7004", f"{path} is a pickled checkpoint, which is never read", CONVERT)

    def _damaged(self, message: str) -> ModelError:
        return ModelError("AF7002", message, "copy the checkpoint again, or train it again")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def looks_pickled(content: bytes) -> bool:
    """True if bytes that aren't safetensors begin like a pickle or like torch.save's zip archive."""
    return content[:4] == b"PK\x03\x04" or (content[:1] == b"\x80" and content[1:2] in b"\x02\x03\x04\x05")


def _replace(path: Path, content: bytes) -> None:
    # The process id keeps two trainings into one directory from writing into each other's temporary file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def figures(values: dict[str, Any]) -> dict[str, float | int | None]:
    """Figures as JSON can hold them: what isn't finite becomes null."""
    return {
        key: value if isinstance(value, int) or abs(value) < float("inf") else None
        for key, value in values.items()
    }
