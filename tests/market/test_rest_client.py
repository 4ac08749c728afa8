"""The REST loop: one budget for all clients of a host, and a ban that no request slips through."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest

from alpha_forge_plugins.market.binance import rest_client
from alpha_forge_plugins.market.binance.budget import MINUTE, WeightBudget
from alpha_forge_plugins.market.binance.rest_client import RestClient, shared_budget
from alpha_forge_plugins.market.binance.venue import SPOT, USDM
from alpha_forge_plugins.market.binance_futures import BinanceFutures
from alpha_forge_sdk import Interval, SourceContext, SourceError, SystemClock

from .paper_exchange import MS, Clock, Paper, at_ms
from .support import hosted, soon

T0_MS = at_ms("2026-01-20T10:30:20")
KLINES = "/fapi/v1/klines"
HOUR = Interval.parse("1h")

Handler = Callable[[httpx.Request], httpx.Response] | Callable[[httpx.Request], Awaitable[httpx.Response]]


def client_of(http: httpx.AsyncClient, clock: Clock, budget: WeightBudget, **options: Any) -> RestClient:
    return RestClient(http, "http://exchange", USDM, clock, budget, **options)


async def answered(handler: Any, work: Callable[[RestClient, Clock], Awaitable[Any]], **options: Any) -> Any:
    clock = Clock(T0_MS)
    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
        return await soon(work(client_of(http, clock, WeightBudget(), **options), clock))


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_client, "backoff", lambda *_, **__: 0.0)


def test_clients_share_the_budget_of_one_host_and_one_counter() -> None:
    run: dict[tuple[str, ...], Any] = {}
    ours = shared_budget(run, "https://fapi.binance.com", USDM)
    assert shared_budget(run, "https://fapi.binance.com", USDM) is ours
    assert shared_budget(run, "https://api.binance.com", SPOT) is not ours
    assert shared_budget(run, "http://127.0.0.1:8080", USDM) is not ours
    assert shared_budget({}, "https://fapi.binance.com", USDM) is not ours
    assert (ours.limit, shared_budget(run, "https://api.binance.com", SPOT).limit) == (2400, 6000)


def test_sources_of_one_run_share_it_by_their_context(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        params = BinanceFutures.Params.model_validate(
            {"universe": ["BTCUSDT"], "interval": "1h", "endpoints": url}
        )
        first, second, other = (BinanceFutures(params) for _ in range(3))
        clock = SystemClock()
        context = SourceContext(clock, tmp_path, {})
        for source, its in ((first, context), (second, context), (other, SourceContext(clock, tmp_path, {}))):
            await source.open(its)
        budgets = [source._rest.budget for source in (first, second, other) if source._rest is not None]
        assert budgets[0] is budgets[1]
        assert budgets[2] is not budgets[0]
        assert list(context.shared.values()) == [budgets[0]]
        for source in (first, second, other):
            await source.close()

    with hosted(symbols=("BTCUSDT",)) as host:
        asyncio.run(soon(run(host.url)))


def test_two_clients_together_stay_within_every_minute() -> None:
    spent: Counter[int] = Counter()
    clock = Clock(T0_MS)

    def answer(request: httpx.Request) -> httpx.Response:
        minute = clock.now() // MINUTE
        spent[minute] += 5
        return httpx.Response(200, content=b"[]", headers={"X-MBX-USED-WEIGHT-1M": str(spent[minute])})

    async def run() -> None:
        budget = WeightBudget(2400)
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            clients = [client_of(http, clock, budget, concurrency=8) for _ in range(2)]
            await asyncio.gather(*(clients[k % 2].get(KLINES, {}, 5) for k in range(1000)))

    asyncio.run(soon(run()))
    assert sum(spent.values()) == 5000
    assert max(spent.values()) == 2160, "nine tenths of the limit, to the last request"
    assert len(spent) == 3


def banned_from(count: int, clock: Clock, seconds: int, seen: list[int]) -> Handler:
    """Answers; request number `count` gets a ban of so many seconds."""

    async def answer(_: httpx.Request) -> httpx.Response:
        seen.append(clock.now())
        number = len(seen)
        await asyncio.sleep(0)
        if number != count:
            return httpx.Response(200, content=b"[]")
        until = clock.now() // MS + seconds * 1000
        body = {"code": -1003, "msg": f"Way too many requests; IP(1.2.3.4) banned until {until}."}
        return httpx.Response(418, json=body, headers={"Retry-After": str(seconds - 1)})

    return answer


def test_a_ban_stops_every_request_of_every_client_until_it_ends() -> None:
    clock, seen = Clock(T0_MS), list[int]()

    async def run() -> None:
        budget = WeightBudget(100_000)
        async with httpx.AsyncClient(
            transport=httpx.MockTransport(banned_from(30, clock, 120, seen))
        ) as http:
            clients = [client_of(http, clock, budget, concurrency=4) for _ in range(3)]
            await asyncio.gather(*(clients[k % 3].get(KLINES, {}, 1) for k in range(200)))

    asyncio.run(soon(run()))
    begin = T0_MS * MS
    early = [t for t in seen if t < begin + 120 * 10**9]
    assert 30 <= len(early) <= 30 + 12, "those that were under way already, one a slot"
    assert set(early) == {begin}, "and nothing in between"
    assert len(seen) == 201
    assert min(t for t in seen if t > begin) >= begin + 120 * 10**9, "by the later of header and message"


def test_a_ban_that_comes_during_the_handshake_holds_the_request_back() -> None:
    """The first request is refused while the second one's connection is still being made."""

    class Slow(httpcore.AsyncNetworkBackend):
        def __init__(self) -> None:
            self.inner = httpcore._backends.auto.AutoBackend()  # type: ignore[attr-defined]
            self.count = 0
            self.release = asyncio.Event()

        async def connect_tcp(self, *args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count == 2:
                await self.release.wait()
            return await self.inner.connect_tcp(*args, **kwargs)

        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    async def run() -> None:
        clock, arrivals = Clock(T0_MS), list[int]()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(65_536):
                arrivals.append(clock.now())
                ban = len(arrivals) == 1
                body = b'{"code":-1003,"msg":"banned"}' if ban else b"[]"
                status = "418 I'm a teapot\r\nRetry-After: 60" if ban else "200 OK"
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        slow, transport = Slow(), httpx.AsyncHTTPTransport()
        transport._pool = httpcore.AsyncConnectionPool(network_backend=slow, max_connections=2)
        held = asyncio.Event()

        async def sleep(seconds: float) -> None:
            await held.wait()
            clock.time += int(seconds * 1e9)

        clock.sleep = sleep  # type: ignore[method-assign]
        async with httpx.AsyncClient(transport=transport) as http:
            client = RestClient(http, f"http://127.0.0.1:{port}", USDM, clock, WeightBudget())
            both = [asyncio.create_task(client.get(KLINES, {}, 1)) for _ in range(2)]
            while client.budget.blocked_until(clock.now()) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            assert slow.count == 2
            slow.release.set()
            await asyncio.sleep(0.05)  # time enough to be wrong in
            assert len(arrivals) == 1
            held.set()
            assert await asyncio.gather(*both) == [b"[]", b"[]"]
        assert len(arrivals) == 3
        assert min(arrivals[1:]) >= arrivals[0] + 60 * 10**9
        server.close()

    asyncio.run(soon(run()))


def test_refusals_that_go_on_end_at_patience() -> None:
    count = 0

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        return httpx.Response(429, json={"code": -1003, "msg": "Too many"}, headers={"Retry-After": "50"})

    with pytest.raises(SourceError) as error:
        asyncio.run(answered(answer, lambda client, _: client.get(KLINES, {}, 1), patience=120.0))
    assert error.value.code == "AF5002"
    assert error.value.after is not None
    assert 53 < error.value.after < 54.1, "when to ask again: told, three seconds more by now, and jitter"
    assert count == 3, "at 0, 50 and 100 seconds; the next one would be after 150"


def test_without_retry_after_the_next_minute_is_waited_for() -> None:
    async def work(client: RestClient, clock: Clock) -> float:
        await client.get(KLINES, {}, 1)
        return (clock.now() / 1e9) % 60

    answers = iter([httpx.Response(429, json={"code": -1003, "msg": "Too many requests"})])
    second = asyncio.run(answered(lambda _: next(answers, httpx.Response(200, content=b"[]")), work))
    assert 0.0 < second < 1.5


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (403, b"<html>Request blocked</html>", "AF5005"),
        (503, b"<html>down</html>", "AF5001"),
        (408, b'{"code":-1007,"msg":"Timeout"}', "AF5001"),
    ],
)
def test_what_may_pass_is_asked_for_again_and_not_for_ever(status: int, body: bytes, code: str) -> None:
    count = 0

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        return httpx.Response(200 if count % 3 == 0 else status, content=b"[]" if count % 3 == 0 else body)

    assert asyncio.run(answered(answer, lambda client, _: client.get(KLINES, {}, 1))) == b"[]"
    assert count == 3

    with pytest.raises(SourceError) as error:
        asyncio.run(
            answered(lambda _: httpx.Response(status, content=body), lambda c, _: c.get(KLINES, {}, 1))
        )
    assert error.value.code == code


