"""The kit's own proof: one broken plugin for every check, named by its defect, and correct ones that nothing may fail.

Each module has ``BROKEN``, a tuple of `Specimen`, and ``CORRECT``, a tuple of case classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from alpha_forge_sdk.conformance.case import Conformance

MODULES = ("params", "features", "transforms", "models", "sources", "sinks")


@dataclass(frozen=True, slots=True)
class Specimen:
    """A broken plugin's case, the check that must fail on it, and what its message must say.

    Every other check passes, or is skipped for a reason (``needs AF-…`` or not applicable).
    """

    case: type[Conformance]
    check: str
    says: str
    """Must stand in the failure's detail."""
