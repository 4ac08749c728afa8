"""Specimens of this kind."""

from alpha_forge_sdk.conformance.case import Conformance
from alpha_forge_sdk.conformance.zoo import Specimen

BROKEN: tuple[Specimen, ...] = ()
CORRECT: tuple[type[Conformance], ...] = ()
