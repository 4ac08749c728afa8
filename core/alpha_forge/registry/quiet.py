"""Foreign code is imported with stdout turned to stderr, so that a result on stdout stays a result."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Inside, whatever is printed goes to stderr: by ``print``, and by C code or children on descriptor 1."""
    with contextlib.redirect_stdout(sys.stderr), _descriptor_1_to_2():
        yield


@contextlib.contextmanager
def _descriptor_1_to_2() -> Iterator[None]:
    kept: int | None = None
    try:
        # What is buffered for the real stdout must leave before the descriptor points elsewhere.
        if sys.__stdout__ is not None:
            sys.__stdout__.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
    except (OSError, ValueError):
        pass  # a stream is closed: there is nothing to keep clean
    try:
        yield
    finally:
        if kept is not None:
            # Text written to the real stdout object inside is still buffered; it belongs to stderr.
            with contextlib.suppress(OSError, ValueError):
                if sys.__stdout__ is not None:
                    sys.__stdout__.flush()
            os.dup2(kept, 1)
            os.close(kept)


def describe(error: BaseException) -> str:
    """``Type: message (file.py:3)``: the first line of the message, and the innermost line that raised."""
    try:
        text = str(error)
    except BaseException as broken:  # noqa: BLE001 - the exception's class is foreign code too
        text = f"<its message can't be read: {type(broken).__name__}>"
    lines = text.strip().splitlines()
    head = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    place = _place(error)
    return f"{head} ({place})" if place else head


def _place(error: BaseException) -> str:
    """``file.py:3`` of the innermost frame that isn't the import machinery's, without folders."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{os.path.basename(error.filename)}:{error.lineno}"
    place = ""
    traceback = error.__traceback__
    # The first frame is ours.
    traceback = traceback.tb_next if traceback is not None else None
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        if not name.startswith("<frozen") and os.path.basename(os.path.dirname(name)) != "importlib":
            parent, base = os.path.split(name)
            place = f"{os.path.basename(parent)}/{base}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place
