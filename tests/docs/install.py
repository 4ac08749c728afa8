"""``python install.py PROJECT SITE``: ``pip install`` without pip, without a network."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def install(project: Path, site: Path) -> None:
    """What ``pip install`` of a project leaves behind: its packages on the path, and its metadata."""
    said = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    name = str(said["name"]).replace("-", "_")
    folder = site / f"{name}-{said['version']}.dist-info"
    folder.mkdir()
    metadata = ["Metadata-Version: 2.1", f"Name: {said['name']}", f"Version: {said['version']}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in said.get("dependencies", ())]
    (folder / "METADATA").write_text("\n".join(metadata) + "\n")
    groups = said.get("entry-points", {})
    lines = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups.items()
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines))
    sources = project / "src" if (project / "src").is_dir() else project
    packages = [p for p in sources.iterdir() if (p / "__init__.py").exists() or p.suffix == ".py"]
    assert packages, f"nothing to install in {project}"
    for package in packages:
        (site / package.name).symlink_to(package.resolve())


if __name__ == "__main__":
    install(Path(sys.argv[1]), Path(sys.argv[2]))
