"""``sinks.webhook``: the kit's checks, what goes over the wire, what answers mean, and that no secret is told.

Requests are read from the proxy in front of the receiver, with the standard library alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from alpha_forge.cli import main
from alpha_forge_plugins.conformance.webhook import REFUSED, WebhookConformance, receiver
from alpha_forge_plugins.sinks.webhook import WebhookSink
from alpha_forge_sdk import AlphaForgeError, Prediction, Rejected, RetryLater
from alpha_forge_sdk.conformance.runner import Session
from alpha_forge_sdk.testing.http_fault_proxy import (
    HttpFault,
    HttpFaultProxy,
    error,
    hang,
    http_fault_proxy,
    lost,
    passed,
    reset,
)
from alpha_forge_sdk.testing.predictions import METADATA, START, made_predictions

TOKEN = "t0ken-of-the-tests"
PATH_TOKEN = "B01234567890abcdefXYZ"


class TestWebhookSink(WebhookConformance):
    """One test for each check of the kit."""

    crashes = 16


def test_nothing_is_waived_and_nothing_skipped_but_what_does_not_apply(tmp_path: Path) -> None:
    assert WebhookConformance.waivers == {}
    skipped = {o.id for o in Session.of(TestWebhookSink, tmp_path).all() if o.status == "skip"}
    # One form of emit; no file of its own.
    assert {i for i in skipped if i.startswith("AF-S")} == {"AF-S06", "AF-S20"}


@pytest.fixture
def proxy() -> Iterator[HttpFaultProxy]:
    with http_fault_proxy(receiver().url) as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"/{PATH_TOKEN}/{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}"


@pytest.fixture
def params(proxy: HttpFaultProxy, path: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return {"url": proxy.url + path, "headers": headers, "request_timeout": 2}


def made(params: Mapping[str, Any], **others: Any) -> WebhookSink:
    return WebhookSink(WebhookSink.Params.model_validate({**params, **others}))


@pytest.fixture
def opened() -> Iterator[Callable[..., WebhookSink]]:
    sinks = []

    def open_one(params: Mapping[str, Any], **others: Any) -> WebhookSink:
        sinks.append(made(params, **others))
        sinks[-1].open()
        return sinks[-1]

    yield open_one
    for sink in sinks:
        sink.close()


Opened = Callable[..., WebhookSink]


def stored(path: str) -> list[tuple[str, str, float]]:
    return [(r["symbol"], r["ts"], r["prediction"]) for r in receiver().stored(path)]


def wanted(predictions: list[Prediction]) -> list[tuple[str, str, float]]:
    return [(p.symbol, p.ts.strftime("%Y-%m-%dT%H:%M:%SZ"), p.value) for p in predictions]


def sizes(proxy: HttpFaultProxy) -> list[int]:
    return [len(json.loads(request.body)) for request in proxy.requests]


class TestRequests:
    def test_an_array_of_records_with_type_headers_and_key(
        self, opened: Opened, params: dict[str, Any], proxy: HttpFaultProxy, path: str
    ) -> None:
        ts = datetime(2026, 1, 5, 13, 0, 0, 7, tzinfo=UTC)
        value = 0.1 + 0.2
        opened(params).emit_batch([Prediction("比特币", ts, value, {**METADATA, "n": [1, None]})])
        (request,) = proxy.requests
        assert (request.method, request.path) == ("POST", path)
        assert request.header("content-type") == "application/json"
        assert request.header("authorization") == f"Bearer {TOKEN}"
        assert request.header("idempotency-key") == hashlib.sha256(request.body).hexdigest()
        assert b'"prediction":0.30000000000000004' in request.body
        assert json.loads(request.body) == [
            {
                "symbol": "比特币",
                "ts": "2026-01-05T13:00:00.000007Z",
                "prediction": value,
                "metadata": {**METADATA, "n": [1, None]},
            }
        ]

    def test_values_are_the_same_bits_and_what_json_lacks_is_rejected(
        self, opened: Opened, params: dict[str, Any], proxy: HttpFaultProxy
    ) -> None:
        fine = [-0.0, 5e-324, 1.7976931348623157e308, 1 / 3, 1e22]
        batch = [Prediction(f"S{i}", START, v, METADATA) for i, v in enumerate(fine)]
        bad = [
            Prediction("N", START, float("nan"), METADATA),
            Prediction("I", START, float("-inf"), METADATA),
            Prediction("M", START, 1.0, {**METADATA, "nan": float("nan")}),
            Prediction("O", START, 1.0, {**METADATA, "object": object()}),
            Prediction("\ud83d", START, 1.0, METADATA),
        ]
        with pytest.raises(Rejected) as caught:
            opened(params).emit_batch([*bad, *batch])
        assert set(caught.value.reasons) == {0, 1, 2, 3, 4}
        assert "nan is no number in JSON" in caught.value.reasons[0]
        (request,) = proxy.requests
        arrived = [struct.pack(">d", r["prediction"]) for r in json.loads(request.body)]
        assert arrived == [struct.pack(">d", v) for v in fine]

    def test_a_batch_goes_in_order_in_requests_of_max_records(
        self, opened: Opened, params: dict[str, Any], proxy: HttpFaultProxy, path: str
    ) -> None:
        """500 symbols at one close, as a run hands them over."""
        batch = [Prediction(f"S{n}USDT", START, n / 7, METADATA) for n in range(500)]
        opened(params, max_records=200).emit_batch(batch)
        assert sizes(proxy) == [200, 200, 100]
        assert stored(path) == wanted(batch)

    def test_body_object_sends_each_record_alone_with_a_key_that_comes_again(
        self, opened: Opened, params: dict[str, Any], proxy: HttpFaultProxy, path: str
    ) -> None:
        batch = made_predictions(5)
        opened(params, body="object").emit_batch(batch)
        opened(params, body="object").emit_batch(batch[2:])
        bodies = [json.loads(request.body) for request in proxy.requests]
        assert [body["symbol"] for body in bodies] == [p.symbol for p in [*batch, *batch[2:]]]
        keys = [request.header("idempotency-key") for request in proxy.requests]
        assert len(set(keys)) == 5
        assert keys[5:] == keys[2:5]
        assert stored(path) == wanted(batch)

    def test_one_connection_serves_all_requests(self, params: dict[str, Any]) -> None:
        from alpha_forge_sdk.testing.fault_proxy import fault_proxy

        host, _, port = receiver().url.rpartition("//")[2].partition(":")
        with fault_proxy(host, int(port)) as wire:
            sink = made({**params, "url": f"http://127.0.0.1:{wire.address[1]}/reuse"}, max_records=3)
            sink.open()
            sink.emit_batch(made_predictions(30))
            sink.close()
            assert wire.connections == 1

    def test_a_receiver_that_stores_twice_is_declared(self, params: dict[str, Any]) -> None:
        assert made(params).idempotent_by == ("ts", "symbol")
        assert made(params, deduplicates=False).idempotent_by == ()


class TestAnswers:
    @pytest.mark.parametrize(
        ("fault", "after"),
        [
            (error(503, b"", {"Retry-After": "7"}), 7.0),
            (error(429, b"slow down", {"retry-after": "0"}), 0.0),
            (error(429, b"", {"Retry-After": "999999999"}), 3600.0),
            (
                error(
                    503,
                    b"",
                    {"Date": "Mon, 05 Jan 2026 13:00:00 GMT", "Retry-After": "Mon, 05 Jan 2026 13:00:42 GMT"},
                ),
                42.0,
            ),
            (error(503, b"", {"Retry-After": "Mon, 05 Jan 2026 13:00:42 GMT"}), None),
            (error(503, b"", {"Retry-After": "soon"}), None),
            (error(500), None),
            (error(502), None),
            (error(408), None),
            (error(409), None),
        ],
    )
    def test_what_passes_is_tried_again_when_the_receiver_says(
        self, opened: Opened, params: dict[str, Any], proxy: HttpFaultProxy, fault: HttpFault, after: float
    ) -> None:
        sink = opened(params)
        proxy.script(fault)
        with pytest.raises(RetryLater, match=str(fault.status)) as caught:
            sink.emit_batch(made_predictions(3))
        assert caught.value.after == after

    def test_the_next_try_goes_on_with_what_was_not_taken(
        self, opened: Opened, params: dict[str, Any], proxy: HttpFaultProxy, path: str
    ) -> None:
        batch = made_predictions(50)
        sink = opened(params, max_records=10)
        proxy.script(passed(), passed(), error(503))
        with pytest.raises(RetryLater):
            sink.emit_batch(batch)
        sink.emit_batch(batch)
        assert sizes(proxy) == [10] * 6
        assert stored(path) == wanted(batch)
        sink.emit_batch(batch)  # a batch that was taken is forgotten: the same again is sent again
        assert len(proxy.requests) == 11

    def test_a_slow_receiver_gets_a_batch_in_several_tries(
        self,
        opened: Opened,
        params: dict[str, Any],
        proxy: HttpFaultProxy,
        path: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("alpha_forge_plugins.sinks.webhook._CALL", 2.2)
        from alpha_forge_sdk.testing.http_fault_proxy import delay

        proxy.always(delay(0.05))
        batch = made_predictions(12)
        sink = opened(params, body="object")  # 0.2 s are left before the request's two
        tries = 0
        while True:
            tries += 1
            assert tries < 12
            try:
                sink.emit_batch(batch)
                break
            except RetryLater as caught:
                assert "is slow" in str(caught)  # noqa: PT017
        assert tries > 1
        assert len(proxy.requests) == 12
        assert stored(path) == wanted(batch)

    def test_a_rejection_is_kept_when_a_fault_comes_after_it(
        self, opened: Opened, params: dict[str, Any], proxy: HttpFaultProxy, path: str
    ) -> None:
        good = made_predictions(4)
        batch = [Prediction(REFUSED, START, 1.0, METADATA), *good]
        sink = opened(params, body="object")
        proxy.script(passed(), passed(), error(503))
        with pytest.raises(RetryLater):
            sink.emit_batch(batch)
        with pytest.raises(Rejected) as caught:
            sink.emit_batch(batch)
        assert set(caught.value.reasons) == {0}
        assert len(proxy.requests) == 6
        assert stored(path) == wanted(good)

    @pytest.mark.parametrize("places", [(0,), (99,), (31, 64), (10, 11), tuple(range(0, 100, 9))])
    def test_culprits_are_found_by_halves_and_all_others_stored_in_order(
        self,
        opened: Opened,
        params: dict[str, Any],
        proxy: HttpFaultProxy,
        path: str,
        places: tuple[int, ...],
    ) -> None:
        good = made_predictions(100 - len(places))
        batch = list(good)
        for number, place in enumerate(places):
            batch.insert(place, Prediction(REFUSED, START + timedelta(hours=number), 1.0, METADATA))
        with pytest.raises(Rejected) as caught:
            opened(params).emit_batch(batch)
        assert set(caught.value.reasons) == set(places)
        assert "422 Unprocessable" in caught.value.reasons[places[0]]
        assert stored(path) == wanted(good)
        # Each culprit costs two requests a halving, of which a hundred records have seven.
        assert len(proxy.requests) <= 1 + 14 * len(places)

    def test_too_large_requests_are_halved_once_and_for_all(
        self, opened: Opened, params: dict[str, Any], proxy: HttpFaultProxy, path: str
    ) -> None:
        batch = made_predictions(300)
        proxy.script(error(413), error(413))
        sink = opened(params)
        sink.emit_batch(batch)
        assert sizes(proxy) == [100, 50, 25, 25, 25, 25, *[25] * 8]
        assert stored(path) == wanted(batch)
        proxy.script(*[error(413, b"one is too many")] * 6)
        with pytest.raises(Rejected, match="413") as caught:
            sink.emit_batch(made_predictions(2, first=300))
        assert set(caught.value.reasons) == {0, 1}

    @pytest.mark.parametrize("status", [401, 402, 403, 404, 405, 406, 410, 411, 415, 451])
    def test_what_somebody_has_to_mend_is_no_rejection_and_tells_no_secret(
        self, opened: Opened, params: dict[str, Any], proxy: HttpFaultProxy, path: str, status: int
    ) -> None:
        echo = f"no\nsuch  {path} for Bearer {TOKEN} ({TOKEN}, {PATH_TOKEN})" + "x" * 1000
        proxy.always(error(status, echo.encode()))
        with pytest.raises(AlphaForgeError, match=str(status)) as caught:
            opened(params).emit_batch(made_predictions(3))
        assert caught.value.code == "AF6070"
        text = str(caught.value)
        assert TOKEN not in text
        assert PATH_TOKEN not in text
        assert "no such *** for *** (***, ***)xxx" in text
        assert len(text) < 500
        assert len(proxy.requests) == 1

    def test_a_rejection_tells_no_secret_either(
        self, opened: Opened, params: dict[str, Any], proxy: HttpFaultProxy
    ) -> None:
        proxy.always(error(422, f"token {TOKEN}: bad symbol".encode()))
        with pytest.raises(Rejected) as caught:
            opened(params).emit_batch(made_predictions(1))
        assert caught.value.reasons[0].endswith("422 Unprocessable Entity: token ***: bad symbol")

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_redirects_are_not_followed(
        self, opened: Opened, params: dict[str, Any], proxy: HttpFaultProxy, path: str, status: int
    ) -> None:
        proxy.always(error(status, b"", {"Location": f"{receiver().url}{path}"}))
        with pytest.raises(AlphaForgeError, match="redirects are not followed") as caught:
            opened(params).emit_batch(made_predictions(3))
        assert caught.value.code == "AF6071"
        assert len(proxy.requests) == 1
        assert stored(path) == []

    @pytest.mark.parametrize("fault", [reset(), lost()])
    def test_a_connection_that_breaks_is_tried_again_and_stored_once(
        self, opened: Opened, params: dict[str, Any], proxy: HttpFaultProxy, path: str, fault: HttpFault
    ) -> None:
        batch = made_predictions(150)
        sink = opened(params)
        proxy.script(passed(), fault)
        with pytest.raises(RetryLater, match=r"http://127\.0\.0\.1"):
            sink.emit_batch(batch)
        sink.emit_batch(batch)
        assert stored(path) == wanted(batch)
        keys = [request.header("idempotency-key") for request in proxy.requests]
        assert keys[1] == keys[2]  # what came again came under the same key

    def test_a_silent_receiver_is_a_fault_in_time(
        self, opened: Opened, params: dict[str, Any], proxy: HttpFaultProxy
    ) -> None:
        sink = opened(params, request_timeout=0.2)
        proxy.always(hang())
        begun = time.monotonic()
        with pytest.raises(RetryLater, match="ReadTimeout"):
            sink.emit_batch(made_predictions(3))
        assert time.monotonic() - begun < 2

    @pytest.mark.parametrize("endless", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 500 Oops\r\n\r\n"])
    def test_an_answer_that_never_ends_is_a_fault_in_time(
        self, opened: Opened, params: dict[str, Any], endless: bytes
    ) -> None:
        with dripping(endless) as port:
            sink = opened(params, url=f"http://127.0.0.1:{port}/x", request_timeout=0.3)
            begun = time.monotonic()
            with pytest.raises(RetryLater, match="ReadTimeout"):
                sink.emit_batch(made_predictions(1))
            assert time.monotonic() - begun < 3

    @pytest.mark.parametrize("head", [b"220 mail.example.com ESMTP\r\n", b"HTTP/1.1 200 OK\r\nX-Slow: "])
    def test_what_never_becomes_an_answer_is_a_fault_in_time(
        self, opened: Opened, params: dict[str, Any], head: bytes
    ) -> None:
        with dripping(head) as port:
            sink = opened(params, url=f"http://127.0.0.1:{port}/x", request_timeout=0.3)
            begun = time.monotonic()
            with pytest.raises(RetryLater):
                sink.emit_batch(made_predictions(1))
            assert time.monotonic() - begun < 3


class dripping:
    """A server that sends `head`, and then a byte every 20 ms until the client goes."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(10)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        port: int = self._listener.getsockname()[1]
        return port

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client:
            try:
                client.recv(65_536)
                client.sendall(self._head)
                while True:
                    client.sendall(b"x")
                    time.sleep(0.02)
            except OSError:
                return

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)
        self._listener.close()


