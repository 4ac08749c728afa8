"""AF-S22 and AF-S23: the sink is killed with SIGKILL, opened again, and gets the batch again, as after a crash."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alpha_forge.contracts.errors import Rejected
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check
from alpha_forge_sdk.conformance.sink_arrival_checks import BASE
from alpha_forge_sdk.conformance.sink_child import emit_watched, in_child, open_watched
from alpha_forge_sdk.conformance.sink_fault_checks import BEFORE, batch_size
from alpha_forge_sdk.conformance.sink_once_checks import ONCE
from alpha_forge_sdk.conformance.sink_trial import Trial, Undelivered, arrived, is_idempotent, told
from alpha_forge_sdk.testing.crash import At, Crash, Place
from alpha_forge_sdk.testing.predictions import made_predictions

if TYPE_CHECKING:
    from alpha_forge.contracts.types import Prediction
    from alpha_forge_sdk.conformance.case import SinkConformance


def kill_places(run: Crash, most: int) -> list[Place]:
    """At most `most` events to kill at: right before and after what touches the outside, first; the rest evenly.

    Of many events at one place in the code the first, a middle and the last one count for more than the others.
    """
    by_where: dict[str, list[Place]] = {}
    for place in run.places:
        by_where.setdefault(place.where, []).append(place)
    chosen: dict[int, Place] = {}
    for rank in (0, -1, None):
        for same in by_where.values():
            place = same[len(same) // 2 if rank is None else rank]
            if len(chosen) < most:
                chosen.setdefault(place.event, place)
    even = max(0, most - len(chosen))
    for number in range(even):
        event = 1 + (run.events - 1) * number // max(1, even - 1)
        if run.events:
            chosen.setdefault(event, Place(event, f"event {event} of {run.events}"))
    return [chosen[event] for event in sorted(chosen)]


@check(
    "AF-S22",
    "killed in the middle of a batch, opened again, delivered again: every record is there, none torn",
    "sinks",
    remedy="write a record in one piece or mend the torn one at open; leave no lock, journal or temporary file that "
    "stops the next open; look keys up in the destination",
    needs=("AF-S06", "AF-S09", *ONCE),
)
def killed_in_batch(case: SinkConformance, tmp_path: Path) -> str:
    """The process can die at any instruction: by power, by the kernel's memory killer, by an impatient
    operator. It is killed at many places of a batch, and what is left must be mended by the next start
    alone."""
    before, batch = made_predictions(BEFORE), made_predictions(batch_size(case), first=BEFORE)
    args = (BEFORE, len(batch))
    whole = in_child(Trial(case, tmp_path / "whole"), emit_watched, *args, at=At(watched=True))
    if whole.error:
        raise Broken(
            "a sink works in a process of its own", f"emitting {len(batch)} records raised {whole.error}"
        )
    _right_after(case, tmp_path, before, batch)
    places = kill_places(whole, case.crashes)
    for place in places:
        trial = Trial(case, tmp_path / f"event{place.event}")
        in_child(trial, emit_watched, *args, at=At(event=place.event, watched=True))
        how = f"killed {place.where}"
        _redeliver(trial, batch, how)
        arrived(
            "after a crash and a redelivery every record is there, whole",
            [*before, *batch],
            _read(trial, how),
            once=is_idempotent(case),
            after=f"{how}, opened again, delivered again",
        )
    return f"killed at {len(places)} places"


def _right_after(
    case: SinkConformance, tmp_path: Path, before: Sequence[Prediction], batch: Sequence[Prediction]
) -> None:
    trial = Trial(case, tmp_path / "after")
    in_child(trial, emit_watched, len(before), len(batch), at=At(reports=2))
    trial.store()  # recovery is open()'s business; nothing is delivered again
    arrived(
        "when emit_batch returns the destination has the records: a crash right after loses none",
        [*before, *batch],
        _read(trial, "killed right after emit_batch returned"),
        once=is_idempotent(case),
        after="killed right after emit_batch returned",
    )


def _redeliver(trial: Trial, batch: Sequence[Prediction], how: str) -> None:
    try:
        trial.deliver(batch)
    except (Undelivered, Rejected) as error:
        raise Broken(
            "what a killed sink leaves behind does not stop the next one",
            f"{how}; the next one: {told(error)}",
        ) from error


def _read(trial: Trial, how: str) -> list[Prediction]:
    try:
        return trial.read()
    except Exception as error:
        raise Broken(
            "a crash leaves no torn record, or the next open() mends it",
            f"{how}: read_back() raised {told(error)}",
        ) from error


@check(
    "AF-S23",
    "killed while it opens, it opens the next time",
    "sinks",
    remedy="make a file, its header or a table in one step, or recognise the half-made one; no lock that outlives you",
    needs=BASE,
)
def killed_in_open(case: SinkConformance, tmp_path: Path) -> str:
    """A death while files and tables are made leaves half of them. The next start must neither stumble over
    them nor over a lock that nobody holds any more."""
    whole = in_child(Trial(case, tmp_path / "whole"), open_watched, at=At(watched=True))
    if whole.error:
        raise Broken("a sink works in a process of its own", f"open() raised {whole.error}")
    if not whole.events:
        raise NotApplicable("open() does nothing")
    batch = made_predictions(BEFORE)
    places = kill_places(whole, max(1, case.crashes // 2))
    for place in places:
        trial = Trial(case, tmp_path / f"event{place.event}")
        in_child(trial, open_watched, at=At(event=place.event, watched=True))
        how = f"killed in open(), {place.where}"
        _redeliver(trial, batch, how)
        arrived(
            "a sink that was killed while it opened opens the next time, and stores",
            batch,
            _read(trial, how),
            once=is_idempotent(case),
            after=f"{how}, opened again",
        )
    return f"killed at {len(places)} places"


CHECKS: tuple[Check, ...] = (killed_in_batch, killed_in_open)
