"""SinkThread: the one thread in which a sink's code runs, called from another that can stop waiting for it."""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
from collections.abc import Callable
from typing import Any

from alpha_forge.runtime.delivery.pacing import Pacing

CANCEL_SECONDS = 5.0
"""How long a cancelled async call may take to end before it counts as hanging."""


class CallTimeoutError(Exception):
    """A call took longer than its timeout; an async one was cancelled and has ended, nothing is left running."""


class CallHangsError(CallTimeoutError):
    """A call took longer than its timeout and still runs: the thread is lost until it returns."""


class CallLeftError(Exception):
    """The caller was told to stop waiting. ``begun`` says whether the call runs, or never began."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__()
        self.begun = begun


class _Call:
    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.result: Any = None
        self.error: BaseException | None = None
        self.finished = False
        self.wake = threading.Event()
        """Set when the call has ended, or nobody shall wait for it any longer."""


class SinkThread:
    """Runs calls one after another in a thread of its own, sync and async alike; an async one on one event loop.

    All methods but the calls themselves belong to the thread that made it, except `leave`.
    """

    def __init__(self, name: str, pacing: Pacing) -> None:
        self._pacing = pacing
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._current: _Call | None = None
        self._left = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def call(self, function: Callable[[], Any], timeout: float) -> Any:
        """Run it there and return its result, or raise what it raised; an awaitable result is awaited there.

        Raises CallTimeoutError, CallHangsError or CallLeftError (see there).
        """
        call = self._current = _Call(function)
        if self._left:
            self._current = None
            raise CallLeftError(begun=False)
        self._calls.put(call)
        try:
            ended = self._pacing.wait(call.wake, timeout)
            if not ended and self._cancel():
                if not self._pacing.wait(call.wake, CANCEL_SECONDS):
                    raise CallHangsError(
                        f"no answer in {timeout:g} s, and it does not let itself be cancelled"
                    )
                ended = True
                if call.finished:
                    raise CallTimeoutError(f"no answer in {timeout:g} s")
            if not ended:
                raise CallHangsError(f"no answer in {timeout:g} s")
            if not call.finished:
                raise CallLeftError(begun=True)
        finally:
            self._current = None
        if call.error is not None:
            raise call.error
        return call.result

    def after(self, function: Callable[[], Any]) -> None:
        """Run it once what runs there now has returned, and wait for neither; then the thread ends."""
        self._calls.put(_Call(function))
        self._calls.put(None)

    def end(self) -> None:
        """Let the thread end once it has nothing to do."""
        self._calls.put(None)

    def join(self, seconds: float) -> None:
        """Wait for the thread to end, at most so many real seconds."""
        self._thread.join(seconds)

    def leave(self) -> None:
        """From any thread: let a waiting `call`, and each later one, raise CallLeftError."""
        self._left = True
        call = self._current
        if call is not None:
            call.wake.set()

    def _cancel(self) -> bool:
        """Ask a running async call to end; False if what runs is not async."""
        loop, task = self._loop, self._task
        if loop is None or task is None:
            return False
        try:
            loop.call_soon_threadsafe(task.cancel)
        except RuntimeError:  # the loop is closed: the thread has ended meanwhile
            return False
        return True

    def _run(self) -> None:
        runner: asyncio.Runner | None = None
        try:
            while (call := self._calls.get()) is not None:
                try:
                    result = call.function()
                    if inspect.isawaitable(result):
                        runner = runner or asyncio.Runner()
                        result = runner.run(self._awaited(result))
                    call.result = result
                except BaseException as error:  # noqa: BLE001 - a sink's code: it is the caller's to judge
                    call.error = error
                call.finished = True
                call.wake.set()
        finally:
            if runner is not None:
                runner.close()

    async def _awaited(self, awaitable: Any) -> Any:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        try:
            return await awaitable
        finally:
            self._task = None
