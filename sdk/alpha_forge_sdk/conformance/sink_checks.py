"""AF-S: what a sink promises. Judged by what its destination holds, read without the sink's help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alpha_forge_sdk.conformance import (
    sink_arrival_checks,
    sink_crash_checks,
    sink_fault_checks,
    sink_life_checks,
    sink_network_checks,
    sink_once_checks,
    sink_value_checks,
)
from alpha_forge_sdk.conformance.auditing import watched_deeds
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check
from alpha_forge_sdk.conformance.sink_trial import Life, Trial, sink_class
from alpha_forge_sdk.testing.predictions import METADATA, made_predictions

if TYPE_CHECKING:
    from alpha_forge_sdk.conformance.case import SinkConformance

KEY_FIELDS = ("symbol", "ts", "value", "prediction", "metadata", *METADATA)
"""What ``idempotent_by`` may name: parts of a `Prediction`, and the keys of its metadata."""


@check(
    "AF-S01",
    "what arrives can be read back",
    "sinks",
    remedy="give the case a read_back(params) that asks the destination itself and yields Prediction objects",
)
def readable(case: SinkConformance, tmp_path: Path) -> None:
    """Everything else asks the destination what it holds. A sink that can't be asked can't be judged, which
    is why this is no pass."""
    trial = Trial(case, tmp_path / "one")
    trial.store(*(made_predictions(2, first=2 * i) for i in range(3)))
    try:
        found = trial.settled(1)
    except NotApplicable as error:
        # Not a skip: a sink whose effect nobody can see must never be called proved.
        raise RuntimeError(str(error)) from None
    if not found:
        raise Broken(
            "the destination holds what was emitted, and read_back() finds it there",
            "six records were emitted, the sink was closed, and read_back() gives none",
        )
    other = Trial(case, tmp_path / "other")
    if left := other.stored():
        raise Broken(
            "params(tmp_path) names a destination of its own, empty at first, for each tmp_path",
            f"a new destination holds {len(left)} record(s) already",
            "derive the file's or table's name from tmp_path",
        )


@check(
    "AF-S02",
    "the key of a record is one that records have, and effectively_once names one",
    "sinks",
    remedy='set idempotent_by = ("ts", "symbol"), or what names a record in your destination',
    needs=("AF-P02",),
)
def declarations(case: SinkConformance, tmp_path: Path) -> None:
    """A sink that claims to store records once must say by which key two records are the same; a key of names
    that records don't have is no key."""
    plugin = sink_class(case)
    for part in plugin.idempotent_by:
        if part not in KEY_FIELDS:
            raise Broken(
                f"idempotent_by names parts of a prediction: {', '.join(KEY_FIELDS)}",
                f"{plugin.__name__}.idempotent_by has {part!r}",
            )
    if plugin.delivery == "effectively_once" and not plugin.idempotent_by:
        raise Broken(
            "a sink that delivers effectively once tells by which key: after a crash records come again",
            f"{plugin.__name__} declares effectively_once, and idempotent_by is empty",
        )


@check(
    "AF-S03",
    "preflight makes nothing and connects nowhere",
    "sinks",
    remedy="only look (os.access, path.exists); leave making and connecting to open()",
)
def preflight(case: SinkConformance, tmp_path: Path) -> None:
    """`alpha_forge check` calls preflight on machines that only look at a configuration. It must leave no
    empty file or table behind, and reach for no server."""
    trial = Trial(case, tmp_path / "destination")
    before = sorted(trial.folder.rglob("*"))
    sink = trial.sink()
    with watched_deeds() as deeds:
        Life.must(
            "preflight() passes where open() will succeed; `alpha_forge check` calls it",
            "preflight()",
            sink.preflight,
        )
    promised = "preflight() leaves everything as it was: it also runs in `alpha_forge check`"
    if made := sorted(set(trial.folder.rglob("*")) - set(before)):
        raise Broken(promised, f"it made {made[0].name}")
    if deeds.files:
        raise Broken(promised, f"it opened {deeds.files[0]} to write")
    if deeds.connections:
        host, port = deeds.connections[0]
        raise Broken(promised, f"it connected to {host}:{port}")


CHECKS: tuple[Check, ...] = (
    readable,
    declarations,
    preflight,
    *sink_arrival_checks.CHECKS,
    *sink_value_checks.CHECKS,
    *sink_once_checks.CHECKS,
    *sink_fault_checks.CHECKS,
    *sink_crash_checks.CHECKS,
    *sink_life_checks.CHECKS,
    *sink_network_checks.CHECKS,
)
