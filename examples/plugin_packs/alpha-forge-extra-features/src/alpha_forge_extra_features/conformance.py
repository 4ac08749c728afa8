"""A case for each feature; the kit needs no more than their names."""

from __future__ import annotations

from alpha_forge_sdk.conformance import FeatureConformance


class DonchianCase(FeatureConformance):
    """Proves `features.donchian`."""

    plugin = "features.donchian"


class DrawdownCase(FeatureConformance):
    """Proves `features.drawdown`."""

    plugin = "features.drawdown"


class ExcessReturnCase(FeatureConformance):
    """Proves `features.excess_return`."""

    plugin = "features.excess_return"


class FadingVolatilityCase(FeatureConformance):
    """Proves `features.fading_volatility`."""

    plugin = "features.fading_volatility"
