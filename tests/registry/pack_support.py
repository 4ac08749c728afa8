"""Third-party packs made on disk: a real distribution's metadata and modules, found as anybody's are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

SINK = '''
from alpha_forge_sdk import Params, Sink


class AvroSink(Sink):
    """Writes Avro.

    More about it.
    """

    def emit(self, symbol, ts, prediction, metadata):
        pass
'''


def hooks(**given: str) -> str:
    """Source of a pack's ``__init__`` whose hooks return the given Python expressions."""
    source = "from alpha_forge_sdk import hookimpl\n"
    for hook, expression in given.items():
        source += f"\n@hookimpl\ndef {hook}():\n    return {expression}\n"
    return source


class Site:
    """A folder as site-packages are: put on ``sys.path``, what is made in it is installed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def pack(
        self,
        name: str,
        init: str,
        *,
        distribution: str = "",
        version: str = "1.2.3",
        requires: tuple[str, ...] = (),
        module: str = "",
        **modules: str,
    ) -> str:
        """Install the distribution `distribution` with one pack; returns the import name of its package."""
        distribution = distribution or f"{name}-dist"
        module = module or f"{name}_pack"
        package = self.root / module
        package.mkdir()
        (package / "__init__.py").write_text(dedent(init))
        for stem, source in modules.items():
            (package / f"{stem}.py").write_text(dedent(source))
        self.metadata(distribution, version, f"[alpha_forge]\n{name} = {module}\n", requires)
        return module

    def metadata(
        self, distribution: str, version: str, entry_points: str, requires: tuple[str, ...] = ()
    ) -> Path:
        folder = self.root / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        headers = [f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}"]
        headers += [f"Requires-Dist: {line}" for line in requires]
        (folder / "METADATA").write_text("\n".join(headers) + "\n\nRequires-Dist: not-a-header\n")
        (folder / "entry_points.txt").write_text(entry_points)
        return folder

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Python in a child process that has this folder on its path."""
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(self.root), **environment},
            timeout=60,
        )

    def listed(self, **environment: str) -> dict[str, Any]:
        """What ``alpha_forge plugins list --format json`` says in a child process."""
        code = "from alpha_forge.cli import main; main()"
        result = self.run("-c", code, "plugins", "list", "--format", "json", **environment)
        assert result.returncode == 0, result.stderr
        listed: dict[str, Any] = json.loads(result.stdout)
        return listed
