"""AF-P, second part: what importing a plugin's module costs, brings along, and leaves behind. Measured in children."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from alpha_forge_sdk.conformance.case import Conformance
from alpha_forge_sdk.conformance.check import Broken, Check, NotApplicable, check
from alpha_forge_sdk.conformance.params_checks import EVERY_KIND

BUDGET = 0.1
"""Seconds that a module may cost over the SDK."""
_RUNS = 4
_DEADLINE = 120.0

HEAVY = {
    "torch": "seconds of import, hundreds of MB of memory",
    "tensorflow": "seconds of import, hundreds of MB of memory",
    "jax": "a second of import",
    "transformers": "seconds of import",
    "sklearn": "a second of import, scipy with it",
    "scipy": "half a second of import with what is commonly used of it",
    "statsmodels": "a second of import, pandas and scipy with it",
    "xgboost": "a second of import, scipy with it",
    "lightgbm": "a second of import, scipy with it",
    "pandas": "half a second of import",
    "polars": "a tenth of a second of import, a thread pool",
    "dask": "half a second of import",
    "pyarrow": "a quarter of a second of import, a memory pool",
    "numba": "half a second of import, a compiler; alpha_forge_sdk.kernels.jit brings it in at first use",
    "boto3": "half a second of import, botocore with it",
    "botocore": "half a second of import",
    "clickhouse_connect": "half a second of import",
    "sqlalchemy": "a third of a second of import",
    "google.cloud": "a second of import",
    "azure": "a second of import",
    "pyspark": "a second of import",
    "matplotlib": "half a second of import",
    "IPython": "half a second of import",
}
"""Library → why no module imports it at its top: `check`, `plan` and `plugins show` import every plugin named."""

_PROBE = """\
import asyncio, json, os, sys, tempfile, threading, time
sys.path[:] = json.loads(sys.argv[1])
begun = time.perf_counter()
import numpy
import alpha_forge_sdk, alpha_forge_sdk.conformance, alpha_forge_sdk.kernels
for name in alpha_forge_sdk.__all__:
    if name not in ("sandbox", "testing"):
        getattr(alpha_forge_sdk, name)
base = time.perf_counter() - begun
before, threads, told = set(sys.modules), set(threading.enumerate()), os.dup(1)
with tempfile.TemporaryFile() as printed:
    os.dup2(printed.fileno(), 1)
    error, begun = "", time.perf_counter()
    try:
        __import__(sys.argv[2])
    except BaseException as problem:
        error = f"{type(problem).__name__}: {problem}"
    seconds = time.perf_counter() - begun
    sys.stdout.flush()
    printed.seek(0)
    text = printed.read().decode("utf-8", "replace")
left = [t.name for t in threading.enumerate() if t not in threads]
result = {"base": base, "seconds": seconds, "error": error, "printed": text, "threads": left,
          "modules": sorted(set(sys.modules) - before)}
os.write(told, json.dumps(result).encode())
os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class Import:
    """One import of a module in a fresh interpreter that had the SDK and numpy already. Times in seconds."""

    base: float
    seconds: float
    error: str
    printed: str
    threads: tuple[str, ...]
    modules: tuple[str, ...]

    @property
    def budget(self) -> float:
        """A machine on which the SDK itself takes long to import is given as much more time for the plugin."""
        return max(BUDGET, self.base / 2)


def observe(module: str) -> Import:
    """Import `module` in a fresh interpreter with this one's path. Raises Broken if it hangs or dies of it."""
    command = [sys.executable, "-c", _PROBE, json.dumps(sys.path), module]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_DEADLINE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Broken("the module can be imported", f"not within {_DEADLINE:g} s") from error
    if not done.stdout:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise Broken("the module can be imported", f"the interpreter ended with {done.returncode}: {last}")
    found: dict[str, Any] = json.loads(done.stdout)
    found["threads"], found["modules"] = tuple(found["threads"]), tuple(found["modules"])
    return Import(**found)


@cache
def _first(module: str) -> Import:
    # Of several plugins in one module, and of three checks, the first pays.
    return observe(module)


@cache
def _fastest(module: str) -> Import:
    """The cheapest of several imports: what disturbs one only ever adds to it. One within the budget will do."""
    best = _first(module)
    for _ in range(_RUNS - 1):
        if best.seconds <= best.budget:
            break
        again = observe(module)
        best = min(best, again, key=lambda run: run.seconds)
    return best


def _module(case: Conformance) -> str:
    """The plugin's module, if a fresh interpreter can import it. Raises NotApplicable if it can't."""
    module = case.plugin_class().__module__
    error = _first(module).error
    if error:
        raise NotApplicable(f"a fresh interpreter can't import its module {module}: {error}")
    return module


@check(
    "AF-P12",
    "importing its module is quick",
    *EVERY_KIND,
    remedy="import what is slow where it is first used: in open(), load() or the function that needs it",
    # A heavy library is the reason then, and its mend another.
    needs=("AF-P11",),
)
def quick_import(case: Conformance, tmp_path: Path) -> str:
    """The same, for what is slow without being a known heavy library: tables that are computed, files that
    are read, kernels that are compiled at import. The budget is in time above that of the SDK itself."""
    module = _module(case)
    run = _fastest(module)
    told = f"{1000 * run.seconds:.0f} ms over the SDK, which itself took {1000 * run.base:.0f} ms"
    if run.seconds > run.budget:
        raise Broken(
            f"importing the plugin's module takes at most {1000 * BUDGET:.0f} ms over the SDK",
            f"{module}: {told} (the least of {_RUNS} runs)",
        )
    return told


def heavy_ones(modules: tuple[str, ...]) -> list[str]:
    """Of imported modules, the names in `HEAVY`."""
    return sorted(name for name in HEAVY if name in modules)


@check(
    "AF-P11",
    "importing its module brings in no heavy library",
    *EVERY_KIND,
    remedy="import it where it is first used: in open(), load() or the function that needs it",
    needs=("AF-P01",),
)
def light_import(case: Conformance, tmp_path: Path) -> None:
    """Every command that meets the plugin imports its module, `check` and `plugins show` among them. One
    `import torch` at the top costs seconds and hundreds of megabytes in all of them."""
    module = _module(case)
    found = heavy_ones(_first(module).modules)
    if found:
        reasons = ", ".join(f"{name} ({HEAVY[name]})" for name in found)
        raise Broken("a plugin's module imports nothing heavy at its top", f"{module} imports {reasons}")


@check(
    "AF-P13",
    "importing its module prints nothing and starts nothing",
    *EVERY_KIND,
    remedy="log instead of printing, from where work is done; start threads in open()",
    needs=("AF-P01",),
)
def silent_import(case: Conformance, tmp_path: Path) -> None:
    """Standard output belongs to the command: a banner makes the JSON of `plugins list` unreadable. A thread
    that starts at import runs in every process that only wanted the class."""
    module = _module(case)
    run = _first(module)
    if run.printed:
        first = run.printed.strip().splitlines()[:1]
        raise Broken("stdout is for results: importing prints nothing there", f"{module} printed {first}")
    if run.threads:
        raise Broken("importing starts no thread", f"{module} left {', '.join(run.threads)}")


CHECKS: tuple[Check, ...] = (light_import, quick_import, silent_import)
