"""AF-M: what a model promises. Judged on the case's own small checkpoint."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpha_forge_sdk.conformance.auditing import watched_deeds
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from alpha_forge.contracts.plugin import ModelSpec
    from alpha_forge_sdk.conformance.case import ModelConformance

    Windows = npt.NDArray[np.float32]
    Values = npt.NDArray[np.float64]


def loaded(case: ModelConformance, tmp_path: Path) -> tuple[Any, ModelSpec]:
    """A loaded model and what it says of itself."""
    model = case.make(tmp_path)
    spec = model.describe()
    model.load()
    return model, spec


def made_windows(model: Any, spec: ModelSpec, batches: int = 1, seed: int = 0) -> Windows:
    """(batches * batch, window, features) of ordinary numbers."""
    import numpy as np

    shape = (batches * model.batch, spec.window, len(spec.columns))
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def predicted(model: Any, windows: Windows) -> Values:
    """Values of any number of windows, in micro-batches as the runtime makes them. Checks shape and dtype."""
    import numpy as np

    size, values = model.batch, np.empty(len(windows))
    for start in range(0, len(windows), size):
        part = windows[start : start + size]
        batch = np.zeros((size, *windows.shape[1:]), dtype=np.float32)
        batch[: len(part)] = part
        got = model.predict(batch)
        if getattr(got, "shape", None) != (size,) or got.dtype != np.float64:
            raise Broken(
                f"predict returns ({size},) float64",
                f"{type(got).__name__} of shape {getattr(got, 'shape', None)} and dtype {getattr(got, 'dtype', None)}",
                "return one float64 a row",
            )
        values[start : start + size] = got[: len(part)]
    return values


def _differ(one: Values, other: Values) -> int | None:
    """First position whose bits differ (two NaN are equal)."""
    import numpy as np

    same = (one.view(np.int64) == other.view(np.int64)) | (np.isnan(one) & np.isnan(other))
    return None if same.all() else int(np.flatnonzero(~same)[0])


def _same(promised: str, one: Values, other: Values, how: str) -> None:
    place = _differ(one, other)
    if place is not None:
        raise Broken(promised, f"row {place}: {one[place]!r} before, {other[place]!r} {how}")


@check(
    "AF-M01",
    "describe() tells columns and window from the checkpoint, before load",
    "models",
    remedy="read describe() from the checkpoint's JSON; keep columns unique and in training order",
)
def describes(case: ModelConformance, tmp_path: Path) -> None:
    """The compiler finds columns by name and counts the window into the warm-up before any weight is read."""
    case.checkpoint(tmp_path)
    spec = case.make(tmp_path).describe()
    promised = "describe() gives a ModelSpec with unique column names and a window of at least one bar"
    columns = tuple(spec.columns)
    if not columns or len(set(columns)) != len(columns) or not all(isinstance(c, str) and c for c in columns):
        raise Broken(promised, f"columns {columns!r}")
    if not isinstance(spec.window, int) or isinstance(spec.window, bool) or spec.window < 1:
        raise Broken(promised, f"window {spec.window!r}")
    again = case.make(tmp_path).describe()
    if again != spec:
        raise Broken("describe() is the same for every instance", f"{spec} and then {again}")
    _in_the_order_of(_files(tmp_path), columns)


def _in_the_order_of(files: list[Path], columns: tuple[str, ...]) -> None:
    """Raise Broken if the checkpoint's JSON lists these very columns, but in other orders only."""
    for path in files:
        if path.suffix != ".json":
            continue
        try:
            lists = list(_lists(json.loads(path.read_bytes())))
        except ValueError:
            continue
        others = [found for found in lists if sorted(found) == sorted(columns)]
        if others and columns not in others:
            raise Broken(
                "describe() gives the columns in the checkpoint's order, in which the weights stand",
                f"{path.name} has {', '.join(others[0])}; described are {', '.join(columns)}",
            )


def _lists(node: Any) -> Iterator[tuple[str, ...]]:
    """Every list of strings in a JSON document."""
    if isinstance(node, list) and all(isinstance(item, str) for item in node):
        yield tuple(node)
    elif isinstance(node, list | dict):
        for item in node.values() if isinstance(node, dict) else node:
            yield from _lists(item)


@check(
    "AF-M02",
    "predict returns one float64 a row, finite for ordinary windows",
    "models",
    remedy="return a (batch,) float64 array that no row is missing from",
    needs=("AF-M01",),
)
def shapes(case: ModelConformance, tmp_path: Path) -> None:
    """The runtime writes one value beside each bar; a column vector or a missing row would land somewhere else."""
    import numpy as np

    case.checkpoint(tmp_path)
    model, spec = loaded(case, tmp_path)
    values = predicted(model, made_windows(model, spec))
    if not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values))[0])
        raise Broken(
            "windows of ordinary numbers give finite predictions", f"row {place} gave {values[place]}"
        )


