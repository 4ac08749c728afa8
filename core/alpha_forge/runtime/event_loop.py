"""EventLoopManager: runs a runner on an event loop, with signals that stop it cleanly."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from types import FrameType

from alpha_forge.runtime.interrupts import Interrupts
from alpha_forge.runtime.runner import RealTimeRunner, RunSummary

log = logging.getLogger("alpha_forge.runner")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 130


class EventLoopManager:
    """Ctrl-C and SIGTERM ask the runner to stop; a second one ends the process at once."""

    def __init__(self, runner: RealTimeRunner, interrupts: Interrupts | None = None) -> None:
        """``interrupts`` knows of a Ctrl-C that came before; `run` raises KeyboardInterrupt for it."""
        self._runner = runner
        self._interrupts = interrupts
        self.interrupted_by: int | None = None

    def run(self) -> RunSummary:
        """Blocks until the run is over; call on the main thread. Raises what the runner raises."""
        if self._interrupts is not None and self._interrupts.seen:
            raise KeyboardInterrupt
        before = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            return asyncio.run(self._main())
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def _main(self) -> RunSummary:
        loop = asyncio.get_running_loop()

        def stop(number: int) -> None:
            self.interrupted_by = number
            # The next one must not depend on the loop, nor on anything that the clean end waits for.
            for each in SIGNALS:
                loop.remove_signal_handler(each)
                signal.signal(each, _end_at_once)
            log.info("Stopping on %s (a second one ends at once)", signal.Signals(number).name)
            self._runner.stop()

        for number in SIGNALS:
            try:
                loop.add_signal_handler(number, stop, number)
            except NotImplementedError:  # Windows: there Ctrl-C raises KeyboardInterrupt as usual
                break
        return await self._runner.run()


def _end_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
