"""AF-D: what a data source promises, judged by the case's ``truth``, in which the source has no part."""

from __future__ import annotations

from alpha_forge_sdk.conformance import (
    source_history_checks,
    source_history_faults,
    source_life_checks,
    source_stream_checks,
    source_stream_faults,
)
from alpha_forge_sdk.conformance.check import Check

CHECKS: tuple[Check, ...] = (
    *source_history_checks.CHECKS,
    *source_stream_checks.CHECKS,
    *source_life_checks.CHECKS,
    *source_stream_faults.CHECKS,
    *source_history_faults.CHECKS,
)
