"""The built-in sinks of files pass the kit, with no waiver."""

from __future__ import annotations

from pathlib import Path

import pytest

from alpha_forge_plugins.conformance.sinks import (
    CSVAppendConformance,
    JSONLinesConformance,
    ParquetConformance,
    SQLiteConformance,
)
from alpha_forge_sdk.conformance.case import Conformance
from alpha_forge_sdk.conformance.runner import Session


class TestCSVAppend(CSVAppendConformance):
    """One test for each check."""


class TestJSONLines(JSONLinesConformance):
    """One test for each check."""


class TestSQLite(SQLiteConformance):
    """One test for each check."""


class TestParquet(ParquetConformance):
    """One test for each check."""


CASES = (TestCSVAppend, TestJSONLines, TestSQLite, TestParquet)


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_waived_and_nothing_skipped_but_what_does_not_apply(
    case: type[Conformance], tmp_path: Path
) -> None:
    assert case.waivers == {}
    # The session of the tests above: each check runs once.
    skipped = {o.id for o in Session.of(case, tmp_path).all() if o.status == "skip"}
    # One form of emit; no secrets; no network. Files by day keep no order.
    unordered = {"AF-S07"} if case is TestParquet else set()
    wanted = {"AF-S06", "AF-S28", "AF-S29", "AF-S30", "AF-S31"} | unordered
    assert {i for i in skipped if i.startswith("AF-S")} == wanted


@pytest.mark.parametrize("case", CASES)
def test_the_case_is_registered(case: type[Conformance]) -> None:
    from alpha_forge_plugins import shared

    base = case.__mro__[1]
    module, _, name = shared.alpha_forge_conformance()[str(case.plugin)].partition(":")
    assert (module, name) == (base.__module__, base.__name__)
