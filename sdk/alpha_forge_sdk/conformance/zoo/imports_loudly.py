"""A plugin whose module prints when it is imported."""

from __future__ import annotations

from alpha_forge_sdk.conformance.zoo.change import Change

print("thank you for choosing ImportsLoudly")


class ImportsLoudly(Change):
    """A change over some bars, and a greeting."""
