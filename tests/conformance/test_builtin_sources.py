"""The built-in model and data sources pass the kit, with no waiver; those with an engine are tested beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alpha_forge_plugins.conformance.models import BiLSTMConformance
from alpha_forge_plugins.conformance.sources import (
    BinanceFuturesConformance,
    BinanceSpotConformance,
    FilesConformance,
)
from alpha_forge_sdk.conformance import FAULTS, Conformance, NotApplicable
from alpha_forge_sdk.conformance.runner import Session, run_case


class TestBiLSTM(BiLSTMConformance):
    """One test for each check."""


class TestFiles(FilesConformance):
    """One test for each check."""


class TestBinanceFutures(BinanceFuturesConformance):
    """One test for each check."""


@pytest.mark.parametrize("case", [TestBiLSTM, TestFiles, TestBinanceFutures])
def test_nothing_is_waived_and_nothing_needed_failed(case: type[Conformance], tmp_path: Path) -> None:
    assert case.waivers == {}
    # The session of the tests above: each check runs once.
    skipped = [o for o in Session.of(case, tmp_path).all() if o.status == "skip"]
    assert not [o for o in skipped if o.detail.startswith("needs")]
    if case is TestBinanceFutures:
        assert [o for o in skipped if o.id.startswith("AF-D")] == []


def test_no_fault_is_left_out_for_binance(tmp_path: Path) -> None:
    told = [o.detail for o in Session.of(TestBinanceFutures, tmp_path).all() if o.id >= "AF-D13"]
    assert [text for text in told if "without" in text] == []
    assert {fault for fault in FAULTS if any(fault in text for text in told)} == set(FAULTS)


def test_the_spot_venue_where_it_differs(tmp_path: Path) -> None:
    """Other weights, limits, paths and files; the stream is the same code."""
    wanted = ("AF-D02", "AF-D05", "AF-D18", "AF-D20", "AF-D21")
    outcomes = {o.id: o for o in run_case(BinanceSpotConformance, tmp_path, wanted)}
    assert {i: o for i, o in outcomes.items() if o.status != "pass"} == {}
    assert set(outcomes) == set(wanted)


def test_the_authors_page_has_every_fault() -> None:
    page = (Path(__file__).parents[2] / "docs" / "authors" / "data-source.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page.partition("| fault |")[2], re.MULTILINE))
    assert {fault: rows.get(fault) for fault in FAULTS} == FAULTS


def test_a_case_without_inject_says_so() -> None:
    with pytest.raises(NotApplicable, match=r"no inject\(\)"):
        FilesConformance().inject({}, "stall")
    with pytest.raises(NotApplicable, match=r"no violations\(\)"):
        FilesConformance().violations({})
