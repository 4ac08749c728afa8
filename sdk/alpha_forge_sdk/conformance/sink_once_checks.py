"""AF-S15 … AF-S19: a record that comes again is no second record. For sinks that declare ``idempotent_by``."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check
from alpha_forge_sdk.conformance.sink_arrival_checks import BASE
from alpha_forge_sdk.conformance.sink_child import in_child, race
from alpha_forge_sdk.conformance.sink_trial import (
    Life,
    Trial,
    Undelivered,
    arrived,
    is_idempotent,
    shown,
    sink_class,
)
from alpha_forge_sdk.testing.predictions import made_predictions

if TYPE_CHECKING:
    from alpha_forge.contracts.types import Prediction
    from alpha_forge_sdk.conformance.case import SinkConformance

PROMISED = "a record whose key (idempotent_by) is there already is no second record"
ONCE = ("AF-S15", "AF-S17")
"""What has to hold before a redelivery can be asked to leave no duplicate."""

WRITERS, BATCHES, SIZE = 2, 8, 10
"""The race of AF-S18: processes, and the batches that each of them delivers."""


def _applies(case: SinkConformance) -> str | None:
    return None if is_idempotent(case) else "it declares no idempotent_by"


@check(
    "AF-S15",
    "the same record twice is one record",
    "sinks",
    remedy="upsert by the key, or look the key up before you append",
    applies=_applies,
    needs=("AF-S02", *BASE),
)
def again(case: SinkConformance, tmp_path: Path) -> None:
    """After a fault the runtime can't know how far the sink came, and hands the batch over again. A sink that
    declares a key promises that this leaves one of each."""
    trial = Trial(case, tmp_path / "destination")
    sent = made_predictions(12)
    with trial.life() as life:
        life.emit(sent[:1])
        life.emit(sent[:1])
        arrived(PROMISED, sent[:1], trial.stored(), once=True, after="the same record in two batches")
        life.emit(sent[:8])
        life.emit(sent[:8])
        arrived(PROMISED, sent[:8], trial.stored(), once=True, after="the same batch twice")
        life.emit(sent[4:])
    arrived(PROMISED, sent, trial.stored(), once=True, after="a batch half of which was there")


@check(
    "AF-S16",
    "the same record twice within a batch is one record",
    "sinks",
    remedy="let keys of this batch count before you look up the next record",
    applies=_applies,
    needs=("AF-S15",),
)
def twice_within(case: SinkConformance, tmp_path: Path) -> None:
    """A repaired bar and its first version may come in one batch. Looking keys up only before the batch
    misses that."""
    trial = Trial(case, tmp_path / "destination")
    a, b, c = made_predictions(3)
    with trial.life() as life:
        life.must(
            PROMISED, "a batch that holds a record twice", lambda: life.probe.emit_batch([a, b, a, c, c])
        )
    arrived(PROMISED, [a, b, c], trial.stored(), once=True, after="a batch of a, b, a, c, c")


@check(
    "AF-S17",
    "the same record after reopening is one record",
    "sinks",
    remedy="ask the destination which keys it has when you open, or leave it to the destination; memory is lost",
    applies=_applies,
    needs=("AF-S09", "AF-S15"),
)
def after_reopen(case: SinkConformance, tmp_path: Path) -> None:
    """Redelivery most often follows a restart. Keys that are remembered in memory are forgotten just then."""
    trial = Trial(case, tmp_path / "destination")
    sent = made_predictions(12)
    trial.store(sent[:8])
    trial.store(sent[:8])
    arrived(PROMISED, sent[:8], trial.stored(), once=True, after="the same batch in two lives")
    trial.store(sent[6:])
    trial.store(sent[:2])
    arrived(PROMISED, sent, trial.stored(), once=True, after="parts of it in two more lives")


@check(
    "AF-S18",
    "two writers of the same records leave one of each",
    "sinks",
    remedy="look the keys up and write them under one lock or in one transaction, each time anew",
    applies=_applies,
    needs=("AF-S17",),
)
def two_writers(case: SinkConformance, tmp_path: Path) -> None:
    """While a new process starts the old one may not have ended, and some run two for safety. Keys that were
    looked up earlier, or outside of the transaction, miss what the other one writes."""
    _take_turns(Trial(case, tmp_path / "turns"))
    with contextlib.suppress(NotApplicable):  # a class that no other process can have, or no fork
        _race(Trial(case, tmp_path / "race"))


def _take_turns(trial: Trial) -> None:
    """Two instances that are open at the same time; the second may be refused, but must get its turn later."""
    sent = made_predictions(12)
    with trial.life() as first:
        second = trial.probe()
        try:
            try:
                second.open()
            except Exception:  # noqa: BLE001 - one writer at a time is a way to keep the promise
                pass
            else:
                for start in (0, 4, 8):
                    first.emit(sent[start : start + 4])
                    Life(second).offer(sent[start : start + 4])
                    Life(second).offer(sent[max(0, start - 4) : start])
        finally:
            if not second.hung:
                with contextlib.suppress(Exception):
                    second.close()
            second.end()
    _delivered(trial, sent)
    after = "two open instances got the same batches in turn"
    arrived(f"{PROMISED}, whoever wrote it", sent, trial.stored(), once=True, after=after)


def _delivered(trial: Trial, sent: list[Prediction]) -> None:
    try:
        trial.deliver(sent)
    except Undelivered as error:
        raise Broken(
            "a writer gets its turn once the other has closed",
            f"it did not within {trial.case.recovery:g} s: {error}",
        ) from error


def _race(trial: Trial) -> None:
    run = in_child(trial, race, WRITERS, BATCHES, SIZE)
    if run.reports or run.error:
        raise Broken(
            "two runners of one config may write to one destination: both get their records in",
            f"{WRITERS} processes at once: {'; '.join(run.reports) or run.error}",
        )
    sent = made_predictions(BATCHES * SIZE)
    after = f"{WRITERS} processes delivered the same {BATCHES} batches at once"
    arrived(f"{PROMISED}, whoever wrote it", sent, trial.stored(), once=True, after=after)


def _applies_to_values(case: SinkConformance) -> str | None:
    if not is_idempotent(case):
        return "it declares no idempotent_by"
    parts = {"value", "prediction"} & set(sink_class(case).idempotent_by)
    return "its key holds the value: another value is another record" if parts else None


@check(
    "AF-S19",
    "another value for the same key follows on_conflict",
    "sinks",
    remedy='`on_conflict = "replace"`: the newest value stands; `"keep"`: the first one does',
    applies=_applies_to_values,
    needs=("AF-S02", "AF-S16", "AF-S17"),
)
def conflicts(case: SinkConformance, tmp_path: Path) -> None:
    """A corrected value for the same bar either replaces what is stored or is dropped. Consumers must know
    which, whichever way the two records come."""
    policy = sink_class(case).on_conflict
    old = made_predictions(5)
    new = [replace(p, value=p.value + 1000) for p in old]
    wanted = new if policy == "replace" else old
    for how in ("in the next batch", "after reopening", "within a batch"):
        trial = Trial(case, tmp_path / how.replace(" ", "_"))
        batches = [[*old, *new]] if how == "within a batch" else [old, new]
        if how == "after reopening":
            for batch in batches:
                trial.store(batch)
        else:
            trial.store(*batches)
        promised = (
            f'on_conflict = "{policy}": the {"newest" if policy == "replace" else "first"} value stands'
        )
        after = f"{shown(old[0])} and then {new[0].value} for the same key, {how}"
        arrived(promised, wanted, trial.stored(), once=True, after=after)


CHECKS: tuple[Check, ...] = (again, twice_within, after_reopen, two_writers, conflicts)
