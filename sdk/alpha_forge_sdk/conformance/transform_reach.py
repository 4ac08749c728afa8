"""Which rows an output row depends on, and that streaming makes the same row as the whole history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alpha_forge.contracts.interval import iso
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check
from alpha_forge_sdk.conformance.transform_subject import Frame, TransformSubject, holed, transform_subject

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import TransformConformance


@check(
    "AF-T06",
    "no row is newer than the newest input row",
    "transforms",
    remedy="give only buckets that are complete: b <= ts[-1]; the next bars may still change the newest",
    needs=("AF-T03", "AF-T04"),
)
def complete_only(case: TransformConformance, tmp_path: Path) -> None:
    """A bucket that is still open changes with its next bar. Given out early, it becomes a prediction from a
    bar that never existed."""
    one = transform_subject(case, tmp_path)
    frames = one.inputs()
    rows = len(frames[0].ts)
    for stop in range(max(1, rows - 2 * one.ratio), rows + 1):
        ts = int(frames[0].ts[stop - 1])
        made = one.run([f.rows(f.ts <= ts) for f in frames])
        if len(made.ts) and made.ts[-1] > ts:
            raise Broken(
                "a row is given when its bucket is complete",
                f"the rows up to {iso(ts)} gave one that closes at {iso(int(made.ts[-1]))}",
            )


@check(
    "AF-T07",
    "no later input row changes an earlier output row",
    "transforms",
    remedy="a row at b may read input rows with ts <= b only, of both frames: search from behind, never the nearest",
    needs=("AF-T03", "AF-T04"),
)
def causal(case: TransformConformance, tmp_path: Path) -> None:
    """A row that reads what comes after it gives the model the future in training, and something else live.
    With two frames the nearest row may be a later one."""
    one = transform_subject(case, tmp_path)
    plain, other = one.inputs(), one.inputs(seed=7)
    # With holes too: what is filled from behind is seen only where something is missing.
    for frames in (plain, holed(one, plain)):
        _later_matters(one, frames, other)


def _later_matters(one: TransformSubject, frames: tuple[Frame, ...], other: tuple[Frame, ...]) -> None:
    whole = one.run(frames)
    first = frames[0].ts
    for ts in first[np.unique(np.linspace(0, len(first) - 2, 40).astype(int))].tolist():
        closes = [int(b) for b in one.closes(frames[0]) if b <= ts]
        expected = one.at(whole, closes, 3)
        for i, name in enumerate(one.frames):
            later = frames[i].ts > ts
            for future in (other[i].columns, float("nan")):
                changed = (*frames[:i], frames[i].changed(later, future), *frames[i + 1 :])
                # A last bit that depends on what comes together is another check's matter.
                differs = one.differ(closes, expected, one.at(one.run(changed), closes, 3), share=1e-9)
                if differs is not None:
                    raise Broken(
                        "an output row depends on input rows up to its own close",
                        f"{differs} when rows of '{name}' after {iso(ts)} changed",
                    )


@check(
    "AF-T09",
    "the rows that a stream hands over make the same row as the whole history",
    "transforms",
    remedy="let lookback() (and other_lookback()) count every row that one output row reads, and keep bits independent"
    " of how many rows come together",
    needs=("AF-T06", "AF-T07", "AF-T08", "AF-T12", "AF-T13", "AF-T14", "AF-T18"),
)
def streams(case: TransformConformance, tmp_path: Path) -> None:
    """Live, a row is made from the newest `lookback` rows as they come in. If the whole history made another
    one, training and live would see different frames."""
    one = transform_subject(case, tmp_path)
    plain = one.inputs()
    for frames in (plain, *(holed(one, plain, seed) for seed in (0, 1, 2))):
        whole = one.run([f.existing() for f in frames])
        # Whether the oldest rows have all that they need can't be seen from the rows themselves.
        earliest = int(frames[0].ts[0]) + (0 if one.two else 2 * one.back * one.interval.ns)
        for ts in one.closes(frames[0]).tolist():
            if ts < earliest or ts > frames[0].existing().ts[-1]:
                continue
            window = one.streamed(frames, ts)
            made = (
                one.at(one.run(window), [ts], 3) if window else [np.full((1, 3), np.nan)] * len(one.outputs)
            )
            differs = one.differ([ts], one.at(whole, [ts], 3), made)
            if differs is not None:
                handed = " and ".join(str(len(f.ts)) for f in window or ())
                raise Broken(
                    f"lookback() is {one.back}"
                    + (f", other_lookback({one.other}) is {one.other_back}" if one.two else "")
                    + ": so many rows make an output row",
                    f"{differs} when just those were handed over ({handed} rows)",
                )


@check(
    "AF-T10",
    "the look-back isn't larger than needed",
    "transforms",
    remedy="count the rows that one output row reads: each one more delays the first and is fetched at every start",
    needs=("AF-T09",),
)
def tight_look_back(case: TransformConformance, tmp_path: Path) -> None:
    """Each row of look-back delays the first output and is fetched at every start."""
    one = transform_subject(case, tmp_path)
    for i in range(len(one.frames)):
        back = one.back if i == 0 else one.other_back
        if _matters(one, i, back, 0):
            continue
        for row in range(1, back) if back <= 64 else range(1, back, back // 64):
            if _matters(one, i, back, row):
                raise Broken(
                    f"{'other_lookback()' if i else 'lookback()'} is {back}: rows of '{one.frames[i]}' that an output "
                    "row needs",
                    f"the oldest of them never mattered, in whatever way it was changed; the oldest that did is number "
                    f"{back - row}, counted from the newest",
                )
        raise NotApplicable(f"no row of '{one.frames[i]}' mattered: which ones do can't be told")


def _matters(one: TransformSubject, number: int, back: int, row: int) -> bool:
    """True if changing this row of the rows handed over changes the output row, the newer ones present or absent."""
    rng = np.random.default_rng(row)
    for seed in range(3):
        frames = one.inputs(symbols=6, seed=seed)
        for ts in one.closes(frames[0])[-6:].tolist():
            window = one.streamed(frames, ts)
            if window is None or len(window[number].ts) < back:
                continue
            frame = window[number]
            newer = slice(row + 1, len(frame.ts) - (0 if number else 1))
            for there in (frame, frame.changed(newer, float("nan"))):
                expected = one.at(_with(one, window, number, there), [ts], 6)
                factors = {n: c * np.exp(rng.normal(0, 2, c.shape)) for n, c in frame.columns.items()}
                for new in (factors, float("nan")):
                    changed = there.changed(slice(row, row + 1), new)
                    if (
                        one.differ([ts], expected, one.at(_with(one, window, number, changed), [ts], 6))
                        is not None
                    ):
                        return True
    return False


def _with(one: TransformSubject, window: tuple[Frame, ...], number: int, frame: Frame) -> Frame:
    return one.run((*window[:number], frame, *window[number + 1 :]))


@check(
    "AF-T11",
    "symbols know nothing of each other",
    "transforms",
    remedy="compute each column of the arrays alone, in loops or elementwise: reductions change bits with the shape",
    needs=("AF-T09",),
)
def symbols_alone(case: TransformConformance, tmp_path: Path) -> None:
    """Symbols come together as their bars happen to arrive, and universes differ. A symbol's bars must not
    depend on either, down to the bits."""
    one = transform_subject(case, tmp_path)
    plain, others = one.inputs(symbols=9), one.inputs(symbols=9, seed=3)
    unknown = tuple(o.changed(slice(None), float("nan")) for o in others)
    for frames in (plain, holed(one, plain)):
        for s in range(9):
            rest = np.arange(9) != s
            for instead, how in ((others, "changed"), (unknown, "were absent")):
                pairs = zip(frames, instead, strict=True)
                changed = tuple(f.changed(slice(None), o.columns, rest) for f, o in pairs)
                _one_symbol_agrees(one, frames, changed, s, how)
        _subsets_agree(one, frames)


def _one_symbol_agrees(
    one: TransformSubject, frames: tuple[Frame, ...], changed: tuple[Frame, ...], symbol: int, how: str
) -> None:
    closes = one.closes(frames[0])
    alone = np.arange(9) == symbol
    expected, found = (
        [np.where(alone, c, np.nan) for c in one.at(one.run(given), closes, 9)] for given in (frames, changed)
    )
    differs = one.differ(closes, expected, found)
    if differs is not None:
        raise Broken("other symbols change nothing", f"{differs} when the others' bars {how}")


def _subsets_agree(one: TransformSubject, frames: tuple[Frame, ...]) -> None:
    closes = one.closes(frames[0])
    whole = one.at(one.run(frames), closes, 9)
    for picked in ([0], [8], [3, 1, 7], list(range(8, -1, -1))):
        found = [np.full((len(closes), 9), np.nan) for _ in one.outputs]
        part = one.at(one.run([f.symbols(picked) for f in frames]), closes, len(picked))
        for column, values in zip(found, part, strict=True):
            column[:, picked] = values
        expected = [np.where(np.isin(np.arange(9), picked), c, np.nan) for c in whole]
        differs = one.differ(closes, expected, found)
        if differs is not None:
            raise Broken(
                "any subset of the symbols, in any order, gives the same bits",
                f"{differs} when the symbols {picked} were computed together",
            )


@check(
    "AF-T18",
    "of two frames the first one leads: its rows are the output's rows",
    "transforms",
    remedy="give a row for each row of the first frame, NaN where the second one has nothing",
    applies=lambda case: None if len(case.plugin_class().frames) == 2 else "it reads one frame",
    needs=("AF-T02",),
)
def first_leads(case: TransformConformance, tmp_path: Path) -> None:
    """Steps after a join predict at the first frame's bars. A row that is left out because the other frame
    had nothing is a prediction that is lost without a word."""
    one = transform_subject(case, tmp_path)
    plain = one.inputs()
    nothing = (plain[0], plain[1].rows(slice(0, 0)))
    for what, frames in (("whole", plain), ("full of holes", holed(one, plain)), ("empty", nothing)):
        given = frames if what == "empty" else tuple(f.existing() for f in frames)
        made = one.run(given)
        if made.ts.tolist() != given[0].ts.tolist():
            lacks = sorted(set(given[0].ts.tolist()) - set(made.ts.tolist()))
            raise Broken(
                f"the output has the rows of '{one.frames[0]}'",
                f"with '{one.frames[1]}' {what}, {len(given[0].ts)} rows became {len(made.ts)}"
                + (f"; the first one missing is {iso(lacks[0])}" if lacks else ""),
            )


CHECKS: tuple[Check, ...] = (complete_only, causal, streams, tight_look_back, symbols_alone, first_leads)
