"""The connection of ``sinks.clickhouse``: made without sessions and shared pools, its errors in our own words."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from alpha_forge_plugins.clickhouse_server import MISSING, PASSING, REFUSED_USER, brief
from alpha_forge_sdk import AlphaForgeError, MissingExtraError, RetryLater

if TYPE_CHECKING:
    from alpha_forge_plugins.sinks.clickhouse import ClickHouseSink


def connect(params: ClickHouseSink.Params) -> Any:
    """A client of ``clickhouse_connect`` with a pool of its own, connected. Raises as `told` does."""
    try:
        import clickhouse_connect
        from urllib3 import Timeout
    except ImportError:
        raise MissingExtraError("sinks.clickhouse", "clickhouse") from None

    with told(params):
        client = clickhouse_connect.get_client(
            host=params.host,
            port=params.port_or_default(),
            username=params.user,
            password=params.secret(),
            database=params.database,
            secure=params.secure,
            verify=params.verify,
            ca_cert=params.ca_cert,
            compress=False if params.compression == "none" else params.compression,
            connect_timeout=params.timeout,
            send_receive_timeout=params.timeout,
            # Trying again is the runtime's business: it knows how long, and tells of it.
            query_retries=0,
            # The server locks a session while a query of it runs, also one whose client has gone.
            autogenerate_session_id=False,
            dedicated_pool=True,
            client_name="alpha_forge",
        )
    client.http_retries = 0
    client.timeout = Timeout(connect=params.timeout, read=params.timeout)
    return client


@contextmanager
def told(params: ClickHouseSink.Params) -> Iterator[None]:
    """Turns what the client raises in the block into `AlphaForgeError` or `RetryLater`, with the server's name."""
    from clickhouse_connect.driver.exceptions import ClickHouseError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (ClickHouseError, HTTPError, OSError) as error:
        raise in_our_words(error, params) from error


def in_our_words(error: Exception, params: ClickHouseSink.Params) -> Exception:
    """What `error` means to a run: `RetryLater` for what passes, else an `AlphaForgeError` that says how to mend it."""
    where = params.place()
    text = brief(str(error).rpartition("server response: ")[2] or type(error).__name__)
    code = getattr(error, "code", None)
    if code is None and (cause := _transport_fault(error)) is not None:
        if isinstance(cause, ssl.SSLError):
            return AlphaForgeError(
                "AF6054",
                f"no TLS with {where}: {cause.reason or cause}",
                "set ca_cert to the file of the authority's certificate, or `secure` as the server's port wants it",
            )
        return RetryLater(f"{where} can't be reached or is silent: {type(cause).__name__}")
    if code in PASSING:
        return RetryLater(f"{where} can't take it now: {text}")
    if code in REFUSED_USER:
        return AlphaForgeError(
            "AF6050",
            f"{where} refuses user '{params.user}': {text}",
            'correct user and password (password: "${env:NAME}"), or let the server\'s administrator grant SELECT '
            f"and INSERT on {params.database}.{params.table_name}",
        )
    if code in MISSING:
        return missing(params)
    return AlphaForgeError(
        "AF6053",
        f"{where} refused a request: {text}",
        "look the code up in ClickHouse's documentation; a port that is not its HTTP interface answers like this, too",
    )


def missing(params: ClickHouseSink.Params) -> AlphaForgeError:
    """The error of a table that is not there."""
    return AlphaForgeError(
        "AF6051",
        f"{params.place()} has no table {params.database}.{params.table_name}",
        "make the database (CREATE DATABASE), and let the sink make the table with create_table: true",
    )


def _transport_fault(error: BaseException) -> BaseException | None:
    """What went wrong on the way, if it did not come from the server: the innermost cause that tells."""
    from urllib3.exceptions import HTTPError

    found: BaseException | None = None
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (HTTPError, OSError)):
            found = seen
        reason = getattr(seen, "reason", None)
        seen = reason if isinstance(reason, BaseException) else (seen.__cause__ or seen.__context__)
    return found
