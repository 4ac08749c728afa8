"""The hash of a distribution's files, so that a report can be kept and matched with what it speaks of."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

_BY_THE_INSTALLER = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
_COMPILED = {".pyc", ".pyo", ".nbi", ".nbc"}


@cache
def sha256_of(distribution: str, packages: tuple[str, ...]) -> str:
    """SHA-256 over the distribution's files, the same wherever it is installed; empty if no file is found.

    A line ``path sha256`` for each file, sorted by path, is hashed. The files are those that RECORD lists, read
    afresh; where RECORD lists no source (an editable installation), those of the trees of `packages`. What installers
    and interpreters add (compiled files, RECORD itself) doesn't count. Nothing is imported.
    """
    files = dict(_recorded(distribution))
    if not any(name.endswith((".py", ".so", ".pyd")) for name in files):
        files = {name: path for package in packages for name, path in _tree(package.partition(".")[0])}
    lines = [
        f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for name, path in sorted(files.items())
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else ""


def _recorded(distribution: str) -> Iterator[tuple[str, Path]]:
    try:
        listed = importlib.metadata.files(distribution) or ()
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return  # an empty name (a pack handed in by a test), or a distribution that is gone
    for file in listed:
        # Scripts are written by the installer, outside the tree, with this environment's interpreter in them.
        if file.parts[0] == ".." or not _counts(Path(file)):
            continue
        path = Path(str(file.locate()))
        # Of an editable installation there is a .pth and the metadata, and they name this machine's folders.
        if path.is_file() and path.suffix != ".pth":
            yield file.as_posix(), path


def _counts(path: Path) -> bool:
    return (
        path.name not in _BY_THE_INSTALLER
        and path.suffix not in _COMPILED
        and "__pycache__" not in path.parts
    )


def _tree(package: str) -> Iterator[tuple[str, Path]]:
    """The files of a top-level package or module, found as an import would find it."""
    try:
        # Of a top-level name this imports nothing.
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return
    if spec.submodule_search_locations is None:
        if spec.origin is not None:
            yield Path(spec.origin).name, Path(spec.origin)
        return
    for location in spec.submodule_search_locations:
        yield from _files(Path(location), Path(location).parent)


def _files(folder: Path, root: Path) -> Iterable[tuple[str, Path]]:
    for path in folder.rglob("*"):
        relative = path.relative_to(root)
        if path.is_file() and _counts(relative):
            yield relative.as_posix(), path