class TestSecrets:
    def test_nothing_that_is_shown_or_logged_has_a_secret(
        self, opened: Opened, params: dict[str, Any], caplog: pytest.LogCaptureFixture, proxy: HttpFaultProxy
    ) -> None:
        with caplog.at_level(logging.DEBUG):
            sink = opened(params)
            sink.emit_batch(made_predictions(3))
            proxy.script(error(500))
            with pytest.raises(RetryLater) as caught:
                sink.emit_batch(made_predictions(3))
        for text in (caplog.text, repr(sink.params), str(sink.params), repr(vars(sink)), str(caught.value)):
            assert TOKEN not in text
            assert PATH_TOKEN not in text

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"url": f"ftp://host/{PATH_TOKEN}"}, "url is no http"),
            ({"url": PATH_TOKEN}, "url is no http"),
            ({"url": f"http:///{PATH_TOKEN}"}, "url is no http"),
            ({"url": f"http://host:99999/{PATH_TOKEN}"}, "url is no http"),
            ({"url": f"http://host/{PATH_TOKEN} x"}, "url is no http"),
            ({"url": f"http://[::1/{PATH_TOKEN}"}, "url is no http"),
            ({"url": f"http://user:{TOKEN}@host/x"}, "belong into headers"),
            ({"headers": {"X-Mine": f"{TOKEN}\r\nX-Other: 1"}}, "X-Mine is empty, or holds"),
            ({"headers": {"X-Mine": f"{TOKEN}ü"}}, "X-Mine is empty, or holds"),
            ({"headers": {"X-Mine": ""}}, "X-Mine is empty, or holds"),
            ({"headers": {"X Mine": TOKEN}}, "no name of a header"),
            ({"headers": {"idempotency-key": TOKEN}}, "sets the header idempotency-key itself"),
            ({"headers": {"X-A": TOKEN, "x-a": TOKEN}}, "stands twice"),
        ],
    )
    def test_wrong_parameters_are_refused_without_showing_them(
        self, params: dict[str, Any], wrong: dict[str, Any], told: str
    ) -> None:
        with pytest.raises(ValidationError, match=told) as caught:
            made(params, **wrong)
        assert TOKEN not in str(caught.value)
        assert PATH_TOKEN not in str(caught.value)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
