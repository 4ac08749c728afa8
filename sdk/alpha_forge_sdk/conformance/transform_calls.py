"""What a transform says of itself, the form of what it returns, and that it is a function of its rows."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alpha_forge.contracts.interval import Interval, iso
from alpha_forge_sdk.conformance.arrays import first_difference
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check
from alpha_forge_sdk.conformance.complaints import complaint
from alpha_forge_sdk.conformance.growth import footprint, grows
from alpha_forge_sdk.conformance.transform_subject import (
    ORIGINS,
    Frame,
    TransformSubject,
    holed,
    transform_subject,
)

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import TransformConformance

OTHERS = ("7m", "25m", "1h", "5h", "1d", "1w")
"""Intervals of which some don't fit whatever the output's is."""

BAD = (float("nan"), float("inf"), float("-inf"), 0.0, 1e-12, 1e12)
# Spelled out, so that no database of time zones is needed: New York, Kolkata, Auckland.
ZONES = ("EST5EDT,M3.2.0,M11.1.0", "IST-5:30", "NZST-12NZDT,M9.5.0,M4.1.0/3")


@check(
    "AF-T01",
    "frames, interval, columns and memory are declared",
    "transforms",
    remedy="output_interval() gives an Interval whose closes are closes of the input; lookback() and other_lookback()"
    " are whole numbers of rows; input_columns() and output_columns() are tuples of names",
    needs=("AF-P02",),
)
def declares(case: TransformConformance, tmp_path: Path) -> None:
    """The compiler lays out the output frame and counts the warm-up from these declarations, before any bar
    is there."""
    plugin: Any = case.plugin_class()
    if len(plugin.frames) not in (1, 2):
        raise Broken("a transform reads one frame or two", f"frames = {plugin.frames!r}")
    try:
        one = transform_subject(case, tmp_path)
    except ValueError as error:
        raise Broken(
            f"it takes bars of {case.interval}, the interval of the case",
            f"{type(error).__name__}: {error}",
            "set `interval` (and `other_interval`) of the case to one that fits its params",
        ) from error
    _declared(one, "")
    _fits_or_refuses(one)
    for example in plugin.examples:
        try:
            made = TransformSubject(case, lambda e=example: plugin(plugin.Params.model_validate(dict(e))))
        except ValueError:
            continue  # it may well not fit the case's interval
        _declared(made, f" (example {dict(example)!r})")


def _fits_or_refuses(one: TransformSubject) -> None:
    """Bars of other intervals are taken if they fit, and refused by a ValueError if not."""
    for name in OTHERS:
        given = Interval.parse(name)
        try:
            made = one.fresh().output_interval(given)
        except ValueError:
            continue
        if not given.divides(made):
            raise Broken(
                "output_interval() raises ValueError for bars that don't add up to those of the output",
                f"bars of {given} became bars of {made}",
                "raise ValueError unless interval.divides(output)",
            )


def _declared(one: TransformSubject, where: str) -> None:
    if not isinstance(one.output, Interval):
        raise Broken("output_interval() gives an Interval", f"{one.output!r}{where}")
    if one.two and (one.output.ns, one.output.offset) != (one.interval.ns, one.interval.offset):
        raise Broken(
            "with two frames the first one leads: its interval is the output's",
            f"bars of {one.interval} became bars of {one.output}{where}",
        )
    if not one.interval.divides(one.output):
        raise Broken(
            "every close of the output is a close of the input: else nobody says when it is complete",
            f"bars of {one.interval} became bars of {one.output} that close in between{where}",
            "raise ValueError in output_interval() for an interval that doesn't fit",
        )
    memories = (("lookback()", one.back), *((("other_lookback()", one.other_back),) if one.two else ()))
    for name, bars in memories:
        if isinstance(bars, bool) or not hasattr(bars, "__index__") or int(bars) < 1:
            raise Broken(f"{name} is a whole number of rows, at least 1", f"{bars!r}{where}")
    if len(one.taken) != len(one.frames):
        raise Broken("input_columns() has a tuple for each frame", f"{one.taken!r}{where}")
    for taken, available in zip(one.taken, one.available, strict=True):
        strange = [name for name in taken if name not in available]
        if strange or len(set(taken)) < len(taken):
            raise Broken(f"input_columns() are some of {available!r}", f"{taken!r}{where}")
    outputs = one.outputs
    if not isinstance(outputs, tuple) or not outputs or len(set(outputs)) < len(outputs):
        raise Broken("output_columns() is a tuple of names, each once", f"{outputs!r}{where}")


@check(
    "AF-T02",
    "it returns int64 closes and the columns that it declares",
    "transforms",
    remedy="return (ts, {name: (rows, symbols) float64}), with the names of output_columns(), for any number of rows",
    needs=("AF-T01",),
)
def shapes(case: TransformConformance, tmp_path: Path) -> None:
    """The runtime copies rows into its frame by close and by name. A column that is missing, or of another
    type, fails at the first bar of a run instead of in a test."""
    one = transform_subject(case, tmp_path)
    for symbols in (1, 4):
        whole = one.inputs(symbols)
        last = one.streamed(whole, int(one.closes(whole[0])[-1]))
        for what, frames in (
            ("all rows", whole),
            ("the rows of one output row", last),
            ("one row", _first(whole)),
        ):
            given = f"for {what}, {symbols} symbols, "
            try:
                result = one.raw(frames or whole)
            except Exception as error:
                raise Broken(
                    "any number of rows and symbols is taken",
                    f"{given}it raised {type(error).__name__}: {error}",
                ) from error
            _form(one, result, symbols, given)


def _first(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    return tuple(f.rows(slice(0, 1)) for f in frames)


def _form(one: TransformSubject, result: Any, symbols: int, given: str) -> None:
    if not isinstance(result, tuple) or len(result) != 2:
        raise Broken("apply returns (ts, columns)", f"{given}a {type(result).__name__}")
    ts, columns = result
    if not isinstance(ts, np.ndarray) or ts.dtype != np.int64 or ts.ndim != 1:
        raise Broken("ts is a (rows,) array of int64", f"{given}{getattr(ts, 'dtype', type(ts).__name__)}")
    if set(columns) != set(one.outputs):
        raise Broken(f"the columns are {one.outputs!r}, as declared", f"{given}{tuple(columns)!r}")
    for name, column in columns.items():
        shape, dtype = getattr(column, "shape", None), getattr(column, "dtype", None)
        if shape != (len(ts), symbols) or dtype != np.float64:
            raise Broken(
                "a column is (rows, symbols) float64", f"{given}{len(ts)} rows, '{name}' is {shape} {dtype}"
            )


@check(
    "AF-T03",
    "closes of the output stand on its grid and increase",
    "transforms",
    remedy="the row of a bucket (a, b] closes at b, also when its last bars are absent: offset + k * ns of"
    " output_interval(), the weeks' offset included",
    needs=("AF-T02",),
)
def on_the_grid(case: TransformConformance, tmp_path: Path) -> None:
    """Frames meet by the close of their bars. A bucket that is labelled by its last bar, or by its beginning,
    is joined with the wrong rows and predicted at the wrong time."""
    one = transform_subject(case, tmp_path)
    for origin in ORIGINS:
        whole = one.inputs(origin=origin)
        for frames in (whole, tuple(f.existing() for f in holed(one, whole))):
            _closes_fit(one, frames, "")
        _as_often_as_declared(one, whole)
    for other, where in _with_other_intervals(case, one):
        _closes_fit(other, other.inputs(symbols=1), where)


def _closes_fit(one: TransformSubject, frames: tuple[Frame, ...], where: str) -> None:
    made = one.run(frames)
    if one.two and made.ts.tolist() != frames[0].ts.tolist():
        return  # which rows a join has is a check of its own
    for i, ts in enumerate(made.ts.tolist()):
        if not one.output.on_grid(ts):
            raise Broken(
                f"rows of the output close on the grid of {one.output}", f"a row at {iso(ts)}{where}"
            )
        if i and ts <= made.ts[i - 1]:
            raise Broken(
                "closes increase from row to row", f"{iso(int(made.ts[i - 1]))}, then {iso(ts)}{where}"
            )


def _as_often_as_declared(one: TransformSubject, frames: tuple[Frame, ...]) -> None:
    """Where no bar is absent, rows don't come at another interval, throughout, than the declared one."""
    steps = set(np.diff(one.run(frames).ts).tolist())
    if len(steps) == 1 and not one.two and (step := steps.pop()) > one.output.ns:
        raise Broken(
            f"output_interval() is {one.output}: so often comes a row where no bar is absent",
            f"each row came {step // one.output.ns} times as long after the one before",
            "output_interval() gives the interval of the bars that come out, not of those that go in",
        )


