"""A plugin whose module takes its time."""

from __future__ import annotations

import time

from alpha_forge_sdk.conformance.zoo.change import Change

# The defect: any work at import. Long enough to stand out on a machine that is slow itself.
time.sleep(0.8)


class ImportsSlowly(Change):
    """A change over some bars, after a rest."""
