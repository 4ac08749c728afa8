"""``sinks.webhook``: predictions as JSON, POSTed to a URL."""

from __future__ import annotations

import re
import ssl
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from alpha_forge_plugins.sinks.webhook_messages import (
    Answer,
    Texts,
    idempotency_key,
    is_taken,
    message,
)
from alpha_forge_sdk import AlphaForgeError, PluginError, Prediction, Rejected, RetryLater, Sink
from alpha_forge_sdk import Params as BaseParams

if TYPE_CHECKING:
    from alpha_forge_plugins.sinks.webhook_client import Client

_CALL = 28.0
"""Seconds after which no call goes on: less than ``timeout``, so that it ends by itself."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")
_OWN = frozenset(
    {"content-type", "content-length", "transfer-encoding", "host", "connection", "idempotency-key"}
)


def _address(url: SecretStr) -> SecretStr:
    # Nothing of it in a message: the address of many a webhook is its password.
    try:
        parts = urlsplit(url.get_secret_value())
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or not re.fullmatch(r"[\x21-\x7e]+", url.get_secret_value()):
        raise ValueError("url is no http(s)://HOST:PORT/PATH")
    if "@" in parts.netloc:
        raise ValueError("user and password belong into headers: {Authorization: …}")
    return url


def _sound_headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a header")
        if name.lower() in _OWN:
            raise ValueError(f"the sink sets the header {name} itself")
        if not _VALUE.fullmatch(value.get_secret_value()):
            raise ValueError(f"the value of the header {name} is empty, or holds what no header can")
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("a header stands twice")
    return headers


class WebhookSink(Sink):
    """POSTs predictions as JSON to a URL, in order; 2xx means that the receiver has them.

    A record is ``{"symbol", "ts", "prediction", "metadata"}``: ``ts`` in UTC (ISO 8601, ``Z``), ``prediction`` a number
    with all digits of the float64. A request holds an array of up to ``max_records`` records, or with
    ``body: object`` one record. Its header ``Idempotency-Key`` is the SHA-256 of its body.

    A record may come again: after a fault, or from a second runner, also in an array with others. A receiver stores it
    once by its symbol and ts, or, with ``body: object``, by the Idempotency-Key; one that does neither is told of by
    ``deduplicates: false``.

    408, 409, 425, 429 and 5xx are tried again (``Retry-After`` is honoured), going on with the first record that was
    not taken. 400, 413 and 422 to an array mean that it is sent again in halves; a single record that gets one is
    rejected, as are NaN and infinities, which JSON lacks. Redirects are not followed. Errors show scheme, host and
    port of the URL alone, and no header's value.

    Raises AlphaForgeError: AF6070 any other 4xx, AF6071 redirects, AF6072 no secure connection; PluginError AF6011
    outside open and close.
    """

    class Params(BaseParams):
        """Where to, as whom, and in which form."""

        url: Annotated[SecretStr, AfterValidator(_address)] = Field(
            description="http(s)://HOST:PORT/PATH; kept secret as a whole, for it often holds a token: ${env:NAME}"
        )
        headers: Annotated[dict[str, SecretStr], AfterValidator(_sound_headers)] = Field(
            {},
            description="headers of every request, such as Authorization: Bearer ${env:NAME}",
            json_schema_extra={"writeOnly": True},  # messages hide them, as they hide a single secret
        )
        body: Literal["array", "object"] = Field(
            "array", description="array: several records in a request; object: one record each"
        )
        max_records: int = Field(
            100, ge=1, le=1000, description="records in a request at most, for body: array"
        )
        deduplicates: bool = Field(
            True, description="whether the receiver stores a record once that comes twice; only declared"
        )
        request_timeout: float = Field(
            5.0,
            gt=0,
            le=20,
            description="seconds for a whole request: connecting, sending, the answer to its end",
        )
        ca_file: str | None = Field(
            None, min_length=1, description="PEM file of the authorities to trust; default: the system's"
        )
        verify_tls: bool = Field(True, description="whether the receiver's certificate is verified")

    examples = (
        {"url": "https://example.com/predictions", "headers": {"Authorization": "Bearer token"}},
        {"url": "http://localhost:8080/signals", "body": "object", "deduplicates": False},
    )

    delivery = "at_least_once"
    idempotent_by: ClassVar[tuple[str, ...]] = ("ts", "symbol")
    on_conflict = "replace"
    non_finite = "reject"

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        if not params.deduplicates:
            # The declaration of the class is that of a receiver that does.
            self.idempotent_by = ()  # type: ignore[misc]
        parts = urlsplit(params.url.get_secret_value())
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._limit = params.max_records if params.body == "array" else 1
        self._client: Client | None = None
        self._texts = Texts()
        self._settled: dict[int, tuple[bytes, str]] = {}

    def open(self) -> None:
        """Read the certificates. It connects with the first records. Raises AlphaForgeError AF6072."""
        if self._client is None:
            from alpha_forge_plugins.sinks.webhook_client import Client

            self._client = Client(self.params.request_timeout, self._trusted())

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        """Hand the records to the receiver, in order; see the class.

        Raises Rejected for records that JSON can't hold or that the receiver refuses one by one, RetryLater for faults.
        """
        client = self._client
        if client is None:
            raise PluginError(
                "AF6011", "sinks.webhook got records outside open and close", "call open() first"
            )
        records: dict[int, bytes] = {}
        reasons: dict[int, str] = {}
        for index, prediction in enumerate(predictions):
            try:
                records[index] = self._texts.of(prediction)
            except (TypeError, ValueError, RecursionError) as error:
                reasons[index] = f"{type(error).__name__}: {error}"
        # What the last try of this batch has settled (taken, or refused for a reason) is not sent again.
        self._settled = {i: kept for i, kept in self._settled.items() if records.get(i) == kept[0]}
        self._send(client, records)
        reasons |= {index: reason for index, (_, reason) in self._settled.items() if reason}
        self._settled = {}
        if reasons:
            raise Rejected(reasons)

    def close(self) -> None:
        """Close the connection. Idempotent."""
        client, self._client = self._client, None
        self._settled = {}
        if client is not None:
            client.close()

    def _send(self, client: Client, records: dict[int, bytes]) -> None:
        """Settle every record that isn't settled yet, in order."""
        left = [index for index in records if index not in self._settled]
        parts = deque(left[start : start + self._limit] for start in range(0, len(left), self._limit))
        deadline = time.monotonic() + _CALL - self.params.request_timeout
        hidden = self._hidden()
        while parts:
            part = parts.popleft()
            if len(part) > self._limit:
                parts.extendleft((part[self._limit :], part[: self._limit]))
                continue
            if time.monotonic() > deadline:
                raise RetryLater(
                    f"{self._origin} is slow: {len(part) + sum(map(len, parts))} record(s) are left"
                )
            answer = self._post(client, [records[index] for index in part])
            if is_taken(answer, self._origin, hidden):
                self._settled |= {index: (records[index], "") for index in part}
            elif len(part) > 1:
                half = len(part) // 2
                parts.extendleft((part[half:], part[:half]))
                if answer.status == 413:  # too large: so will be the next ones of this size
                    self._limit = half
            else:
                self._settled[part[0]] = (records[part[0]], f"{self._origin} answered {answer.told(hidden)}")

    def _post(self, client: Client, records: Sequence[bytes]) -> Answer:
        """One request. Raises RetryLater if there is no whole answer in time, AlphaForgeError AF6072."""
        from alpha_forge_plugins.sinks.webhook_client import RequestFailed, Untrusted

        p = self.params
        body = message(records, single=p.body == "object")
        headers = {"User-Agent": "alpha-forge", "Accept": "*/*"}
        headers |= {name.title(): value.get_secret_value() for name, value in p.headers.items()}
        headers |= {"Content-Type": "application/json", "Idempotency-Key": idempotency_key(body)}
        headers |= {"Content-Length": str(len(body)), "Host": urlsplit(self._origin).netloc}
        try:
            return client.post(p.url.get_secret_value(), headers, body)
        except Untrusted as error:
            raise self._insecure(str(error)) from error
        except RequestFailed as error:
            raise RetryLater(f"{self._origin}: {error}") from error

    def _trusted(self) -> ssl.SSLContext | None:
        if self._origin.startswith("http:"):
            return None  # nothing to verify, and reading the system's certificates takes its time
        try:
            context = ssl.create_default_context(cafile=self.params.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise self._insecure(f"ca_file can't be used: {error.strerror or error}") from error
        if not self.params.verify_tls:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _insecure(self, what: str) -> AlphaForgeError:
        return AlphaForgeError(
            "AF6072",
            f"no secure connection to {self._origin}: {what}",
            "name the authority's certificate by ca_file, or correct url",
        )

    def _hidden(self) -> list[str]:
        """What no message may show, whatever a receiver echoes."""
        parts = urlsplit(self.params.url.get_secret_value())
        secrets = [value.get_secret_value() for value in self.params.headers.values()]
        # `Bearer TOKEN`: the token alone is as secret; and so may a long part of the path be.
        secrets += [word for secret in secrets for word in secret.split() if len(word) >= 8]
        segments = [segment for segment in parts.path.split("/") if len(segment) >= 16]
        return [text for text in (*secrets, parts.query, parts.path, *segments) if len(text) > 1]