@check(
    "AF-M03",
    "a row's prediction depends on that row alone, bit for bit",
    "models",
    remedy="no batch statistics, no attention across rows, eval mode; keep the batch's shape fixed",
    needs=("AF-M02",),
)
def rows_alone(case: ModelConformance, tmp_path: Path) -> None:
    """Symbols come together as their bars happen to arrive. If companions could change a prediction by one bit,
    a replay could never be compared with what ran live."""
    import numpy as np

    case.checkpoint(tmp_path)
    model, spec = loaded(case, tmp_path)
    windows = made_windows(model, spec)
    together = predicted(model, windows)
    promised = "row i of predict depends on row i alone"
    alone = np.array([predicted(model, windows[i : i + 1])[0] for i in range(len(windows))])
    _same(promised, together, alone, "alone, with zero rows beside it")
    order = np.random.default_rng(1).permutation(len(windows))
    mixed = np.empty_like(together)
    mixed[order] = predicted(model, windows[order])
    _same(promised, together, mixed, "in another order")
    louder = windows.copy()
    louder[1:] *= 1e3
    _same(promised, together[:1], predicted(model, louder)[:1], "beside rows a thousand times larger")


@check(
    "AF-M04",
    "the same windows give the same bits: again, after others, in another instance",
    "models",
    remedy="switch dropout and batch norm to eval mode; keep no state between calls; seed nothing at predict",
    needs=("AF-M02",),
)
def deterministic(case: ModelConformance, tmp_path: Path) -> None:
    """Dropout left on, or state kept between calls, makes the same bar predict differently each time."""
    case.checkpoint(tmp_path)
    model, spec = loaded(case, tmp_path)
    windows = made_windows(model, spec)
    first = predicted(model, windows)
    promised = "predict is a function of its windows"
    _same(promised, first, predicted(model, windows), "when asked again")
    predicted(model, made_windows(model, spec, batches=3, seed=9) * 5)
    _same(promised, first, predicted(model, windows), "after other windows were predicted")
    other, _ = loaded(case, tmp_path)
    _same(promised, first, predicted(other, windows), "by another instance of the same checkpoint")


@check(
    "AF-M05",
    "the same bits on another thread, and beside another instance",
    "models",
    remedy="keep no thread-local or global state; set the number of threads once, in load()",
    needs=("AF-M04",),
)
def threads(case: ModelConformance, tmp_path: Path) -> None:
    """Models run on the runtime's compute thread, which is not the one that made them."""
    case.checkpoint(tmp_path)
    model, spec = loaded(case, tmp_path)
    windows = made_windows(model, spec)
    first = predicted(model, windows)
    found: list[Values | BaseException] = []

    def work() -> None:
        try:
            mine, _ = loaded(case, tmp_path)
            found.append(predicted(mine, windows))
        except BaseException as error:  # noqa: BLE001 - carried to the checking thread
            found.append(error)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result in found:
        if isinstance(result, BaseException):
            raise Broken("a model works on any thread", f"{type(result).__name__}: {result}")
        _same("predictions don't depend on the thread", first, result, "on another thread")
    _same(
        "predictions don't depend on other instances", first, predicted(model, windows), "after other threads"
    )


@check(
    "AF-M06",
    "a window with an unknown value predicts NaN, and spoils no other row",
    "models",
    remedy="give NaN for rows that are not finite, and compute the others as if those were zero",
    needs=("AF-M03",),
)
def unknown_values(case: ModelConformance, tmp_path: Path) -> None:
    """A value that is not known must not become a confident prediction."""
    import numpy as np

    case.checkpoint(tmp_path)
    model, spec = loaded(case, tmp_path)
    windows = made_windows(model, spec)
    clean = predicted(model, windows)
    row = min(3, model.batch - 1)
    for where in ((0, 0), (spec.window - 1, len(spec.columns) - 1)):
        spoiled = windows.copy()
        spoiled[(row, *where)] = np.nan
        values = predicted(model, spoiled)
        if not np.isnan(values[row]):
            raise Broken(
                "a NaN anywhere in a window predicts NaN: nothing is known there",
                f"NaN at bar {where[0]}, column '{spec.columns[where[1]]}' predicted {values[row]!r}",
            )
        others = np.arange(len(windows)) != row
        _same("a NaN row spoils no other row", clean[others], values[others], "with a NaN row beside it")


@check(
    "AF-M07",
    "windows are never written to",
    "models",
    remedy="copy before scaling in place",
    needs=("AF-M02",),
)
def input_kept(case: ModelConformance, tmp_path: Path) -> None:
    """The runtime may use the same windows again; scaling them in place corrupts what comes after."""
    case.checkpoint(tmp_path)
    model, spec = loaded(case, tmp_path)
    windows = made_windows(model, spec)
    before = windows.copy()
    model.predict(windows)
    if windows.tobytes() != before.tobytes():
        raise Broken("predict leaves its windows as they were", "the array had changed after the call")