@pytest.mark.usefixtures("no_pauses")
def test_a_page_of_a_proxy_is_named_after_three_questions() -> None:
    count = 0

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        return httpx.Response(200, content=b"<html><title>Sign in</title></html>")

    page = rest_client.rest.Page(0, 0, 1)
    with pytest.raises(SourceError) as error:
        asyncio.run(answered(answer, lambda client, _: client.klines("BTCUSDT", HOUR, page)))
    assert error.value.code == "AF5005"
    assert "proxy" in error.value.help
    assert "Sign in" in error.value.message
    assert count == 3


def test_a_refused_request_costs_its_weight_and_comes_once() -> None:
    count = 0

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        return httpx.Response(400, json={"code": -1121, "msg": "Invalid symbol."})

    async def work(client: RestClient, clock: Clock) -> int:
        before = client.budget.left(clock.now())
        with pytest.raises(SourceError, match="symbol"):
            await client.get(KLINES, {}, 5)
        return before - client.budget.left(clock.now())

    assert asyncio.run(answered(answer, work)) == 5
    assert count == 1


def test_a_certificate_that_proves_nothing_is_not_tried_again() -> None:
    count = 0

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        cause = ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")
        cause.verify_message = "self-signed certificate"
        raise httpx.ConnectError("handshake") from cause

    with pytest.raises(SourceError) as error:
        asyncio.run(answered(answer, lambda client, _: client.get(KLINES, {}, 1)))
    assert error.value.code == "AF5018"
    assert "self-signed" in error.value.message
    assert count == 1


