"""The wheel of this tree, installed into an environment of its own that is layered on this one."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def built_wheel(folder: Path) -> Path:
    """Build the wheel into `folder`. No network: hatchling is of the extra ``dev``."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    return wheel


def layered_environment(folder: Path, wheel: Path) -> Path:
    """Its ``python``: it has the wheel, and of this environment everything but what is installed to be edited."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    python = folder / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = folder / "lib" / version / "site-packages"
    # A folder that a .pth names has its own .pth files, those of editable installations, ignored.
    (site / "base.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ["-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run(
        [sys.executable, *install, "--disable-pip-version-check", str(wheel)], check=True, timeout=120
    )
    return python


def run(python: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``alpha_forge`` with these arguments in `cwd`, as installed beside `python`."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ALPHA_FORGE_BLOCK")}
    command = [str(python.parent / "alpha_forge"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
