"""`kernels.jit`: compiled at first use, cached where possible, right for arrays of any layout."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alpha_forge_sdk import kernels
from alpha_forge_sdk.kernels.compiling import COLUMN, COUNT, OUTPUT, STATE, Kernel, jit

AUTHORS_MODULE = '''
import numpy as np
from alpha_forge_sdk import kernels

@kernels.jit
def doubled(values):
    """Twice."""
    out = np.empty_like(values)
    for t in range(values.shape[0]):
        for s in range(values.shape[1]):
            out[t, s] = 2.0 * values[t, s]
    return out

@kernels.jit
def spread(values, window):
    return doubled(kernels.rolling_max(values, window) - kernels.rolling_min(values, window))
'''


def python(code: str, **env: str) -> str:
    """Output of `code` in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_kernels_imports_no_compiler() -> None:
    loaded = python(
        "import sys; from alpha_forge_sdk import kernels; kernels.jit(lambda x: x);"
        "print([m for m in ('numba', 'pandas', 'torch', 'scipy') if m in sys.modules])"
    )
    assert loaded.strip() == "[]"


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    """Neither beside the source nor in the user's directory: numba itself raises RuntimeError there."""
    source = tmp_path / "pack"
    source.mkdir()
    (source / "authors.py").write_text(AUTHORS_MODULE)
    (source / "__pycache__").write_text("a file where the cache would be")
    (tmp_path / "home").write_text("a file, so no directory can be made in it")
    out = python(
        f"import sys; sys.path.insert(0, {str(source)!r}); sys.dont_write_bytecode = True\n"
        "import numpy as np, authors; print(authors.doubled(np.ones((2, 1))).sum())",
        HOME=str(tmp_path / "home"),
        XDG_CACHE_HOME=str(tmp_path / "home"),
        NUMBA_CACHE_DIR="",
    )
    assert out.strip() == "4.0"


def test_a_full_disk_costs_only_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(x: int) -> int:
        return x + 1

    kernel = jit(plain)
    tries: list[bool] = []

    def dispatch(x: int) -> int:
        raise OSError(28, "No space left on device")

    def compiled(self: Kernel) -> object:
        tries.append(self._cache)
        return dispatch if self._cache else plain

    monkeypatch.setattr(Kernel, "_compile", compiled)
    assert kernel(1) == 2
    assert kernel(2) == 3
    assert tries == [True, False]


def test_an_authors_kernel_may_use_those_of_the_sdk(tmp_path: Path) -> None:
    (tmp_path / "authors.py").write_text(AUTHORS_MODULE)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import numpy as np, authors\n"
        "x = np.arange(12.0).reshape(6, 2); print(authors.spread(x, 3)[2:].tolist())"
    )
    cache = str(tmp_path / "cache")
    first, again = python(code, NUMBA_CACHE_DIR=cache), python(code, NUMBA_CACHE_DIR=cache)
    assert first == again == "[[8.0, 8.0], [8.0, 8.0], [8.0, 8.0], [8.0, 8.0]]\n"
    assert list(Path(cache).rglob("*.nbi"))


def test_a_kernel_is_still_the_function_it_was_made_of() -> None:
    assert kernels.rolling_mean.__doc__.startswith("Simple mean")
    assert kernels.rolling_mean.__name__ == "rolling_mean"
    assert pickle.loads(pickle.dumps(kernels.rolling_mean)) is kernels.rolling_mean  # noqa: S301
    assert repr(kernels.ema) == "<kernel alpha_forge_sdk.kernels.recursive.ema>"


def test_other_layouts_and_types_are_converted() -> None:
    values = np.random.default_rng(0).integers(1, 100, (30, 8)).astype(float)
    expected = kernels.rolling_mean(values, 4)
    frozen = values.copy()
    frozen.flags.writeable = False
    for other in (frozen, np.asfortranarray(values), values.astype(np.float32), values.astype(int)):
        np.testing.assert_array_equal(kernels.rolling_mean(other, 4), expected)
    np.testing.assert_array_equal(kernels.rolling_mean(values.tolist(), 4), expected)
    np.testing.assert_array_equal(kernels.rolling_mean(values, np.int32(4)), expected)
    backwards = kernels.rolling_mean(values[::-1].copy(), 4)
    np.testing.assert_array_equal(kernels.rolling_mean(values[::-1, ::2], 4), backwards[:, ::2])


def test_one_compilation_serves_all_of_them() -> None:
    test_other_layouts_and_types_are_converted()
    assert len(kernels.rolling_mean.compiled.nopython_signatures) == 1


def test_state_that_had_to_be_converted_still_moves_on() -> None:
    values = np.random.default_rng(1).random((30, 4)) + 1.0
    seen, average = np.zeros(4, np.int64), np.zeros(4)
    expected = kernels.ema(values, 5, seen, average)
    strided = np.zeros((4, 3))
    count = np.zeros(4, np.int32)
    for row in range(30):
        out = kernels.ema(values[row : row + 1], 5, count, strided[:, 1])
        np.testing.assert_array_equal(out[0], expected[row])
    np.testing.assert_array_equal(strided[:, 1], average)
    np.testing.assert_array_equal(count, seen)
    assert not strided[:, ::2].any()


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(TypeError, match=r"rolling_mean\(\) takes \(bars, symbols\) arrays, got one of shape"):
        kernels.rolling_mean(np.ones(5), 2)
    with pytest.raises(TypeError, match="takes 2 arguments, got 1"):
        kernels.rolling_mean(np.ones((5, 1)))
    with pytest.raises(TypeError):
        kernels.rolling_mean(np.ones((5, 1)), "two")
    with pytest.raises(ValueError, match="window must be at least 1"):
        kernels.rolling_mean(np.ones((5, 1)), 0)
    with pytest.raises(ValueError, match="read the future"):
        kernels.lag(np.ones((5, 1)), -1)


def test_no_fused_multiply_add(tmp_path: Path) -> None:
    """A fused operation rounds once where the scalar tail of the same loop would round twice.

    Compiled afresh: numba shows no assembly of cached code.
    """
    code = (
        "from alpha_forge_sdk import kernels as K\n"
        "for k in (K.rolling_std, K.rolling_bands, K.ema, K.wilder, K.macd, K.cross_zscore):\n"
        "    print(k.compiled.inspect_asm().values())"
    )
    assembly = python(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert len(assembly) > 10_000
    for fused in ("vfmadd", "vfmsub", "vfnmadd", "fmla"):
        assert fused not in assembly


def test_signatures_have_names() -> None:
    @jit(signature=f"{OUTPUT}({COLUMN}, {COUNT}, {STATE})")
    def total(values, count, state):
        out = np.empty(values.shape)
        for t in range(values.shape[0]):
            for s in range(values.shape[1]):
                count[s] += 1
                state[s] += values[t, s]
                out[t, s] = state[s]
        return out

    count, state = np.zeros(2, np.int64), np.zeros(2)
    np.testing.assert_array_equal(total(np.ones((3, 2)), count, state)[:, 0], [1.0, 2.0, 3.0])
    assert count.tolist() == [3, 3]
