"""AF-F: what a feature promises. `Feature` and `RecursiveFeature`, symbol and panel scope, by class or by function."""

from __future__ import annotations

from alpha_forge_sdk.conformance import (
    feature_calls,
    feature_declarations,
    feature_reach,
    feature_states,
    feature_values,
)
from alpha_forge_sdk.conformance.check import Check

CHECKS: tuple[Check, ...] = tuple(
    sorted(
        (
            *feature_declarations.CHECKS,
            *feature_calls.CHECKS,
            *feature_reach.CHECKS,
            *feature_states.CHECKS,
            *feature_values.CHECKS,
        ),
        key=lambda c: c.id,
    )
)
