"""AF-T: what a transform promises, resampler and as-of join alike."""

from __future__ import annotations

from alpha_forge_sdk.conformance import transform_buckets, transform_calls, transform_reach
from alpha_forge_sdk.conformance.check import Check

CHECKS: tuple[Check, ...] = tuple(
    sorted((*transform_calls.CHECKS, *transform_reach.CHECKS, *transform_buckets.CHECKS), key=lambda c: c.id)
)
