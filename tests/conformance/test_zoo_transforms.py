"""Every broken transform of the zoo fails its own check and no other; nothing fails on the correct ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alpha_forge_sdk.conformance import transform_checks
from alpha_forge_sdk.conformance.runner import run_case
from alpha_forge_sdk.conformance.zoo import Specimen
from alpha_forge_sdk.conformance.zoo.transforms import BROKEN, CORRECT


@pytest.mark.parametrize("specimen", BROKEN, ids=lambda s: s.case.plugin.__name__)
def test_a_broken_transform_fails_its_check_alone(specimen: Specimen, tmp_path: Path) -> None:
    outcomes = {o.id: o for o in run_case(specimen.case, tmp_path)}
    found = outcomes.pop(specimen.check)
    assert found.status == "fail", found
    assert specimen.says in found.detail
    assert re.fullmatch("promised: .+\nseen: .+", found.detail)
    assert found.remedy
    assert {i: o for i, o in outcomes.items() if o.status in ("fail", "error")} == {}
    for outcome in outcomes.values():
        assert outcome.status == "pass" or outcome.detail, outcome


@pytest.mark.parametrize("case", CORRECT, ids=lambda c: c.plugin.__name__)
def test_a_correct_transform_fails_nothing(case, tmp_path: Path) -> None:
    outcomes = run_case(case, tmp_path)
    assert [o for o in outcomes if o.status not in ("pass", "skip")] == []
    assert not [o for o in outcomes if o.status == "skip" and o.detail.startswith("needs")]


def test_every_check_has_a_broken_transform_and_a_correct_one(tmp_path: Path) -> None:
    checks = {c.id for c in transform_checks.CHECKS}
    assert len(checks) == len(transform_checks.CHECKS)
    assert {s.check for s in BROKEN} == checks
    passed = {
        o.id for case in CORRECT for o in run_case(case, tmp_path / case.__name__) if o.status == "pass"
    }
    assert checks <= passed
