"""Buckets (a, b] of a resampler: where they end, what is left out of them, and when there is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alpha_forge.contracts.interval import iso
from alpha_forge_sdk.conformance.check import Broken, Check, check
from alpha_forge_sdk.conformance.transform_subject import only_resamplers, transform_subject

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import TransformConformance

NAN = float("nan")


@check(
    "AF-T08",
    "a bar that closes at a bucket's end belongs to it, and not to the next",
    "transforms",
    remedy="number a bar's bucket by (ts - 1 - offset) // ns: the bucket (a, b] has the closes after a, b included",
    needs=("AF-T03", "AF-T06", "AF-T07"),
)
def edges(case: TransformConformance, tmp_path: Path) -> None:
    """A bar that closes at 12:00 belongs to the hour that ends at 12:00. Taken for the next hour's first, it
    shifts every bucket by one bar; nothing else would tell."""
    one = transform_subject(case, tmp_path)
    only_resamplers(one)
    (frame,), (other,) = one.inputs(), one.inputs(seed=5)
    whole = one.run([frame])
    for ts in one.closes(frame).tolist()[1:]:
        before = frame.changed(frame.ts <= ts - one.output.ns, other.columns)
        differs = one.differ([ts], one.at(whole, [ts], 3), one.at(one.run([before]), [ts], 3))
        if differs is not None:
            raise Broken(
                f"the row {iso(ts)} is made of the bars that close after {iso(ts - one.output.ns)}",
                f"{differs} when bars up to {iso(ts - one.output.ns)} changed",
            )


@check(
    "AF-T12",
    "absent bars are left out of their bucket",
    "transforms",
    remedy="skip rows in which the symbol's close is NaN: the others make the bar",
    needs=("AF-T08",),
)
def absent_bars(case: TransformConformance, tmp_path: Path) -> None:
    """Exchanges leave out bars without trades. The others still make the bucket; a NaN for all of it would
    lose a prediction each time."""
    one = transform_subject(case, tmp_path)
    only_resamplers(one)
    (frame,) = one.inputs(symbols=1)
    step, first = one.ratio, 2 * one.back
    # One bar of the bucket; its end; all but the newest; all but the oldest.
    places = ([0], [step - 1], list(range(step - 1)), list(range(1, step)))
    ts = int(frame.ts[first + step - 1])
    for gone in places:
        rows = np.array(gone) + first
        holes = frame.changed(rows, NAN)
        kept = np.setdiff1d(np.arange(len(frame.ts)), rows)
        truth = one.at(one.run([frame.rows(kept)]), [ts], 1)
        found = one.at(one.run([holes]), [ts], 1)
        if np.isnan(found[0]).all():
            raise Broken(
                "the bars of a bucket that exist make its bar",
                f"the row {iso(ts)} has no bar of a symbol that lacks {len(gone)} of the {step} rows",
            )
        differs = one.differ([ts], truth, found)
        if differs is not None:
            raise Broken(
                "an absent bar is as if its row were not there",
                f"{differs} when {len(gone)} of its {step} rows were NaN instead of left out",
            )


@check(
    "AF-T13",
    "an empty bucket is no row",
    "transforms",
    remedy="give no row for a bucket in which no symbol has a bar: nothing happened, and nothing is to be predicted",
    needs=("AF-T08",),
)
def empty_buckets(case: TransformConformance, tmp_path: Path) -> None:
    """Where nobody has a bar nothing happened: a row there would trigger steps, and predictions, of
    nothing."""
    one = transform_subject(case, tmp_path)
    only_resamplers(one)
    (frame,) = one.inputs()
    bucket = slice(2 * one.back, 2 * one.back + one.ratio)
    ts = int(frame.ts[bucket][-1])
    empty = frame.changed(bucket, NAN)
    for how, rows in (("absent", empty.existing()), ("NaN", empty)):
        if ts in one.run([rows]).ts:
            raise Broken("an empty bucket is no row", f"there is a row {iso(ts)}, whose bars are all {how}")


@check(
    "AF-T14",
    "a symbol that starts late or ends early has no bars outside",
    "transforms",
    remedy="give NaN for a symbol without a bar in the bucket: what is carried forward was never traded",
    needs=("AF-T08",),
)
def late_and_early(case: TransformConformance, tmp_path: Path) -> None:
    """A symbol that was listed yesterday has no bars of last year. Zeros or values that are carried on look
    like prices that never were."""
    one = transform_subject(case, tmp_path)
    only_resamplers(one)
    (frame,) = one.inputs()
    closes = one.closes(frame)
    middle = len(frame.ts) // 2
    for what, rows in (("starts late", slice(0, middle)), ("ends early", slice(middle, None))):
        made = one.run([frame.changed(rows, NAN, 1)])
        place = {int(ts): i for i, ts in enumerate(made.ts)}
        there = np.zeros(len(frame.ts), dtype=np.bool_)
        there[rows] = True
        for ts in closes.tolist():
            bucket = (frame.ts > ts - one.output.ns) & (frame.ts <= ts)
            marker = made.columns.get("close", made.columns[one.outputs[0]])
            if not there[bucket].all() or ts not in place:
                continue
            value = float(marker[place[ts], 1])
            if not np.isnan(value):
                raise Broken(
                    "a symbol without a bar in the bucket has none in the row",
                    f"a symbol that {what} has {value!r} in the row {iso(ts)}, where it has no bar",
                )


CHECKS: tuple[Check, ...] = (edges, absent_bars, empty_buckets, late_and_early)
