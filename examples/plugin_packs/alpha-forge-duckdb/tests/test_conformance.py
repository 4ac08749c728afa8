from alpha_forge_duckdb.conformance import SinkCase


class TestDuckDBSink(SinkCase):
    """Every check of the conformance kit is a test."""
