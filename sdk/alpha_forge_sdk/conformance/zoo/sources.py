"""Data sources that each break one promise, and a correct one."""

from __future__ import annotations

from alpha_forge_sdk.conformance.case import Conformance
from alpha_forge_sdk.conformance.zoo import (
    Specimen,
    source_defects,
    source_history_defects,
    source_stream_defects,
)
from alpha_forge_sdk.conformance.zoo.source_tape import TapeSource, case_of

BROKEN: tuple[Specimen, ...] = (
    *source_defects.BROKEN,
    *source_stream_defects.BROKEN,
    *source_history_defects.BROKEN,
)
CORRECT: tuple[type[Conformance], ...] = (case_of(TapeSource),)
