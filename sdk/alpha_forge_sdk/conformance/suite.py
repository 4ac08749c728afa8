"""The suite: every check by kind. One list feeds pytest, the command line and the reports."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from alpha_forge_sdk.conformance.check import Check

KIT_VERSION = "1.0"

MODULES = (
    "params_checks",
    "feature_checks",
    "transform_checks",
    "model_checks",
    "source_checks",
    "sink_checks",
)
"""Modules of this package that have a ``CHECKS`` tuple, in the order of the report."""


@cache
def all_checks() -> tuple[Check, ...]:
    """Every check there is."""
    return tuple(c for name in MODULES for c in import_module(f"{__package__}.{name}").CHECKS)


def checks_of(kind: str) -> tuple[Check, ...]:
    """The checks of one kind, in order."""
    return tuple(c for c in all_checks() if kind in c.kinds)
