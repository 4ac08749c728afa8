"""The conformance kit: proves that a plugin keeps what it declares.

Subclass the case of your plugin's kind in a test file, or register it by the hook ``alpha_forge_conformance``; both run
the same checks.
"""

from alpha_forge_sdk.conformance.case import (
    Conformance,
    DataSourceConformance,
    FeatureConformance,
    ModelConformance,
    SinkConformance,
    TransformConformance,
)
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, Outcome, Verdict, check
from alpha_forge_sdk.conformance.faults import FAULTS, Injection

__all__ = [
    "FAULTS",
    "Broken",
    "Check",
    "Conformance",
    "DataSourceConformance",
    "FeatureConformance",
    "Injection",
    "ModelConformance",
    "NotApplicable",
    "Outcome",
    "SinkConformance",
    "TransformConformance",
    "Verdict",
    "check",
]
