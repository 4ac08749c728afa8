"""A stream in Redis that holds each key once. Nothing in here knows Alpha Forge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

Entry = tuple[str, str, str, str]

_ADD = """
local added = 0
for i = 1, #ARGV, 4 do
  local key = cjson.encode({ARGV[i], ARGV[i + 1]})
  if redis.call('HEXISTS', KEYS[2], key) == 0 then
    local id = redis.call('XADD', KEYS[1], '*',
      'ts', ARGV[i], 'symbol', ARGV[i + 1], 'value', ARGV[i + 2], 'metadata', ARGV[i + 3])
    redis.call('HSET', KEYS[2], key, id)
    added = added + 1
  end
end
return added
"""
"""Looks keys up and adds what is new. Redis runs a script as a whole: no other client comes in between, and of a client
that is killed it has got all or nothing."""


def entry(symbol: str, ts: datetime, value: float, metadata: Mapping[str, Any]) -> Entry:
    """One record as fields of a stream's entry. Raises TypeError or ValueError for what it can't hold."""
    symbol.encode()
    moment = ts.astimezone(UTC).isoformat(timespec="microseconds")
    # The shortest text that reads back to the same float64; nan, inf and -inf as Python writes them.
    return moment, symbol, repr(float(value)), json.dumps(dict(metadata))


class Stream:
    """An open client of one stream. `add` is the only thing it does; it connects when it is first used."""

    def __init__(self, name: str, timeout: float, **connection: Any) -> None:
        """`timeout` (seconds) is for each step: to connect, send, answer. The rest is what `redis.Redis` takes."""
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._client = redis.Redis(
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            # Trying again is the runtime's business: it knows how long, and tells of it.
            retry=Retry(NoBackoff(), 0),
            **connection,
        )
        self._script = self._client.register_script(_ADD)
        # The braces put both keys into one slot of a Redis cluster.
        self._keys = (name, f"{{{name}}}:keys")

    def add(self, entries: Sequence[Entry]) -> None:
        """Add the entries whose ts and symbol the stream never had, in order, all of them or none.

        Returns when Redis has executed it. Raises redis.RedisError; whether they were added is unknown then, and adding
        them again does no harm.
        """
        if entries:
            self._script(keys=self._keys, args=[field for one in entries for field in one])

    def close(self) -> None:
        self._client.close()
