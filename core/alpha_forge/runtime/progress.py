"""How the runtime tells about long work. The command line draws bars of it; by default nobody listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the start, the steps and the end of named tasks. Called from any thread."""

    def start(self, task: str, total: int) -> None: ...

    def advance(self, task: str, steps: int) -> None: ...

    def finish(self, task: str, note: str = "") -> None: ...


class Silent:
    """Tells nobody."""

    def start(self, task: str, total: int) -> None:
        pass

    def advance(self, task: str, steps: int) -> None:
        pass

    def finish(self, task: str, note: str = "") -> None:
        pass
