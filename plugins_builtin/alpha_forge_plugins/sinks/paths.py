"""Files and directories of the file sinks: opened, checked and synced alike, and refused in the same words."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from alpha_forge_sdk import AlphaForgeError


def make_directory(path: Path) -> None:
    """Make the directory and those above it where absent, durably. Raises AlphaForgeError AF6003."""
    try:
        absent = [one for one in (path, *path.parents) if not one.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for made in reversed(absent):
            sync_directory(made.parent)
    except OSError as error:
        raise no_directory(path, error.strerror or str(error)) from error


def open_file(path: Path) -> io.FileIO:
    """Open to read and append; directories and file are made. Raises AlphaForgeError AF6003, AF6004."""
    make_directory(path.parent)
    check_file(path)
    try:
        return io.FileIO(path, "a+")
    except OSError as error:
        raise no_file(path, error.strerror or str(error)) from error


def check_file(path: Path) -> bool:
    """Raise what `open_file` would raise, but make nothing. → whether the file exists."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        check_directory(path.parent)
        return False
    except OSError as error:
        raise no_file(path, error.strerror or str(error)) from error
    if not stat.S_ISREG(mode):
        raise no_file(path, "it is not a regular file")
    if not may(path, os.R_OK | os.W_OK):
        raise no_file(path, "this user may not read and write it")
    return True


def check_directory(path: Path) -> None:
    """Raise AlphaForgeError AF6003 if the directory can't be written, or made; make nothing."""
    there = path.absolute()
    try:
        while not there.exists():
            there = there.parent
    except OSError as error:
        raise no_directory(path, error.strerror or str(error)) from error
    if not there.is_dir():
        raise no_directory(path, f"{there} is not a directory")
    if not may(there, os.W_OK | os.X_OK):
        raise no_directory(path, f"this user may not write to {there}")


def may(path: Path, mode: int) -> bool:
    """`os.access` for the user that opens files, where the system tells it from the one that started the process."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def is_at(path: Path, known: os.stat_result) -> bool:
    """True if `path` names the file that `known` describes: nobody moved or deleted it."""
    try:
        return os.path.samestat(known, os.stat(path))
    except FileNotFoundError:
        return False


def write_all(file: io.FileIO, data: bytes) -> None:
    """Write everything: a raw file may take less than it is given."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]


def sync_directory(path: Path) -> None:
    """Make new names in it durable, where the system can (Windows can't open directories)."""
    with contextlib.suppress(PermissionError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def named_faults(path: Path) -> Iterator[None]:
    """Give the file's name to faults of the system that lack one: "No space left on device" alone helps nobody."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error


def no_directory(path: Path, why: str) -> AlphaForgeError:
    return AlphaForgeError(
        "AF6003",
        f"the output directory {path} can't be written: {why}",
        "give `path` a directory that this user can make and write to",
    )


def no_file(path: Path, why: str) -> AlphaForgeError:
    return AlphaForgeError(
        "AF6004",
        f"{path} can't be appended to: {why}",
        "give `path` a file that this user can read and write",
    )


def other_form(path: Path, found: str, wanted: str) -> AlphaForgeError:
    """What is there was made by something else, or with other parameters. `found` and `wanted` name the difference."""
    return AlphaForgeError(
        "AF6010",
        f"{path} has {found} instead of {wanted}",
        "move it away, or choose another place in the sink's params; nothing was written to it",
    )


def foreign(path: Path, what: str) -> AlphaForgeError:
    """The form is right, but something in it is not this sink's, or is damaged."""
    return AlphaForgeError(
        "AF6012",
        f"{path} holds something that this sink did not write: {what}",
        "move the file away, or mend it; what it holds is left as it is",
    )
