"""What the conformance kit has to know of the feature: nothing but its name."""

from __future__ import annotations

from alpha_forge_sdk.conformance import FeatureConformance


class {{ cookiecutter._case }}(FeatureConformance):
    """Proves that the feature keeps what it declares."""

    plugin = "features.{{ cookiecutter.name }}"
