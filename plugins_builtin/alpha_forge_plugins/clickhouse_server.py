"""What the plugins that talk to ClickHouse share: how a server is named in a configuration, and what its codes mean."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, SecretStr

from alpha_forge_sdk import Params

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
"""A database, table or column: what needs no escaping anywhere."""

PLAIN_PORT, TLS_PORT = 8123, 8443
"""ClickHouse's own ports for HTTP."""

REFUSED_USER = frozenset({164, 192, 193, 194, 195, 497, 516})
"""Read-only; unknown user; wrong, missing or unexpected password; not allowed to; authentication failed."""

MISSING = frozenset({60, 81})
"""Unknown table, unknown database."""

PASSING = frozenset(
    {
        159,  # TIMEOUT_EXCEEDED
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        209,  # SOCKET_TIMEOUT
        210,  # NETWORK_ERROR
        225,  # NO_ZOOKEEPER
        236,  # ABORTED: it is shutting down
        241,  # MEMORY_LIMIT_EXCEEDED
        242,  # TABLE_IS_READ_ONLY: a replica that has lost its keeper
        243,  # NOT_ENOUGH_SPACE
        252,  # TOO_MANY_PARTS: merges lag behind inserts
        285,  # TOO_FEW_LIVE_REPLICAS
        319,  # UNKNOWN_STATUS_OF_INSERT
        394,  # QUERY_WAS_CANCELLED
        425,  # SYSTEM_ERROR
        439,  # CANNOT_SCHEDULE_TASK
        999,  # KEEPER_EXCEPTION
    }
)
"""Answers of a server that is in trouble, not of one that says no."""

_AROUND = re.compile(r"^Code: \d+\. DB::Exception: | \(version [^)]*\)| \(for url [^)]*\)$")


class ServerParams(Params):
    """Which server, and who asks."""

    host: str = Field("localhost", min_length=1, description="the server's name or address")
    port: int | None = Field(
        None, ge=1, le=65535, description="port of its HTTP interface; default: 8123, with `secure` 8443"
    )
    database: Name = Field("default", description="the database")
    user: str = Field("default", min_length=1, description="the user's name")
    password: SecretStr | None = Field(None, description="the user's password, as ${env:NAME}")
    secure: bool = Field(False, description="use TLS")
    verify: bool = Field(True, description="with TLS, accept only a certificate that is trusted")
    ca_cert: str | None = Field(
        None, min_length=1, description="file of the certificates to trust; default: the usual ones"
    )

    def port_or_default(self) -> int:
        """The port, ClickHouse's own if none is given."""
        return self.port or (TLS_PORT if self.secure else PLAIN_PORT)

    def secret(self) -> str:
        """The password in clear, for the server alone; empty if there is none."""
        return self.password.get_secret_value() if self.password else ""

    def place(self) -> str:
        """The server, for messages."""
        return f"ClickHouse at {self.host}:{self.port_or_default()}"


def brief(text: str) -> str:
    """The server's own words in one line, without version and address."""
    return _AROUND.sub("", " ".join(text.split()))[:300]
