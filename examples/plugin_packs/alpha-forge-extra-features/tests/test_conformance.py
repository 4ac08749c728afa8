from alpha_forge_extra_features.conformance import DonchianCase, DrawdownCase, ExcessReturnCase, FadingVolatilityCase


class TestDonchian(DonchianCase):
    """Every check of the conformance kit is a test."""


class TestDrawdown(DrawdownCase):
    """Every check of the conformance kit is a test."""


class TestExcessReturn(ExcessReturnCase):
    """Every check of the conformance kit is a test."""


class TestFadingVolatility(FadingVolatilityCase):
    """Every check of the conformance kit is a test."""
