"""EventLoopManager: runs a runner on an event loop, with signals that stop it cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal

from alpha_forge.runtime.runner import RealTimeRunner, RunSummary

log = logging.getLogger("alpha_forge.runner")


class EventLoopManager:
    """Ctrl-C and SIGTERM ask the runner to stop; a second one stops at once."""

    def __init__(self, runner: RealTimeRunner) -> None:
        self._runner = runner
        self.interrupted_by: int | None = None

    def run(self) -> RunSummary:
        """Blocks until the run is over. Raises what the runner raises; KeyboardInterrupt on the second signal."""
        return asyncio.run(self._main())

    async def _main(self) -> RunSummary:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None

        def stop(number: int) -> None:
            if self.interrupted_by is not None:
                task.cancel()
            log.info("Stopping on %s (once more to stop at once)", signal.Signals(number).name)
            self.interrupted_by = number
            self._runner.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            # Windows has no handlers on the loop; there Ctrl-C raises KeyboardInterrupt as usual.
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, stop, number)
        try:
            return await self._runner.run()
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
