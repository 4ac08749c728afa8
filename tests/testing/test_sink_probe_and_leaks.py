"""Sinks of every form are driven the same way; what a block leaves behind is named."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from alpha_forge_sdk import Params, Prediction, Rejected, Sink
from alpha_forge_sdk.testing.leaks import no_leaks
from alpha_forge_sdk.testing.predictions import made_predictions
from alpha_forge_sdk.testing.sink_probe import CallTimedOut, SinkProbe, sink_probe


class Batches(Sink):
    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.calls: list[Any] = []
        self.threads: set[str] = set()

    def note(self, what: Any) -> None:
        self.calls.append(what)
        self.threads.add(threading.current_thread().name)

    def open(self) -> None:
        self.note("open")

    def emit_batch(self, predictions: Sequence[Prediction]) -> None:
        self.note([p.symbol for p in predictions])

    def close(self) -> None:
        self.note("close")


class Singles(Batches):
    emit_batch = Sink.emit_batch  # type: ignore[assignment]

    def emit(self, symbol: str, ts: Any, prediction: float, metadata: Any) -> None:
        self.note(symbol)
        if symbol == "BTCUSDT":
            raise Rejected({0: "not that one"})


class Async(Batches):
    async def open(self) -> None:  # type: ignore[override]
        self.loop = asyncio.get_running_loop()
        self.note("open")

    async def emit_batch(self, predictions: Sequence[Prediction]) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is self.loop, "one loop for the sink's whole life"
        self.note([p.symbol for p in predictions])

    async def close(self) -> None:  # type: ignore[override]
        self.note("close")


@pytest.mark.parametrize("kind", [Batches, Async])
def test_batches_sync_and_async_on_one_thread_of_their_own(kind: type[Batches]) -> None:
    sink = kind(Params())
    with sink_probe(sink) as probe:
        probe.emit_batch(made_predictions(2))
        assert probe.seconds < 5
    assert sink.calls == ["open", ["SOLUSDT", "BTCUSDT"], "close"]
    assert sink.threads == {f"probe of {kind.__name__}"}


def test_single_records_are_offered_one_by_one_and_rejections_carry_their_index() -> None:
    sink = Singles(Params())
    with sink_probe(sink) as probe, pytest.raises(Rejected) as raised:
        probe.emit_batch(made_predictions(3))
    assert raised.value.reasons == {1: "not that one"}
    assert sink.calls == ["open", "SOLUSDT", "BTCUSDT", "ETHUSDT", "close"]


def test_close_follows_a_failed_open() -> None:
    class Unreachable(Batches):
        def open(self) -> None:
            self.note("open")
            raise OSError("nobody there")

    sink = Unreachable(Params())
    with pytest.raises(OSError, match="nobody there"), sink_probe(sink):
        raise AssertionError("not reached")
    assert sink.calls == ["open", "close"]


def test_a_call_that_hangs_is_told_and_no_further_call_is_made() -> None:
    done = threading.Event()

    class Hangs(Batches):
        def emit_batch(self, predictions: Sequence[Prediction]) -> None:
            done.wait(10)

    sink = Hangs(Params())
    timed_out = pytest.raises(CallTimedOut, match=r"emit_batch did not end within 0\.05 s")
    with timed_out, sink_probe(sink, timeout=0.05) as probe:
        probe.emit_batch([])
    assert probe.hung
    assert sink.calls == ["open"]
    with pytest.raises(CallTimedOut, match="earlier call still hangs"):
        probe.close()
    done.set()


def test_a_timeout_of_the_sink_is_the_sinks_own_error() -> None:
    class Gives(Batches):
        def emit_batch(self, predictions: Sequence[Prediction]) -> None:
            raise TimeoutError("the destination is slow")

    with pytest.raises(TimeoutError, match="destination is slow"), sink_probe(Gives(Params())) as probe:
        probe.emit_batch([])


def test_the_probe_leaves_nothing() -> None:
    with sink_probe(Async(Params())):
        pass
    with no_leaks(), sink_probe(Async(Params())) as probe:
        probe.emit_batch(made_predictions(1))


def test_a_single_record_without_the_context_manager() -> None:
    sink = Singles(Params())
    probe = SinkProbe(sink)
    probe.open()
    probe.emit(made_predictions(1)[0])
    probe.close()
    probe.end()
    assert sink.calls == ["open", "SOLUSDT", "close"]


def test_a_thread_a_socket_a_file_and_a_child_are_named(tmp_path: Any) -> None:
    go = threading.Event()
    kept: list[Any] = []

    def leave() -> None:
        thread = threading.Thread(target=go.wait, name="lingering")
        thread.start()
        kept.extend([thread, socket.socket(), (tmp_path / "left.txt").open("w")])
        kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))

    with pytest.raises(AssertionError) as raised, no_leaks(grace=0.1):
        leave()
    text = str(raised.value)
    assert "thread 'lingering'" in text
    if sys.platform == "linux":
        assert "socket:[" in text
        assert "left.txt" in text
        assert "child process" in text
    go.set()
    kept[0].join()
    kept[1].close()
    kept[2].close()
    kept[3].communicate()


def test_a_thread_that_ends_within_the_grace_is_no_leak() -> None:
    with no_leaks(grace=2):
        threading.Thread(target=time.sleep, args=(0.1,)).start()