def test_a_server_without_tls_is_named() -> None:
    async def run() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with httpx.AsyncClient() as http:
            client = RestClient(http, f"https://127.0.0.1:{port}", USDM, Clock(T0_MS), WeightBudget())
            with pytest.raises(SourceError) as error:
                await client.get(KLINES, {}, 1)
        assert error.value.code == "AF5018"
        source = BinanceFutures(
            BinanceFutures.Params.model_validate(
                {"universe": ["BTCUSDT"], "interval": "1h", "endpoints": f"https://127.0.0.1:{port}"}
            )
        )
        with pytest.raises(SourceError) as error:
            await source.find_clock()
        assert error.value.code == "AF5018"
        await source.close()
        server.close()

    asyncio.run(soon(run()))


@pytest.mark.usefixtures("no_pauses")
def test_a_body_in_drops_is_given_up_and_asked_for_again() -> None:
    async def run() -> None:
        count = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            await reader.readuntil(b"\r\n\r\n")
            count += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" if count < 3 else b"")
            try:
                while count < 3:  # a drop well within each read's timeout, without an end
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.02)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
                await writer.drain()
            except ConnectionError:
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with httpx.AsyncClient(timeout=0.1) as http:
            client = RestClient(http, base, USDM, Clock(T0_MS), WeightBudget(), timeout=0.1)
            assert await client.get(KLINES, {}, 1) == b"[]"
        assert count == 3
        server.close()

    asyncio.run(soon(run()))


