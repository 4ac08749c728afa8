"""The built-in sinks pass the kit, with no waiver."""

from __future__ import annotations

from pathlib import Path

from alpha_forge_plugins.conformance.sinks import CSVAppendConformance
from alpha_forge_sdk.conformance.case import Conformance
from alpha_forge_sdk.conformance.runner import Session


class TestCSVAppend(CSVAppendConformance):
    """One test for each check."""


def test_nothing_is_waived_and_nothing_skipped_but_what_does_not_apply(tmp_path: Path) -> None:
    assert CSVAppendConformance.waivers == {}
    # The session of the tests above: each check runs once.
    skipped = {o.id for o in Session.of(TestCSVAppend, tmp_path).all() if o.status == "skip"}
    # One form of emit; no secrets; no network.
    assert {i for i in skipped if i.startswith("AF-S")} == {"AF-S06", "AF-S28", "AF-S29", "AF-S30", "AF-S31"}


def test_the_case_is_registered() -> None:
    from alpha_forge_plugins import shared

    module, _, name = shared.alpha_forge_conformance()["sinks.csv_append"].partition(":")
    assert (module, name) == (CSVAppendConformance.__module__, CSVAppendConformance.__name__)
    assert issubclass(CSVAppendConformance, Conformance)
