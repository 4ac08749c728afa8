"""What plugin authors import: the contracts, compiled kernels, test harness, sandbox exchange, conformance kit.

Lazy (PEP 562): a name is imported when it is first used, so that a pack's ``__init__``, which needs only
``hookimpl``, costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alpha_forge import CONTRACT_VERSION as CONTRACT_VERSION
    from alpha_forge.contracts.clock import Clock as Clock
    from alpha_forge.contracts.clock import ScaledClock as ScaledClock
    from alpha_forge.contracts.clock import SystemClock as SystemClock
    from alpha_forge.contracts.errors import AlphaForgeError as AlphaForgeError
    from alpha_forge.contracts.errors import MissingExtraError as MissingExtraError
    from alpha_forge.contracts.errors import ModelError as ModelError
    from alpha_forge.contracts.errors import PluginError as PluginError
    from alpha_forge.contracts.errors import Rejected as Rejected
    from alpha_forge.contracts.errors import RetryLater as RetryLater
    from alpha_forge.contracts.errors import SourceError as SourceError
    from alpha_forge.contracts.functions import feature as feature
    from alpha_forge.contracts.hookspecs import hookimpl as hookimpl
    from alpha_forge.contracts.interval import Interval as Interval
    from alpha_forge.contracts.params import Params as Params
    from alpha_forge.contracts.plugin import DataSource as DataSource
    from alpha_forge.contracts.plugin import Feature as Feature
    from alpha_forge.contracts.plugin import Model as Model
    from alpha_forge.contracts.plugin import ModelSpec as ModelSpec
    from alpha_forge.contracts.plugin import Plugin as Plugin
    from alpha_forge.contracts.plugin import RecursiveFeature as RecursiveFeature
    from alpha_forge.contracts.plugin import Sink as Sink
    from alpha_forge.contracts.plugin import SourceContext as SourceContext
    from alpha_forge.contracts.plugin import Transform as Transform
    from alpha_forge.contracts.types import BAR_CLOSE as BAR_CLOSE
    from alpha_forge.contracts.types import BAR_COLUMNS as BAR_COLUMNS
    from alpha_forge.contracts.types import Bar as Bar
    from alpha_forge.contracts.types import BarBatch as BarBatch
    from alpha_forge.contracts.types import BarBlock as BarBlock
    from alpha_forge.contracts.types import MarketEvent as MarketEvent
    from alpha_forge.contracts.types import Prediction as Prediction

_FROM = {
    "alpha_forge": ("CONTRACT_VERSION",),
    "alpha_forge.contracts.clock": ("Clock", "ScaledClock", "SystemClock"),
    "alpha_forge.contracts.errors": (
        "AlphaForgeError",
        "MissingExtraError",
        "ModelError",
        "PluginError",
        "Rejected",
        "RetryLater",
        "SourceError",
    ),
    "alpha_forge.contracts.functions": ("feature",),
    "alpha_forge.contracts.hookspecs": ("hookimpl",),
    "alpha_forge.contracts.interval": ("Interval",),
    "alpha_forge.contracts.params": ("Params",),
    "alpha_forge.contracts.plugin": (
        "DataSource",
        "Feature",
        "Model",
        "ModelSpec",
        "Plugin",
        "RecursiveFeature",
        "Sink",
        "SourceContext",
        "Transform",
    ),
    "alpha_forge.contracts.types": (
        "BAR_CLOSE",
        "BAR_COLUMNS",
        "Bar",
        "BarBatch",
        "BarBlock",
        "MarketEvent",
        "Prediction",
    ),
}
_WHERE = {name: module for module, names in _FROM.items() for name in names}
_SUBMODULES = ("conformance", "kernels", "sandbox", "testing")

__all__ = sorted((*_WHERE, *_SUBMODULES))


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(import_module(_WHERE[name]), name)
    elif name in _SUBMODULES:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
