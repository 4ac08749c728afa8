"""Every built-in feature and transform keeps every promise that the kit knows of."""

from __future__ import annotations

from pathlib import Path

import pytest

from alpha_forge_plugins import middlefreq
from alpha_forge_sdk.conformance import FeatureConformance
from alpha_forge_sdk.conformance.runner import run_case

FEATURES = sorted(middlefreq.alpha_forge_features())


@pytest.mark.parametrize("name", FEATURES)
def test_a_built_in_feature_passes(name: str, tmp_path: Path) -> None:
    case = type("Case", (FeatureConformance,), {"plugin": f"features.{name}"})
    outcomes = run_case(case, tmp_path)
    assert [o for o in outcomes if o.status not in ("pass", "skip")] == []
    assert not [o for o in outcomes if o.status == "skip" and o.detail.startswith("needs")]
