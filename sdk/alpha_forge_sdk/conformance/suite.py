"""The suite: every check by kind. One list feeds pytest, the command line and the reports."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from alpha_forge_sdk.conformance.case import CASES
from alpha_forge_sdk.conformance.check import Check

KIT_VERSION = "1.0"
EVERY_KIND = tuple(CASES)

MODULES: dict[str, tuple[str, ...]] = {
    "params_checks": EVERY_KIND,
    "instance_checks": EVERY_KIND,
    "import_checks": EVERY_KIND,
    "feature_checks": ("features",),
    "transform_checks": ("transforms",),
    "model_checks": ("models",),
    "source_checks": ("data",),
    "sink_checks": ("sinks",),
}
"""Modules of this package that have a ``CHECKS`` tuple → the kinds that these are for. What is not needed is not
imported."""


@cache
def all_checks() -> tuple[Check, ...]:
    """Every check there is, in the order of the report."""
    return tuple(dict.fromkeys(c for kind in EVERY_KIND for c in checks_of(kind)))


@cache
def checks_of(kind: str) -> tuple[Check, ...]:
    """The checks of one kind, in order of their ids within each module's."""
    modules = [import_module(f"{__package__}.{name}") for name, kinds in MODULES.items() if kind in kinds]
    shared = sorted((c for m in modules for c in m.CHECKS if c.id.startswith("AF-P")), key=lambda c: c.id)
    own = [c for m in modules for c in m.CHECKS if not c.id.startswith("AF-P")]
    return tuple(c for c in (*shared, *own) if kind in c.kinds)
