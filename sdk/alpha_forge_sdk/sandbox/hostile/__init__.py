"""The hostile exchange: a seeded script of faults, and what plays it.

`script` reads rules, `kinds` is their vocabulary, `dice` decides whom they strike; `stream`, `http`, `archive` and
`market` do what they say.
"""

from __future__ import annotations

from alpha_forge_sdk.sandbox.hostile.kinds import EFFECTS, KINDS, Kind
from alpha_forge_sdk.sandbox.hostile.player import HostileFaults
from alpha_forge_sdk.sandbox.hostile.script import FaultScript, FaultScriptError, Rule

__all__ = ["EFFECTS", "KINDS", "FaultScript", "FaultScriptError", "HostileFaults", "Kind", "Rule"]
