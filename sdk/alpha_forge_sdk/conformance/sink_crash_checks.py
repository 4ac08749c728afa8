"""AF-S22 and AF-S23: the sink is killed with SIGKILL, opened again, and gets the batch again, as after a crash."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from alpha_forge.contracts.errors import Rejected
from alpha_forge_sdk.conformance.check import Broken, Check, check
from alpha_forge_sdk.conformance.sink_child import close_watched, emit_watched, in_child, open_watched
from alpha_forge_sdk.conformance.sink_fault_checks import BEFORE, batch_size
from alpha_forge_sdk.conformance.sink_once_checks import ONCE
from alpha_forge_sdk.conformance.sink_trial import Trial, Undelivered, arrived, is_idempotent, told
from alpha_forge_sdk.testing.crash import At, Crash, Place
from alpha_forge_sdk.testing.predictions import made_predictions

if TYPE_CHECKING:
    from alpha_forge.contracts.types import Prediction
    from alpha_forge_sdk.conformance.case import SinkConformance

T = TypeVar("T")


def kill_places(run: Crash, most: int) -> list[Place]:
    """At most `most` events to kill at: right after whatever may have changed the outside; the rest evenly.

    Of the events at one place in the code the first, the last and a middle one count before the others.
    """
    by_where: dict[str, list[Place]] = {}
    for place in run.places:
        by_where.setdefault(place.where, []).append(place)
    chosen: dict[int, Place] = {}
    for pick in (lambda same: same[0], lambda same: same[-1], lambda same: same[len(same) // 2]):
        picked = {place.event: place for place in map(pick, by_where.values()) if place.event not in chosen}
        chosen.update(_spread(list(picked.items()), most - len(chosen)))
    every = [(event, Place(event, f"at event {event} of {run.events}")) for event in range(1, run.events + 1)]
    for event, place in _spread(every, most - len(chosen)):
        chosen.setdefault(event, place)
    return [chosen[event] for event in sorted(chosen)]


def _spread(items: Sequence[T], most: int) -> list[T]:
    """`most` of the items, evenly, the first and the last among them."""
    if most >= len(items):
        return list(items)
    return [items[(len(items) - 1) * number // max(1, most - 1)] for number in range(most)]


@check(
    "AF-S22",
    "killed in the middle of a batch, opened again, delivered again: every record is there, none torn",
    "sinks",
    remedy="write a record in one piece or mend the torn one at open; leave no lock, journal or temporary file that "
    "stops the next open; look keys up in the destination",
    needs=("AF-S05", "AF-S09", *ONCE),
)
def killed_in_batch(case: SinkConformance, tmp_path: Path) -> str:
    """The process can die at any instruction: by a crash, by the kernel's memory killer, by an impatient
    operator. It is killed at many places of a batch, and what is left must be mended by the next start
    alone."""
    before, batch = made_predictions(BEFORE), made_predictions(batch_size(case), first=BEFORE)
    args = (BEFORE, len(batch))
    whole = in_child(Trial(case, tmp_path / "whole"), emit_watched, *args, at=At(watched=True))
    if whole.error:
        raise Broken(
            "a sink works in a process of its own", f"emitting {len(batch)} records raised {whole.error}"
        )
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
    "killed while it opens or closes, it opens the next time, and what was stored is there",
    "sinks",
    remedy="make a file, its header or a table in one step, or recognise the half-made one; rewrite a file under "
    "another name and rename it; no lock that outlives you",
    needs=("AF-S09",),
)
def killed_around(case: SinkConformance, tmp_path: Path) -> str:
    """A death while files and tables are made, or while they are closed, leaves half of something. The next
    start must neither stumble over it nor over a lock that nobody holds any more."""
    stored, more = made_predictions(BEFORE), made_predictions(BEFORE, first=BEFORE)
    killed = 0
    for what, function, args in (("open()", open_watched, ()), ("close()", close_watched, (BEFORE,))):
        folder = tmp_path / function.__name__
        whole = in_child(Trial(case, folder), function, *args, at=At(watched=True))
        if whole.error:
            raise Broken("a sink works in a process of its own", f"{what} raised {whole.error}")
        for place in kill_places(whole, max(1, case.crashes // 3)):
            trial = Trial(case, folder / f"event{place.event}")
            in_child(trial, function, *args, at=At(event=place.event, watched=True))
            how = f"killed in {what}, {place.where}"
            _redeliver(trial, more, how)
            arrived(
                "a sink that was killed opens the next time, and what was stored is there",
                [*stored, *more] if args else more,
                _read(trial, how),
                once=is_idempotent(case),
                after=f"{how}, opened again",
            )
            killed += 1
    return f"killed at {killed} places"


CHECKS: tuple[Check, ...] = (killed_in_batch, killed_around)
