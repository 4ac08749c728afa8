"""AF-S04 … AF-S10: every record arrives, when it should, in its order, and the sender's own stay as they were."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpha_forge.contracts.plugin import Sink
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check
from alpha_forge_sdk.conformance.sink_child import RETURNED, emit_watched, in_child
from alpha_forge_sdk.conformance.sink_trial import Trial, arrived, record, shown, sink_class, whole_record
from alpha_forge_sdk.testing.crash import At
from alpha_forge_sdk.testing.fault_proxy import fault_proxy
from alpha_forge_sdk.testing.predictions import made_predictions

if TYPE_CHECKING:
    from alpha_forge.contracts.types import Prediction
    from alpha_forge_sdk.conformance.case import SinkConformance

SIZES = (0, 1, 25, 26, 1000)
"""Nothing, one, what fits into a BatchWriteItem, one more than that, and many."""

LATENCY = 0.1
"""Seconds that a network destination is away in AF-S05: an answer not waited for comes too late."""

COMPLETE = ("AF-S01", "AF-S04")
BASE = (*COMPLETE, "AF-S05")
"""What has to hold before anything else about records in the destination can be judged: all are there, at once."""


@check(
    "AF-S04",
    "every record of a batch arrives, whatever the batch's size",
    "sinks",
    remedy="store all records of the batch; if the destination takes fewer at a time, send several requests",
    needs=("AF-P02", "AF-S01"),
)
def sizes(case: SinkConformance, tmp_path: Path) -> str:
    """A backlog after an outage comes in batches of any size up to `max_batch`. Services take 25 or 500
    records in one request, and drop or refuse the rest."""
    seconds = 0.0
    for size in SIZES:
        trial = Trial(case, tmp_path / str(size))
        batch = made_predictions(size)
        with trial.life() as life:
            seconds = life.emit(batch)
        arrived(
            "every record of a batch arrives",
            batch,
            trial.settled(size),
            once=True,
            after=f"a batch of {size}",
        )
    rate = SIZES[-1] / max(seconds, 1e-6)
    return f"{SIZES[-1]} records in {seconds * 1e3:.1f} ms, {rate:,.0f} a second"


@check(
    "AF-S05",
    "the destination has the records when emit_batch returns",
    "sinks",
    remedy="write, flush and commit, or wait for the acknowledgement, before you return; buffer nothing until close",
    needs=COMPLETE,
)
def has_it(case: SinkConformance, tmp_path: Path) -> None:
    """The delivery log forgets a record once the sink has returned. What is still in a buffer then is lost by
    the next crash, and nobody will send it again."""
    trial = Trial(case, tmp_path / "destination")
    sent: list[Prediction] = []
    with _far_away(case, trial.params) as params, trial.life(params) as life:
        for size in (7, 1, 25):
            batch = made_predictions(size, first=len(sent))
            life.emit(batch)
            sent += batch
            arrived(
                "when emit_batch returns the destination has the records: a crash right after loses none",
                sent,
                trial.stored(),
                once=True,
                after=f"right after a batch of {size}, before close()",
            )
    with contextlib.suppress(NotApplicable):  # no fork, or a class that no other process can have
        _killed_right_after(Trial(case, tmp_path / "killed"))


def _killed_right_after(trial: Trial) -> None:
    """The process dies before anything that works in the background gets a turn."""
    in_child(trial, emit_watched, 0, 7, at=At(point=RETURNED))
    arrived(
        "when emit_batch returns the destination has the records: a crash right after loses none",
        made_predictions(7),
        trial.settled(7),
        once=True,
        after="killed right after emit_batch returned",
    )


@contextlib.contextmanager
def _far_away(case: SinkConformance, params: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parameters, with a network destination further away than it is."""
    destination = case.destination(params)
    if destination is None:
        yield params
        return
    with fault_proxy(*destination) as proxy:
        proxy.slow(LATENCY)
        yield case.through(params, *proxy.address)


@check(
    "AF-S06",
    "emit and emit_batch store the same",
    "sinks",
    remedy="let one of them call the other",
    applies=lambda case: _both_forms(case),
    needs=BASE,
)
def forms_agree(case: SinkConformance, tmp_path: Path) -> None:
    """The runtime uses whichever form suits it. What one form stores and the other doesn't depends on the
    configuration, not on the data."""
    plain = made_predictions(6)
    odd = [
        replace(p, value=p.value / 3, ts=p.ts + timedelta(microseconds=1 + i)) for i, p in enumerate(plain)
    ]
    single, batch = Trial(case, tmp_path / "single"), Trial(case, tmp_path / "batch")
    with single.life() as life:
        for prediction in odd:
            life.must("emit takes what emit_batch takes", "emit()", partial(life.probe.emit, prediction))
    batch.store(odd)
    one, other = Counter(map(whole_record, single.stored())), Counter(map(whole_record, batch.stored()))
    if one != other:
        difference = sorted((one - other) or (other - one))[0]
        by = "emit" if one - other else "emit_batch"
        raise Broken("emit and emit_batch store the same records", f"only {by} stored {difference}")