def _with_other_intervals(
    case: TransformConformance, one: TransformSubject
) -> Iterator[tuple[TransformSubject, str]]:
    """Subjects with days and weeks for output, where a parameter is the output's interval by its name."""
    plugin: Any = case.plugin_class()
    for field in plugin.Params.model_fields:
        if getattr(one.plugin.params, field) != one.output.name:
            continue
        for name in ("1d", "1w"):
            try:
                other = TransformSubject(case, lambda f=field, n=name: one.remade(**{f: n}))
                other.inputs(symbols=1)
            except (ValueError, NotApplicable):
                continue  # it need not take every interval
            yield other, f" ({field}: {name})"


@check(
    "AF-T04",
    "the same rows give the same bits: again, after others, in another instance",
    "transforms",
    remedy="read nothing but the parameters, the interval and the rows",
    needs=("AF-T02",),
)
def deterministic(case: TransformConformance, tmp_path: Path) -> None:
    """What ran live can be verified by a replay only if the same rows give the same bits."""
    one = transform_subject(case, tmp_path)
    frames = one.inputs()
    first = one.run(frames)
    one_more = one.fresh()
    _same(one, first, one.run(frames), "when asked again")
    _same(one, first, one.run(frames, one_more), "in another instance")
    one.run(one.inputs(seed=4))
    one.run(one.inputs(symbols=1, seed=5))
    _same(one, first, one.run(frames), "after other rows")
    # And after the very rows that come before, as in a stream.
    middle = int(one.closes(frames[0])[len(one.closes(frames[0])) // 2])
    older, newer = ([f.rows(f.ts <= middle) for f in frames], [f.rows(f.ts > middle) for f in frames])
    alone, after = one.run(newer, one.fresh()), one.fresh()
    one.run(older, after)
    _same(one, alone, one.run(newer, after), "after the rows before them")


def _same(one: TransformSubject, first: Frame, again: Frame, how: str) -> None:
    promised = "the output is a function of the parameters and the rows"
    if first.ts.tolist() != again.ts.tolist():
        raise Broken(promised, f"{len(first.ts)} rows became {len(again.ts)} {how}")
    expected, found = ([f.columns[n] for n in one.outputs] for f in (first, again))
    differs = one.differ(first.ts, expected, found)
    if differs is not None:
        raise Broken(promised, f"{differs} {how}")


@check(
    "AF-T05",
    "inputs are never written to, and may be read-only",
    "transforms",
    remedy="copy before changing anything: the runtime hands out its own memory",
    needs=("AF-T02",),
)
def inputs_kept(case: TransformConformance, tmp_path: Path) -> None:
    """The rows are the frame's own memory, which every other step reads."""
    one = transform_subject(case, tmp_path)
    promised = "inputs are never written to"
    cases = [frames for plain in (one.inputs(),) for frames in (plain, holed(one, plain))]
    for frames in cases:
        given = tuple(Frame(f.ts.copy(), {n: c.copy() for n, c in f.columns.items()}) for f in frames)
        one.raw(given)
        for name, before, after in zip(one.frames, frames, given, strict=True):
            place = first_difference(
                tuple(before.columns), tuple(before.columns.values()), tuple(after.columns.values())
            )
            if place is not None:
                raise Broken(promised, f"of '{name}', {place}")
            if before.ts.tobytes() != after.ts.tobytes():
                raise Broken(promised, f"the closes of '{name}' had changed after the call")
    for frames in cases:
        for frame in frames:
            for array in (frame.ts, *frame.columns.values()):
                array.flags.writeable = False
        try:
            one.raw(frames)
        except (ValueError, TypeError) as error:
            raise Broken(
                f"{promised}, so read-only arrays will do",
                f"with read-only arrays it raised {type(error).__name__}: {error}",
            ) from error


@contextmanager
def _time_zone(name: str) -> Iterator[None]:
    """The process in another time zone."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


@check(
    "AF-T15",
    "the machine's time zone changes nothing",
    "transforms",
    remedy="compute with the closes as they are: ns since the epoch, UTC; no datetime without a time zone",
    needs=("AF-T04",),
)
def time_zones(case: TransformConformance, tmp_path: Path) -> None:
    """A process on a laptop and one on a server must agree. Local time shifts days by hours, and by one more
    hour twice a year."""
    if not hasattr(time, "tzset"):
        raise NotApplicable("this operating system can't change a process's time zone")
    one = transform_subject(case, tmp_path)
    for origin in ORIGINS:
        frames = one.inputs(origin=origin)
        with _time_zone("UTC"):
            first = one.run(frames, one.fresh())
        for zone in ZONES:
            with _time_zone(zone):
                again = one.run(frames, one.fresh())
            try:
                _same(one, first, again, f"with TZ={zone}")
            except Broken as broken:
                raise Broken("the output depends on the rows and their closes alone", broken.seen) from None


@check(
    "AF-T16",
    "bad values raise nothing and warn of nothing",
    "transforms",
    remedy="let NaN and infinities pass, under np.errstate(all='ignore') where NumPy would warn; nanmax of nothing but"
    " NaN warns too",
    needs=("AF-T02",),
)
def bad_values(case: TransformConformance, tmp_path: Path) -> None:
    """Bars of 0, of 1e-12 or without any change happen. An exception ends the run for all symbols; a warning
    for each bar hides the ones that matter."""
    one = transform_subject(case, tmp_path)
    frames = one.inputs()
    one.run(frames)  # what is told once, at the first call, is not about values
    for what, changed in _spoilt(one, frames):
        said = complaint(lambda changed=changed: one.run(changed))  # type: ignore[misc]
        if said is not None:
            raise Broken(
                "any float64 is taken: nothing is raised, nothing is warned of", f"with {what} {said}"
            )


def _spoilt(one: TransformSubject, frames: tuple[Frame, ...]) -> Iterator[tuple[str, tuple[Frame, ...]]]:
    """The frames with one bad bar, a gap, nothing at all; each frame in turn."""
    for i, (name, frame) in enumerate(zip(one.frames, frames, strict=True)):

        def put(new: Frame, i: int = i) -> tuple[Frame, ...]:
            return (*frames[:i], new, *frames[i + 1 :])

        middle = len(frame.ts) // 2
        for value in BAD:
            yield (
                f"{value} in row {middle} of '{name}'",
                put(frame.changed(slice(middle, middle + 1), value, 0)),
            )
            yield f"every value of '{name}' {value}", put(frame.changed(slice(None), value))
        long = slice(middle, middle + one.ratio + 2)
        yield f"a gap in '{name}'", put(frame.changed(long, float("nan"), 0))
        yield f"a gap of all symbols in '{name}'", put(frame.changed(long, float("nan")).existing())
        yield f"a late start in '{name}'", put(frame.changed(slice(0, middle), float("nan"), 0))
        if i:
            yield f"no row of '{name}' at all", put(frame.rows(slice(0, 0)))


@check(
    "AF-T17",
    "nothing grows with the number of rows",
    "transforms",
    remedy="keep no rows on the instance: the runtime hands over those that are needed",
    needs=("AF-T02",),
)
def keeps_nothing(case: TransformConformance, tmp_path: Path) -> None:
    """A run lasts for months. What keeps a row for each call ends it by memory."""
    one = transform_subject(case, tmp_path)
    frames = one.inputs()
    ts = int(one.closes(frames[0])[-1])
    window = one.streamed(frames, ts) or frames

    def call(k: int) -> None:
        one.run([Frame(f.ts, {n: c * (1.0 + 1e-6 * k) for n, c in f.columns.items()}) for f in window])

    seen = grows(call, lambda: footprint(one.plugin))
    if seen is not None:
        raise Broken("a row costs the same whatever came before it", f"with each call it keeps more: {seen}")


CHECKS: tuple[Check, ...] = (
    declares,
    shapes,
    on_the_grid,
    deterministic,
    inputs_kept,
    time_zones,
    bad_values,
    keeps_nothing,
)
