"""Checks of models and data sources: each broken one caught by its own check alone, correct and built-in ones pass."""

from __future__ import annotations

import pytest

from alpha_forge_plugins.conformance.models import BiLSTMConformance
from alpha_forge_plugins.conformance.sources import BinanceFuturesConformance, FilesConformance
from alpha_forge_sdk.conformance.runner import run_case
from alpha_forge_sdk.conformance.zoo import models, sources

SPECIMENS = (*models.BROKEN, *sources.BROKEN)


@pytest.mark.parametrize("specimen", SPECIMENS, ids=lambda s: s.case.__name__)
def test_a_broken_plugin_fails_its_check_and_no_other(specimen, tmp_path):
    outcomes = {o.id: o for o in run_case(specimen.case, tmp_path)}
    caught = outcomes.pop(specimen.check)
    assert caught.status == "fail", caught
    assert specimen.says in caught.detail
    assert caught.remedy
    for outcome in outcomes.values():
        assert outcome.status in ("pass", "skip"), outcome
        assert outcome.status == "pass" or outcome.detail


@pytest.mark.parametrize(
    "case",
    [*models.CORRECT, *sources.CORRECT, BiLSTMConformance, FilesConformance, BinanceFuturesConformance],
    ids=lambda c: c.__name__,
)
def test_a_correct_plugin_fails_nothing(case, tmp_path):
    outcomes = run_case(case, tmp_path)
    assert [o for o in outcomes if o.status not in ("pass", "skip")] == []
    assert sum(o.status == "pass" for o in outcomes) >= 8


def test_every_check_has_its_broken_plugin():
    from alpha_forge_sdk.conformance.model_checks import CHECKS as OF_MODELS
    from alpha_forge_sdk.conformance.source_checks import CHECKS as OF_SOURCES

    assert {c.id for c in (*OF_MODELS, *OF_SOURCES)} == {s.check for s in SPECIMENS}
