"""Real servers beside a test: on free loopback ports, gone with the process that started them, also if it is killed.

A variable of the environment names a server of your own to be used instead: ``AF_CLICKHOUSE_URL``, ``AF_DYNAMODB_URL``.
"""

from __future__ import annotations

from alpha_forge_sdk.conformance.check import NotApplicable


class EngineMissing(NotApplicable):
    """No such server can be started here, and none is named. The text gives the cure; checks of the kit are skipped."""
