"""The sink `sinks.redis_streams`: its parameters, what it promises, and how it keeps that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from alpha_forge_sdk import Params as BaseParams
from alpha_forge_sdk import PluginError, Prediction, Rejected, RetryLater, Sink
from pydantic import Field, SecretStr

from alpha_forge_redis_streams.destination import Stream, entry


class RedisStreamsSink(Sink):
    """Adds predictions to a Redis stream, each bar close and symbol once.

    Entries have the fields ts (ISO 8601, UTC), symbol, value (the shortest text of the float64; nan, inf) and metadata
    (a JSON object). Readers follow a stream, so that nothing in it is ever changed: a second record with the same ts
    and symbol is left out. The keys that were added stand in a hash beside the stream, ``{STREAM}:keys``.
    """

    class Params(BaseParams):
        """Which server, and which stream."""

        stream: str = Field("predictions", pattern=r"^[^{}\s]+$", description="key of the stream")
        host: str = Field("localhost", min_length=1, description="the server's name or address")
        port: int = Field(6379, ge=1, le=65535, description="the server's port")
        db: int = Field(0, ge=0, le=1_000_000, description="number of the database")
        username: str | None = Field(None, min_length=1, description="user; default: the server's default user")
        password: SecretStr | None = Field(None, description="password, as ${env:NAME}")
        tls: bool = Field(False, description="encrypt the connection")
        timeout: float = Field(5.0, gt=0, le=10, description="seconds to connect, to send, and to wait for the answer")

    examples = (
        {"stream": "predictions", "host": "localhost"},
        {"stream": "signals", "host": "redis.internal", "port": 6380, "tls": True, "db": 2},
    )

    # What is declared here, the conformance kit proves.
    delivery = "effectively_once"
    idempotent_by: ClassVar[tuple[str, ...]] = ("ts", "symbol")
    on_conflict = "keep"

    def __init__(self, params: Params) -> None:
        """Only remembers the parameters: I/O begins with `open`."""
        super().__init__(params)
        self._stream: Stream | None = None

    def open(self) -> None:
        """Make the client. It connects with the first records: a server that is down stops no start."""
        if self._stream is None:
            p = self.params
            self._stream = Stream(
                p.stream,
                p.timeout,
                host=p.host,
                port=p.port,
                db=p.db,
                username=p.username,
                password=p.password.get_secret_value() if p.password else None,
                ssl=p.tls,
            )

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        """Add the records in one step. Any exception but Rejected means: hand them over again.

        Raises RetryLater while the server can't be reached, is silent or still loading; Rejected for records that an
        entry can't hold, after all others are added.
        """
        import redis

        if self._stream is None:
            raise PluginError("AF6011", "sinks.redis_streams got records outside open and close", "call open() first")
        entries, reasons = [], {}
        for index, p in enumerate(predictions):
            try:
                entries.append(entry(p.symbol, p.ts, p.value, p.metadata))
            except (TypeError, ValueError) as error:
                reasons[index] = f"{type(error).__name__}: {error}"
        try:
            self._stream.add(entries)
        except redis.AuthenticationError:
            raise  # a fault too, but none that passes
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise RetryLater(f"{self.params.host}:{self.params.port}: {error}") from error
        if reasons:
            raise Rejected(reasons)

    def close(self) -> None:
        """Close the connection. Idempotent."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
