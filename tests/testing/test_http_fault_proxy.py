"""The HTTP proxy does to a request what its script says, and to no other."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from alpha_forge_sdk.testing.http_fault_proxy import (
    HttpFaultProxy,
    delay,
    error,
    hang,
    http_fault_proxy,
    lost,
    passed,
    reset,
    throttle,
    unprocessed,
)
from alpha_forge_sdk.testing.leaks import no_leaks


class Target:
    """An HTTP server that keeps what it got, and answers with its length."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, bytes]] = []
        self.leaves: dict[str, list[object]] = {}
        target = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                target.got.append((self.path, self.headers.get("X-Mine", ""), body))
                if "X-Amz-Target" in self.headers:
                    answer = json.dumps({"UnprocessedItems": target.leaves}).encode()
                else:
                    answer = str(len(body)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.send_header("x-amz-crc32", "1")
                self.send_header("X-Answer", "yes")
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def target() -> Iterator[Target]:
    made = Target()
    yield made
    made.close()


@pytest.fixture
def proxy(target: Target) -> Iterator[HttpFaultProxy]:
    with http_fault_proxy(target.url) as made:
        yield made


def post(
    proxy: HttpFaultProxy, body: bytes = b"four", path: str = "/in", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection(*proxy.address, timeout=10)
    try:
        connection.request("POST", path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


def test_a_request_passes_unchanged_with_its_headers(proxy: HttpFaultProxy, target: Target) -> None:
    status, body, headers = post(proxy, b"x" * 100_000, "/a?b=c", X_Mine="mine")
    assert (status, body, headers["X-Answer"]) == (200, b"100000", "yes")
    assert target.got == [("/a?b=c", "mine", b"x" * 100_000)]
    assert [(r.method, r.operation, r.header("x-mine")) for r in proxy.requests] == [("POST", "/a", "mine")]
    assert not proxy.struck
    # The sum over the body is left out: the body may be another.
    assert "x-amz-crc32" not in headers


def test_a_connection_serves_many_requests_and_chunked_ones(proxy: HttpFaultProxy, target: Target) -> None:
    connection = http.client.HTTPConnection(*proxy.address, timeout=10)
    for pieces in ([b"a", b"bc"], [b"d"]):
        connection.request(
            "POST", "/in", iter(pieces), encode_chunked=True, headers={"Transfer-Encoding": "chunked"}
        )
        answer = connection.getresponse()
        assert answer.read() == str(len(b"".join(pieces))).encode()
    connection.close()
    assert [body for _, _, body in target.got] == [b"abc", b"d"]


def test_a_script_is_followed_request_by_request(proxy: HttpFaultProxy, target: Target) -> None:
    proxy.script(error(503, b"busy", {"Retry-After": "7"}), passed(), throttle())
    status, body, headers = post(proxy)
    assert (status, body, headers["Retry-After"]) == (503, b"busy", "7")
    assert post(proxy)[0] == 200
    status, body, _ = post(proxy)
    assert status == 400
    assert json.loads(body)["__type"].endswith("#ProvisionedThroughputExceededException")
    assert [post(proxy)[0] for _ in range(2)] == [200, 200]
    assert len(target.got) == 3
    assert proxy.struck == {"error": 1, "throttle": 1}


def test_a_reset_reaches_nobody_and_a_lost_answer_was_written(proxy: HttpFaultProxy, target: Target) -> None:
    proxy.script(reset())
    with pytest.raises(ConnectionError):
        post(proxy, b"never")
    assert target.got == []
    proxy.script(lost())
    with pytest.raises(ConnectionError):
        post(proxy, b"written")
    assert [body for _, _, body in target.got] == [b"written"]
    assert proxy.struck == {"reset": 1, "lost": 1}


def test_only_the_operation_that_is_named_is_struck(proxy: HttpFaultProxy, target: Target) -> None:
    proxy.always(error(500), only="BatchWriteItem")
    assert post(proxy, b"{}", X_Amz_Target="DynamoDB_20120810.DescribeTable")[0] == 200
    assert post(proxy, b"{}", X_Amz_Target="DynamoDB_20120810.BatchWriteItem")[0] == 500
    assert post(proxy, b"{}", X_Amz_Target="DynamoDB_20120810.BatchWriteItem")[0] == 500
    proxy.lift()
    assert post(proxy, b"{}", X_Amz_Target="DynamoDB_20120810.BatchWriteItem")[0] == 200


def test_a_hanging_request_is_reset_when_the_fault_is_lifted(proxy: HttpFaultProxy, target: Target) -> None:
    proxy.always(hang())
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, proxy)
        until(lambda: proxy.struck["hang"] == 1)
        assert not answer.done()
        proxy.lift()
        with pytest.raises(ConnectionError):
            answer.result(10)
    assert target.got == []
    assert post(proxy)[0] == 200


def test_a_delayed_request_is_forwarded_after_its_time_or_when_lifted(
    proxy: HttpFaultProxy, target: Target
) -> None:
    proxy.script(delay(0.2))
    begun = time.monotonic()
    assert post(proxy)[0] == 200
    assert time.monotonic() - begun >= 0.2
    proxy.script(delay(600))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, proxy)
        until(lambda: proxy.struck["delay"] == 2)
        proxy.lift()
        assert answer.result(10)[0] == 200


WRITES = {"one": [1, 2, 3], "two": [4]}


@pytest.mark.parametrize(
    ("count", "forwarded", "left"),
    [
        (1, {"one": [1, 2, 3]}, {"two": [4]}),
        (3, {"one": [1]}, {"two": [4], "one": [2, 3]}),
        (25, None, WRITES),
    ],
)
def test_unprocessed_writes_are_withheld_and_come_back(
    proxy: HttpFaultProxy, target: Target, count: int, forwarded: object, left: object
) -> None:
    proxy.script(unprocessed(count))
    body = json.dumps({"RequestItems": WRITES, "ReturnConsumedCapacity": "NONE"}).encode()
    status, answer, _ = post(proxy, body, X_Amz_Target="DynamoDB_20120810.BatchWriteItem")
    assert status == 200
    assert json.loads(answer)["UnprocessedItems"] == left
    if forwarded is None:
        assert target.got == []
    else:
        ((_, _, got),) = target.got
        assert json.loads(got) == {"RequestItems": forwarded, "ReturnConsumedCapacity": "NONE"}


def test_what_the_target_leaves_unprocessed_is_kept_beside_what_is_withheld(
    proxy: HttpFaultProxy, target: Target
) -> None:
    target.leaves = {"one": [1]}
    proxy.script(unprocessed(2))
    body = json.dumps({"RequestItems": {"one": [1, 2, 3]}}).encode()
    answer = post(proxy, body, X_Amz_Target="DynamoDB_20120810.BatchWriteItem")[1]
    assert json.loads(answer)["UnprocessedItems"] == {"one": [1, 2, 3]}


def test_a_seed_gives_the_same_faults_again(proxy: HttpFaultProxy) -> None:
    def sequence(seed: int) -> list[int]:
        proxy.seeded(seed, {throttle(): 0.3, error(500): 0.2})
        return [post(proxy)[0] for _ in range(40)]

    first = sequence(7)
    assert first == sequence(7)
    assert first != sequence(8)
    assert {200, 400, 500} == set(first)
    with pytest.raises(ValueError, match="add up to"):
        proxy.seeded(1, {throttle(): 0.7, reset(): 0.7})


def test_a_target_that_is_gone_resets_the_client(proxy: HttpFaultProxy, target: Target) -> None:
    target.server.shutdown()
    target.server.server_close()
    with pytest.raises(ConnectionError):
        post(proxy)


def test_nothing_is_left_after_close_whatever_hangs(target: Target) -> None:
    with no_leaks(), http_fault_proxy(target.url) as proxy, ThreadPoolExecutor(2) as pool:
        proxy.script(hang(), delay(600))
        answers = [pool.submit(post, proxy) for _ in range(2)]
        until(lambda: proxy.struck.total() == 2)
        proxy.close()
        for answer in answers:
            with pytest.raises((ConnectionError, http.client.HTTPException)):
                answer.result(10)
