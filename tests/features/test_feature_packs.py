"""The two built-in packs as a stranger finds them: strings, light imports, described parameters."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys

import pytest

from alpha_forge_plugins import middlefreq, shared
from alpha_forge_sdk import Feature, RecursiveFeature, Transform

FEATURES = middlefreq.alpha_forge_features()
TRANSFORMS = shared.alpha_forge_transforms()
OURS = {**FEATURES, **TRANSFORMS}
EACH = pytest.mark.parametrize("name", OURS)


def find(name: str) -> type:
    module, attribute = OURS[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def imported_by(modules: list[str], heavy: tuple[str, ...]) -> str:
    code = (
        f"import sys, importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


def test_packs_import_nothing_heavy() -> None:
    heavy = ("numpy", "pydantic", "numba", "pandas", "torch", "alpha_forge_plugins.features")
    assert imported_by(["alpha_forge_plugins.shared", "alpha_forge_plugins.middlefreq"], heavy) == "[]"


def test_plugin_modules_import_no_heavy_library() -> None:
    modules = sorted({target.split(":")[0] for target in OURS.values()})
    assert imported_by(modules, ("numba", "pandas", "torch", "scipy", "pyarrow")) == "[]"


@EACH
def test_every_plugin_is_of_its_kind(name: str) -> None:
    kinds = (Feature, RecursiveFeature) if name in FEATURES else (Transform,)
    assert issubclass(find(name), kinds)


@EACH
def test_every_parameter_is_described_and_every_example_validates(name: str) -> None:
    plugin = find(name)
    for key, field in plugin.Params.model_fields.items():
        assert field.description, f"{name}.{key}"
    for example in plugin.examples:
        plugin(plugin.Params(**example))
    plugin(plugin.Params())


@EACH
def test_the_summary_fits_a_list(name: str) -> None:
    summary = (find(name).__doc__ or "").splitlines()[0]
    assert 20 < len(summary) <= 106
    assert summary.endswith(".")


@EACH
def test_an_unopened_plugin_survives_pickling(name: str) -> None:
    plugin = find(name)
    again = pickle.loads(pickle.dumps(plugin(plugin.Params(**plugin.examples[0]))))  # noqa: S301
    assert type(again) is plugin
    assert again.params == plugin.Params(**plugin.examples[0])


def test_inputs_and_outputs_are_the_documented_ones() -> None:
    ports = {name: (find(name).input_names(), find(name).outputs) for name in FEATURES}
    assert ports["atr"] == (("high", "low", "close"), ("value",))
    assert ports["support_resistance"] == (("high", "low", "close"), ("resistance", "support"))
    assert ports["macd"] == (("close",), ("macd", "signal", "histogram"))
    assert ports["bollinger"] == (("close",), ("upper", "middle", "lower"))
    assert ports["volume_ratio"] == (("volume",), ("value",))
    single = set(FEATURES) - {"atr", "support_resistance", "macd", "bollinger", "volume_ratio"}
    assert all(ports[name] == (("close",), ("value",)) for name in single)
    assert find("cross_rank").scope == "panel"


def test_macd_periods_must_be_in_order() -> None:
    macd = find("macd")
    with pytest.raises(ValueError, match=r"fast \(26\) must be below slow \(12\)"):
        macd.Params(fast=26, slow=12)
