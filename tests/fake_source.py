"""The scripted source and the virtual clock of the SDK's test harness, under the name that these tests know."""

from __future__ import annotations

from alpha_forge_sdk.testing.clock import VirtualClock
from alpha_forge_sdk.testing.source import ScriptedSource

__all__ = ["ScriptedSource", "VirtualClock"]
