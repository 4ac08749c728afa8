"""A plugin whose module brings in a library that nothing needs before the first value."""

from __future__ import annotations

import pyarrow  # noqa: F401 - the defect itself

from alpha_forge_sdk.conformance.zoo.change import Change


class ImportsHeavily(Change):
    """A change over some bars, and pyarrow for nothing."""
