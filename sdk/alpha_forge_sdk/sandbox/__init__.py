"""A local exchange that speaks WebSocket, REST and bulk archive of Binance, USD-M or spot.

It shares no module with the client that reads it: one misreading of the protocol must not hide in both.
"""

from __future__ import annotations

from alpha_forge_sdk.sandbox.app import DEFAULT_START_MS, SandboxConfig, SandboxExchange, serve
from alpha_forge_sdk.sandbox.clock import ExchangeClock, ManualTime, RealTime, TimeSource
from alpha_forge_sdk.sandbox.faults import Faults, Frame, Hangup, Later, Mute, Stage
from alpha_forge_sdk.sandbox.feed import Push
from alpha_forge_sdk.sandbox.hostile import FaultScript, FaultScriptError, HostileFaults
from alpha_forge_sdk.sandbox.recordings import SandboxDataError

__all__ = [
    "DEFAULT_START_MS",
    "ExchangeClock",
    "FaultScript",
    "FaultScriptError",
    "Faults",
    "Frame",
    "Hangup",
    "HostileFaults",
    "Later",
    "ManualTime",
    "Mute",
    "Push",
    "RealTime",
    "SandboxConfig",
    "SandboxDataError",
    "SandboxExchange",
    "Stage",
    "TimeSource",
    "serve",
]
