"""More features: drawdown, Donchian channel, fading volatility, excess return.

Strings only: listing plugins imports this module, and should stay cheap.
"""

from __future__ import annotations

from alpha_forge_sdk import hookimpl


@hookimpl
def alpha_forge_features() -> dict[str, str]:
    return {
        "donchian": f"{__name__}.channels:Donchian",
        "drawdown": f"{__name__}.channels:drawdown",
        "excess_return": f"{__name__}.panel:ExcessReturn",
        "fading_volatility": f"{__name__}.fading:FadingVolatility",
    }


@hookimpl
def alpha_forge_conformance() -> dict[str, str]:
    return {
        "features.donchian": f"{__name__}.conformance:DonchianCase",
        "features.drawdown": f"{__name__}.conformance:DrawdownCase",
        "features.excess_return": f"{__name__}.conformance:ExcessReturnCase",
        "features.fading_volatility": f"{__name__}.conformance:FadingVolatilityCase",
    }
