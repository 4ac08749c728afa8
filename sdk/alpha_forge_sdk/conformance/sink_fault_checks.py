"""AF-S20 and AF-S21: faults are told, what was offered again is not lost, and only the culprit is rejected."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from alpha_forge.contracts.errors import Rejected
from alpha_forge.contracts.types import Prediction
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check
from alpha_forge_sdk.conformance.sink_arrival_checks import BASE
from alpha_forge_sdk.conformance.sink_child import emit_to_full_disk, in_child
from alpha_forge_sdk.conformance.sink_once_checks import ONCE
from alpha_forge_sdk.conformance.sink_trial import (
    Trial,
    Undelivered,
    arrived,
    is_idempotent,
    sink_class,
    told,
)
from alpha_forge_sdk.testing.predictions import made_predictions

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import SinkConformance

BEFORE, COUNT = 5, 20
"""Records that are stored before the fault, and records of the batch that it hits."""

ROOMY = 1 << 40


def disk_limits(case: SinkConformance, folder: Path) -> list[int]:
    """Sizes that a file may not pass, such that the batch hits them at its start, midway and at its last byte.

    Raises NotApplicable if no file in the destination's directory grows.
    """
    small, large = _written(case, folder / "small", 0), _written(case, folder / "large", batch_size(case))
    if large == 0:
        raise NotApplicable("no file under tmp_path grows: no disk of the sink's can be filled")
    wanted = (
        {small + int((large - small) * part) for part in (0.0, 0.2, 0.5, 0.8)} if large > small else set()
    )
    return sorted(wanted | {large // 3, large - 1})


def batch_size(case: SinkConformance) -> int:
    return min(COUNT, sink_class(case).max_batch)


def _written(case: SinkConformance, folder: Path, count: int) -> int:
    """Size of the largest file after so many records beyond those that come before."""
    trial = Trial(case, folder)
    in_child(trial, emit_to_full_disk, BEFORE, count, ROOMY)
    return max((path.stat().st_size for path in folder.rglob("*") if path.is_file()), default=0)


@check(
    "AF-S20",
    "a full disk partway through a batch is told, and the batch delivered again is complete",
    "sinks",
    remedy="let errors of write, flush and fsync through; cut off what a failed write left before you write again",
    needs=("AF-S05", "AF-S09", *ONCE),
)
def full_disk(case: SinkConformance, tmp_path: Path) -> str:
    """Disks fill up in the middle of a batch. An error that is swallowed is a lost record; half a line that
    stays makes the next one unreadable."""
    once = is_idempotent(case)
    before, batch = made_predictions(BEFORE), made_predictions(batch_size(case), first=BEFORE)
    faults = 0
    for limit in disk_limits(case, tmp_path):
        trial = Trial(case, tmp_path / f"limit{limit}")
        run = in_child(trial, emit_to_full_disk, BEFORE, len(batch), limit)
        if not run.reports:  # the disk was full before the batch in question came
            raise RuntimeError(f"could not even begin: {run.error}")
        how = f"no file could grow beyond {limit} bytes while {len(batch)} records were emitted"
        if "stored" in run.reports:
            arrived(
                "emit_batch raises if it could not store the records",
                [*before, *batch],
                trial.stored(),
                once=once,
                after=f"{how}, and emit_batch returned",
            )
            continue
        faults += 1
        if run.reports[1].startswith("raised Rejected"):
            raise Broken(
                "a fault is no rejection: rejected records are given up for ever", f"{how}: {run.reports[1]}"
            )
        if "stored later" not in run.reports:
            _deliver_again(trial, batch, how)
        arrived(
            "a batch that is delivered again after a fault is stored whole, and what was there stays",
            [*before, *batch],
            trial.stored(),
            once=once,
            after=f"{how} ({run.reports[1]}), then room was made and the batch came again",
        )
    if not faults:
        raise NotApplicable("no limit on the size of files made the sink fail: its disk can't be filled here")
    return f"{faults} faults"


def _deliver_again(trial: Trial, batch: list[Prediction], how: str) -> None:
    try:
        trial.deliver(batch)
    except (Undelivered, Rejected) as error:
        raise Broken(
            "a fault that has passed hinders nothing: a new instance takes the batch",
            f"{how}; with room again: {told(error)}",
        ) from error


@check(
    "AF-S21",
    "only the culprit is rejected, and all others are stored",
    "sinks",
    remedy="judge each record alone; store the good ones first, then raise Rejected({index: reason}) for the others",
    needs=BASE,
)
def culprit_only(case: SinkConformance, tmp_path: Path) -> None:
    """One record that the destination will never take must not hold back the others, and must not take them
    along: what is rejected is not delivered again."""
    culprit = case.culprit()
    if culprit is None and sink_class(case).non_finite == "reject":
        culprit = replace(made_predictions(1, first=900)[0], value=math.inf)
    if culprit is None:
        raise NotApplicable("no record is known that it rejects; the case's culprit() may name one")
    good = made_predictions(8)
    for place in (0, 2, 4):
        trial = Trial(case, tmp_path / str(place))
        batch = [*good[:place], culprit, *good[place:4]]
        with trial.life() as life:
            error = life.offer(batch)
            _judge(batch, place, error)
            life.emit(good[4:])
        after = f"a batch of {len(batch)} with the culprit at index {place}, and one more batch"
        arrived("a rejection costs no other record", good, trial.stored(), once=True, after=after)


def _judge(batch: list[Prediction], place: int, error: Exception | None) -> None:
    promised = "a record that never will be taken raises Rejected({its index: the reason})"
    where = f"a batch of {len(batch)} with the culprit at index {place}"
    if not isinstance(error, Rejected):
        raise Broken(promised, f"{where} raised {told(error) if error else 'nothing'}")
    if set(error.reasons) != {place}:
        raise Broken(promised, f"{where}: rejected were the indices {sorted(error.reasons)}")
    if not str(error.reasons[place]).strip():
        raise Broken(
            "a rejection gives its reason: it is kept with the dead letter", f"{where}: an empty reason"
        )


CHECKS: tuple[Check, ...] = (full_disk, culprit_only)