class TestTLS:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        both = tmp_path / "both.pem"
        made_by = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
        files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
        subprocess.run(["openssl", *made_by.split(), *files], check=True, capture_output=True)
        both.write_text((tmp_path / "cert.pem").read_text() + (tmp_path / "key.pem").read_text())
        return both

    @pytest.fixture
    def port(self, certificate: Path) -> Iterator[int]:
        """A receiver behind TLS that answers 200 to everything."""
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # handshakes that the client breaks off

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server = Server(("127.0.0.1", 0), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        server.server_close()
        thread.join()

    def test_a_certificate_that_nobody_vouches_for_is_told(
        self, opened: Opened, port: int, certificate: Path
    ) -> None:
        params = {"url": f"https://localhost:{port}/{PATH_TOKEN}", "request_timeout": 2}
        with pytest.raises(AlphaForgeError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            opened(params).emit_batch(made_predictions(2))
        assert caught.value.code == "AF6072"
        assert PATH_TOKEN not in str(caught.value)
        opened(params, ca_file=str(certificate)).emit_batch(made_predictions(2))
        opened(params, verify_tls=False).emit_batch(made_predictions(2))
        other = {**params, "url": f"https://127.0.0.1:{port}/x", "ca_file": str(certificate)}
        with pytest.raises(AlphaForgeError, match="AF6072"):
            opened(other).emit_batch(made_predictions(2))

    @pytest.mark.parametrize("content", [None, "no certificate"])
    def test_a_ca_file_that_is_none_is_told_when_it_opens(self, tmp_path: Path, content: str | None) -> None:
        file = tmp_path / "ca.pem"
        if content is not None:
            file.write_text(content)
        sink = made({"url": "https://localhost/x", "ca_file": str(file)})
        with pytest.raises(AlphaForgeError, match="ca_file can't be used") as caught:
            sink.open()
        assert caught.value.code == "AF6072"


def test_check_shows_no_secret_of_a_configuration_that_is_wrong(tmp_path: Path) -> None:
    """Not even one that stands in it as it is."""
    config = tmp_path / "config.yaml"
    config.write_text(f"""
name: hook
using: {{capabilities: [shared, middlefreq]}}
signal_generation:
  mode: stream
  warmup: {{lookback_days: auto}}
  on_prediction:
    - using: sinks.webhook
      column: ohlcv.mom_20
      params: {{url: "http://127.0.0.1/{PATH_TOKEN}", headers: {{"X-Mine": "{TOKEN}", "not one": x}}, max_records: 0}}
pipeline:
  - data: {{using: data.binance_futures, outputs: {{frame: ohlcv}}, params: {{universe: [BTCUSDT], interval: 1h}}}}
  - features:
      using: features.momentum
      inputs: {{column: ohlcv.close}}
      outputs: {{columns: [mom_20]}}
      params: {{window: 20}}
""")
    result = CliRunner().invoke(main, ["check", str(config)])
    assert result.exit_code == 2
    text = result.stdout + result.stderr
    assert "'not one' is no name of a header" in text
    assert "'max_records' must be at least 1" in text
    assert TOKEN not in text
    assert PATH_TOKEN not in text
