"""What the conformance kit has to know of the transform: its name, and an interval that it takes."""

from __future__ import annotations

from alpha_forge_sdk.conformance import TransformConformance


class {{ cookiecutter._case }}(TransformConformance):
    """Proves that the transform keeps what it declares."""

    plugin = "transforms.{{ cookiecutter.name }}"
    interval = "15m"