@check(
    "AF-M08",
    "every bar and every column of the window may matter, none after it exists",
    "models",
    remedy="read the whole window: (batch, window, features), oldest bar first; check the axes of your network",
    needs=("AF-M03",),
)
def reads_window(case: ModelConformance, tmp_path: Path) -> None:
    """A model that ignores its input passes every test of determinism."""
    import numpy as np

    case.checkpoint(tmp_path)
    model, spec = loaded(case, tmp_path)
    windows = made_windows(model, spec)
    clean = predicted(model, windows)
    louder = windows.copy()
    louder += np.float32(0.75)
    if _differ(clean, predicted(model, louder)) is None:
        raise Broken("the prediction depends on the window", "other windows gave the same bits in every row")


@contextlib.contextmanager
def _unpickling_watched() -> Iterator[list[str]]:
    """Notes every unpickling in this block, by the interpreter's audit event."""
    import sys

    seen: list[str] = []
    active = [True]

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if active[0] and event == "pickle.find_class" and threading.get_ident() == owner:
            seen.append(f"{args[0]}.{args[1]}")

    owner = threading.get_ident()
    # An audit hook can't be taken away again; switched off it costs a comparison.
    sys.addaudithook(hook)
    try:
        yield seen
    finally:
        active[0] = False


@check(
    "AF-M09",
    "nothing is unpickled",
    "models",
    remedy="store weights as safetensors and everything else as JSON",
    needs=("AF-M01",),
)
def nothing_unpickled(case: ModelConformance, tmp_path: Path) -> None:
    """Unpickling a file runs whatever code its author put in it."""
    case.checkpoint(tmp_path)
    promised = "describe() and load() unpickle nothing"
    with _unpickling_watched() as seen:
        loaded(case, tmp_path)
        if seen:
            raise Broken(promised, f"{seen[0]} was taken out of a pickle")
        for path in _files(tmp_path):
            whole = path.read_bytes()
            for planted, what in _pickles():
                path.write_bytes(planted)
                # Whether it refuses as it should is a check of its own; it must not get as far as to unpickle.
                with contextlib.suppress(Exception):
                    loaded(case, tmp_path)
                if seen:
                    raise Broken(
                        promised, f"with {what} in the place of {path.name}, {seen[0]} was taken out of it"
                    )
            path.write_bytes(whole)


def _pickles() -> Iterator[tuple[bytes, str]]:
    """Harmless ones, as somebody might put them in a checkpoint's place."""
    import numpy as np

    from alpha_forge.contracts.plugin import ModelSpec

    array = io.BytesIO()
    np.save(array, np.array([ModelSpec(("a",), 1)], dtype=object), allow_pickle=True)
    yield pickle.dumps(ModelSpec(("a",), 1)), "a pickle"
    yield array.getvalue(), "an .npy of objects"


def _files(tmp_path: Path) -> list[Path]:
    return sorted(p for p in tmp_path.rglob("*") if p.is_file())


@check(
    "AF-M10",
    "a missing or damaged checkpoint is a clear error",
    "models",
    remedy="raise ModelError that names the file and how to mend it",
    needs=("AF-M01",),
)
def damaged(case: ModelConformance, tmp_path: Path) -> None:
    """A checkpoint that was half copied must stop the start, with a message that says what to do, not predict."""
    from alpha_forge.contracts.errors import AlphaForgeError

    case.checkpoint(tmp_path)
    with watched_deeds() as deeds:
        loaded(case, tmp_path)
    read = {Path(name).resolve() for name in deeds.opened}
    # What training left beside the checkpoint, a log say, is none of its files. Compiled readers go unseen.
    files = [p for p in _files(tmp_path) if p.suffix == ".safetensors" or p.resolve() in read]
    if not files:
        raise NotApplicable("no file under tmp_path was read")
    whole = {path: path.read_bytes() for path in files}
    for path in files:
        for how in ("missing", "empty", "cut in half", "noise"):
            _spoil(path, whole[path], how)
            try:
                loaded(case, tmp_path)
            except AlphaForgeError as error:
                if not error.message.strip():
                    raise Broken(
                        "the error says what is wrong", f"{path.name} {how}: an empty message"
                    ) from error
            except Exception as error:
                raise Broken(
                    "a checkpoint that can't be read is a ModelError that says so",
                    f"{path.name} {how}: {type(error).__name__}: {error}",
                ) from error
            else:
                raise Broken(
                    "a checkpoint that can't be read is an error", f"{path.name} {how}: loaded all the same"
                )
            finally:
                path.write_bytes(whole[path])


def _spoil(path: Path, data: bytes, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut in half":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.write_bytes(bytes(b ^ 0x5A for b in data[:64]) + data[64:])


CHECKS: tuple[Check, ...] = (
    describes,
    shapes,
    rows_alone,
    deterministic,
    threads,
    unknown_values,
    input_kept,
    reads_window,
    nothing_unpickled,
    damaged,
)
