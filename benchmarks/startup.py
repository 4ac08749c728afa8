"""Start-up of the commands that people wait for, as multiples of bare Python's."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.checkpoints import write_random
from benchmarks.results import CaseResult, Goal
from benchmarks.timing import Turn, in_turn, median, per_unit

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "08_signal_generation" / "bilstm_realtime_signal.yaml"
REFERENCE = "bilstm_elnigma_unified_improved.unified"
INPUTS = (
    *(f"rsi{w}" for w in (6, 12, 24)),
    *(f"ma{w}rocp" for w in (5, 10, 20, 60)),
    *(f"{side}{w}" for w in (10, 20, 60) for side in ("resistance", "support")),
    "volume_ratio20",
    "volatility20",
)
BARE = "bare Python"
LIST = "alpha_forge plugins list --format json"
CHECK = "alpha_forge check, the large example"
IMPORTS = "Python that imports numpy, pydantic and click"
MILLI = 1e3
HEAVY = ("torch", "pandas", "numba")
LOADED = f"""
import sys
from alpha_forge.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print("\\n" + " ".join(name for name in {HEAVY} if name in sys.modules))
"""


def run(*, quick: bool) -> CaseResult:
    """Milliseconds of whole processes."""
    result = CaseResult("startup", "from the shell's call to the end of the process", "ms", BARE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_random(folder / "models", REFERENCE, INPUTS)
        config = folder / "large.yaml"
        config.write_text(EXAMPLE.read_text().replace("tmp/models/bilstm_realtime", str(folder / "models")))
        command = [sys.executable, "-m", "alpha_forge"]
        turns = {
            BARE: _process([sys.executable, "-c", "pass"], folder),
            LIST: _process([*command, "plugins", "list", "--format", "json"], folder),
            CHECK: _process([*command, "check", str(config)], folder),
            IMPORTS: _process([sys.executable, "-c", "import numpy, pydantic, click"], folder),
        }
        for title, arguments in {LIST: ["plugins", "list"], CHECK: ["check", str(config)]}.items():
            result.agree(f"heavy libraries that {title} loads", "a process", _heavy(arguments, folder), 0.0)
        found = in_turn(turns, 3 if quick else 25)
    for title, samples in found.items():
        result.add(title, "a process", samples, MILLI)
    result.notes.append(f"neither command loads {', '.join(HEAVY)}")
    bare = median(found[BARE])
    result.goals.append(
        Goal(
            "plugins list ≤ 12 × bare Python",
            median(found[LIST]) / bare,
            12.0,
            min(found[LIST]) / min(found[BARE]),
        )
    )
    result.goals.append(
        Goal(
            "check of the large example ≤ 400 ms",
            median(found[CHECK]) * MILLI,
            400.0,
            min(found[CHECK]) * MILLI,
        )
    )
    return result


def _heavy(arguments: list[str], folder: Path) -> int:
    """How many of the libraries that are slow to import a command has imported at its end."""
    command = [sys.executable, "-c", LOADED, *arguments]
    answer = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return len(answer.stdout.splitlines()[-1].split())


def _process(command: list[str], folder: Path) -> Turn:
    def work() -> None:
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    return per_unit(work, 1)
