"""Every broken feature, transform, model and data source of the zoo fails its own check and no other; nothing fails on
the correct ones. The other kinds have tests of their own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alpha_forge_sdk.conformance.runner import run_case
from alpha_forge_sdk.conformance.suite import checks_of
from alpha_forge_sdk.conformance.zoo import Specimen, features, models, sources, transforms

MODULES = {"features": features, "transforms": transforms, "models": models, "data": sources}
BROKEN = [specimen for module in MODULES.values() for specimen in module.BROKEN]


def own_checks(kind: str) -> list[str]:
    """Ids of the checks of one kind alone."""
    return [c.id for c in checks_of(kind) if not c.id.startswith("AF-P")]


@pytest.mark.parametrize("specimen", BROKEN, ids=lambda s: s.case.plugin.__name__)
def test_a_broken_plugin_fails_its_check_alone(specimen: Specimen, tmp_path: Path) -> None:
    outcomes = {o.id: o for o in run_case(specimen.case, tmp_path)}
    found = outcomes.pop(specimen.check)
    assert found.status == "fail", found
    assert specimen.says in found.detail
    assert re.match("promised: .+\nseen: .+", found.detail)
    assert found.remedy
    assert {i: o for i, o in outcomes.items() if o.status not in ("pass", "skip")} == {}
    for outcome in outcomes.values():
        assert outcome.status == "pass" or outcome.detail, outcome


@pytest.mark.parametrize("kind", MODULES)
def test_correct_plugins_fail_nothing_and_pass_every_check(kind: str, tmp_path: Path) -> None:
    passed: set[str] = set()
    for case in MODULES[kind].CORRECT:
        outcomes = run_case(case, tmp_path / case.__name__)
        assert [o for o in outcomes if o.status not in ("pass", "skip")] == [], case
        assert not [o for o in outcomes if o.status == "skip" and o.detail.startswith("needs")], case
        passed |= {o.id for o in outcomes if o.status == "pass"}
    assert set(own_checks(kind)) <= passed


@pytest.mark.parametrize("kind", MODULES)
def test_every_check_has_its_broken_plugin(kind: str) -> None:
    ids = own_checks(kind)
    assert len(ids) == len(set(ids))
    assert {s.check for s in MODULES[kind].BROKEN} == set(ids)


@pytest.mark.parametrize("kind", MODULES)
def test_needs_name_checks_that_there_are(kind: str) -> None:
    ids = {c.id for c in checks_of(kind)}
    assert [(c.id, n) for c in checks_of(kind) for n in c.needs if n not in ids or n == c.id] == []
