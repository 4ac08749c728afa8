"""Every built-in feature and transform keeps every promise that the kit knows of."""

from __future__ import annotations

from pathlib import Path

import pytest

from alpha_forge_plugins import middlefreq
from alpha_forge_sdk.conformance import Conformance, FeatureConformance, TransformConformance
from alpha_forge_sdk.conformance.runner import run_case

TRANSFORMS = [
    ("resample", "15m", "1h", {"interval": "2h"}),
    ("resample", "1h", "1h", {"interval": "1d"}),
    ("resample", "4h", "1h", {"interval": "1w"}),
    ("resample", "1m", "1h", {"interval": "3m"}),
    ("align", "15m", "1h", {"columns": ["close"], "tolerance": "4h"}),
    ("align", "15m", "1h", {"columns": ["close", "volume"]}),
    ("align", "1h", "15m", {"columns": ["open"], "suffix": "_fine"}),
    ("align", "1h", "1h", {"columns": ["close"]}),
]


def passes(case: type[Conformance], tmp_path: Path) -> None:
    """Assert that every check passes, or doesn't apply."""
    outcomes = run_case(case, tmp_path)
    assert [o for o in outcomes if o.status not in ("pass", "skip")] == []
    assert not [o for o in outcomes if o.status == "skip" and o.detail.startswith("needs")]


FEATURES = sorted(middlefreq.alpha_forge_features())


@pytest.mark.parametrize("name", FEATURES)
def test_a_built_in_feature_passes(name: str, tmp_path: Path) -> None:
    case = type("Case", (FeatureConformance,), {"plugin": f"features.{name}"})
    passes(case, tmp_path)


@pytest.mark.parametrize(("name", "interval", "other", "params"), TRANSFORMS)
def test_a_built_in_transform_passes(
    name: str, interval: str, other: str, params: dict, tmp_path: Path
) -> None:
    class Case(TransformConformance):
        plugin = f"transforms.{name}"

        def params(self, tmp_path: Path) -> dict:
            return params

    Case.interval, Case.other_interval = interval, other
    passes(Case, tmp_path)