def test_what_a_request_waited_for_is_no_error_of_the_clock() -> None:
    """Refused for forty seconds before it is answered: the offset is that of the answer's own trip."""
    answers = iter(
        [httpx.Response(429, json={"code": -1003, "msg": "Too many"}, headers={"Retry-After": "40"})]
    )

    async def run() -> None:
        clock = Clock(T0_MS)

        def answer(_: httpx.Request) -> httpx.Response:
            return next(answers, httpx.Response(200, json={"serverTime": clock.now() // MS + 5000}))

        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            client = client_of(http, clock, WeightBudget())
            await client.final_until((T0_MS + 3_600_000) * MS)
            assert clock.now() > (T0_MS + 40_000) * MS
            assert client.skew == pytest.approx(5.0, abs=0.001)

    asyncio.run(soon(run()))


def test_a_slow_answer_does_not_unsettle_what_quick_ones_have_told() -> None:
    trips = iter([0.02, 8.0, 0.02, 0.02])
    ahead = [3.0, 3.0, 3.0, -60.0]

    async def run() -> None:
        clock = Clock(T0_MS)

        async def answer(_: httpx.Request) -> httpx.Response:
            server = clock.now() // MS + int(ahead.pop(0) * 1000)  # at the very beginning of the trip
            clock.time += int(next(trips) * 1e9)
            return httpx.Response(200, json={"serverTime": server})

        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            client = client_of(http, clock, WeightBudget())
            told = []
            for _ in range(4):
                await client.final_until(2**62)
                told.append(client.skew)
        assert told == pytest.approx([2.99, 2.99, 2.99, -60.01], abs=0.011)

    asyncio.run(soon(run()))


def test_a_ban_is_waited_for_by_the_latest_that_the_exchange_s_clock_may_show() -> None:
    """One answer took eight seconds, and told the time at its end: the exchange may be four behind the middle."""
    behind, seen = -30.0, list[int]()

    async def run() -> None:
        clock = Clock(T0_MS)
        until = T0_MS + 120_000

        async def answer(request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("/time"):
                clock.time += 8 * 10**9
                return httpx.Response(200, json={"serverTime": clock.now() // MS + int(behind * 1000)})
            seen.append(clock.now() // MS + int(behind * 1000))
            if len(seen) == 1:
                return httpx.Response(418, json={"code": -1003, "msg": f"IP banned until {until}."})
            return httpx.Response(200, content=b"[]")

        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            client = client_of(http, clock, WeightBudget())
            await client.final_until(2**62)
            assert client.skew == pytest.approx(behind + 4.0, abs=0.001)
            await client.get(KLINES, {}, 1)
        assert len(seen) == 2
        assert until <= seen[1] < until + 2_000

    asyncio.run(soon(run()))


@pytest.mark.parametrize("minutes", [-10, 10])
def test_the_exchange_s_time_counts_whatever_the_clock_here_says(minutes: int) -> None:
    paper = Paper(T0_MS)

    async def run() -> None:
        async with httpx.AsyncClient(transport=paper.transport()) as http:
            clock = Clock(T0_MS + minutes * 60_000)
            client = client_of(http, clock, WeightBudget())
            assert await client.final_until((T0_MS + 3_600_000) * MS) == T0_MS * MS
            assert client.now() == T0_MS * MS
            assert client.skew == -60.0 * minutes
            assert await client.final_until((T0_MS - 1) * MS) == (T0_MS - 1) * MS
            assert paper.asked["time"] == 1, "what it has passed once, it has passed"

    asyncio.run(soon(run()))