def _both_forms(case: SinkConformance) -> str | None:
    plugin = sink_class(case)
    both = plugin.emit is not Sink.emit and plugin.emit_batch is not Sink.emit_batch
    return None if both else "it overrides only one of emit and emit_batch"


@check(
    "AF-S07",
    "records are kept in the order they came in",
    "sinks",
    remedy="append in order, or declare `ordered = False`",
    applies=lambda case: None if sink_class(case).ordered else "it declares ordered = False",
    needs=BASE,
)
def order_kept(case: SinkConformance, tmp_path: Path) -> None:
    """Consumers that read along take the last record for the newest. Where order isn't kept, that has to be
    declared, so that they know."""
    trial = Trial(case, tmp_path / "destination")
    sent = made_predictions(36)
    trial.store(sent[:12], sent[12:13], sent[13:])
    got = trial.stored()
    arrived("every record arrives", sent, got, once=True, after="three batches")
    for place, (one, other) in enumerate(zip(sent, got, strict=True)):
        if record(one) != record(other):
            raise Broken(
                "ordered = True: the destination holds records in the order they were emitted",
                f"in place {place} it holds {shown(other)}, emitted there was {shown(one)}",
            )


@check(
    "AF-S08",
    "a batch and its records are left as they were",
    "sinks",
    remedy="copy before sorting, popping or clearing: the same batch comes again after a fault, goes to other sinks",
    needs=("AF-S01",),
)
def input_kept(case: SinkConformance, tmp_path: Path) -> None:
    """The batch is the delivery log's own: it comes again after a fault, and goes to the other sinks."""
    trial = Trial(case, tmp_path / "destination")
    batch = made_predictions(9)
    before = list(batch)
    records = [whole_record(p) for p in before]
    with trial.life() as life:
        life.must(
            "a healthy destination takes ordinary records", "emitting", lambda: life.probe.emit_batch(batch)
        )
    promised = "emit_batch never changes the batch or what is in it"
    if len(batch) != len(before) or any(one is not other for one, other in zip(batch, before, strict=True)):
        raise Broken(
            promised, f"a batch of {len(before)} held {len(batch)} record(s), or others, after the call"
        )
    for prediction, was in zip(before, records, strict=True):
        if whole_record(prediction) != was:
            raise Broken(promised, f"{was} had become {whole_record(prediction)}")


@check(
    "AF-S09",
    "a later life keeps what earlier ones stored",
    "sinks",
    remedy="open to append; create a table or a header only where there is none",
    needs=BASE,
)
def lives_add_up(case: SinkConformance, tmp_path: Path) -> None:
    """A sink is opened anew after every fault and every restart. Opening that truncates, or writes a header
    once more, destroys what counted as delivered."""
    trial = Trial(case, tmp_path / "destination")
    sent = made_predictions(15)
    for number in range(3):
        trial.store(sent[5 * number : 5 * number + 5])
        arrived(
            "what was stored stays, whatever is opened later",
            sent[: 5 * number + 5],
            trial.stored(),
            once=True,
            after=f"life {number + 1}, each with 5 records of its own",
        )
    trial.store()
    arrived(
        "opening and closing changes nothing", sent, trial.stored(), once=True, after="a life without records"
    )


@check(
    "AF-S10",
    "a record older than what is stored is stored too",
    "sinks",
    remedy="tell records by their whole key, never by a newest ts: dead letters and repaired bars come late",
    needs=("AF-S09",),
)
def late_records(case: SinkConformance, tmp_path: Path) -> None:
    """Dead letters that are delivered late, and bars that were repaired, are older than what is stored. A
    sink that goes by the newest ts drops them, and says that it has them."""
    trial = Trial(case, tmp_path / "destination")
    late, newer = made_predictions(10), made_predictions(10, first=100)
    trial.store(newer, late[:5])
    trial.store(late[5:])
    arrived(
        "records come late, too, and are stored",
        [*newer, *late],
        trial.stored(),
        once=True,
        after="older ones",
    )


CHECKS: tuple[Check, ...] = (
    sizes,
    has_it,
    forms_agree,
    order_kept,
    input_kept,
    lives_add_up,
    late_records,
)
