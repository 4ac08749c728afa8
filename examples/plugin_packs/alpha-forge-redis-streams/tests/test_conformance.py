from alpha_forge_redis_streams.conformance import SinkCase


class TestRedisStreamsSink(SinkCase):
    """Every check of the conformance kit is a test."""
