"""``jit``: numba compilation that waits for the first call, so that importing a kernel costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar, overload

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])

# Numba turns a writable array into a read-only one for free, but not the other way round, and it would
# compile a kernel again for each combination. Read-only in the signature: one compilation serves both.
COLUMN = "Array(float64, 2, 'C', readonly=True)"
"""Signature of a (bars, symbols) input, C-contiguous float64."""
TIMES = "Array(int64, 1, 'C', readonly=True)"
"""Signature of a (bars,) input of int64, for example ts."""
OUTPUT = "float64[:, ::1]"
"""Signature of a (bars, symbols) output."""
STATE = "float64[::1]"
"""Signature of a (symbols,) float64 state that moves on in place."""
COUNT = "int64[::1]"
"""Signature of a (symbols,) int64 state that moves on in place."""


class Kernel:
    """A function that numba compiles when it is first called (or first used by another kernel).

    With a signature it is compiled once, for exactly that; arguments of another layout or dtype are
    converted (and state that had to be converted is written back). Without one it is compiled for each
    combination of types that it meets. Compiled code is cached beside the source, or in the user's cache
    directory; where neither can be written it is compiled anew in each process.
    """

    def __init__(self, function: Callable[..., Any], signature: str | None) -> None:
        update_wrapper(self, function)
        self._function = function
        self._signature = signature
        # The first call replaces this; afterwards a call goes straight to numba's dispatcher.
        self._dispatch: Callable[..., Any] = self._first
        self._cache = True

    def __call__(self, *args: Any) -> Any:
        try:
            return self._dispatch(*args)
        except TypeError:
            if self._signature is None:
                raise
            return self._converted(args)
        except OSError:
            # A cache that can't be written (disk full, directory gone) must cost time only.
            if not self._cache:
                raise
            self._cache = False
            self._dispatch = self._compile()
            return self._dispatch(*args)

    def __repr__(self) -> str:
        return f"<kernel {self._function.__module__}.{self._function.__qualname__}>"

    def __reduce__(self) -> str:
        # Found again by its name, as a function is; compiled code doesn't travel.
        return self._function.__qualname__

    @property
    def compiled(self) -> Any:
        """Numba's dispatcher, compiled now if it wasn't yet."""
        if self._dispatch == self._first:
            self._dispatch = self._compile()
        return self._dispatch

    @property
    def _numba_type_(self) -> Any:
        # Numba asks for this when another compiled function uses this one as a global.
        from numba.core.types import Dispatcher

        return Dispatcher(self.compiled)

    def _first(self, *args: Any) -> Any:
        return self.compiled(*args)

    def _compile(self) -> Any:
        import numba

        # Neither fastmath nor parallel: both let the bits of a row depend on the shape of the array.
        # numpy's error model: x / 0 is an infinity or NaN, as in a column, not an exception.
        signature = () if self._signature is None else (self._signature,)
        if self._cache:
            try:
                return numba.njit(*signature, cache=True, error_model="numpy")(self._function)
            except (RuntimeError, OSError):  # "cannot cache function …: no locator available"
                self._cache = False
        return numba.njit(*signature, error_model="numpy")(self._function)

    def _converted(self, args: tuple[Any, ...]) -> Any:
        """Call with every array as the signature has it; raises TypeError where that can't be done."""
        wanted = self.compiled.nopython_signatures[0].args
        if len(args) != len(wanted):
            raise TypeError(f"{self._function.__name__}() takes {len(wanted)} arguments, got {len(args)}")
        given = [_require(self._function.__name__, a, w) for a, w in zip(args, wanted, strict=True)]
        result = self._dispatch(*given)
        for argument, converted, want in zip(args, given, wanted, strict=True):
            if converted is not argument and getattr(want, "mutable", False):
                argument[...] = converted
        return result


def _require(name: str, value: Any, want: Any) -> Any:
    """`value` as an array of the numba type `want`; other things than arrays pass through."""
    ndim = getattr(want, "ndim", None)
    if ndim is None:
        return value
    array = np.asarray(value)
    if array.ndim != ndim:
        shape = {1: "(bars,) or (symbols,)", 2: "(bars, symbols)"}.get(ndim, f"{ndim}-dimensional")
        raise TypeError(f"{name}() takes {shape} arrays, got one of shape {array.shape}")
    return np.require(array, np.dtype(str(want.dtype)), ("C", "A", "W") if want.mutable else ("C", "A"))


@overload
def jit(function: F, /) -> F: ...
@overload
def jit(*, signature: str | None = None) -> Callable[[F], F]: ...
def jit(function: F | None = None, /, *, signature: str | None = None) -> F | Callable[[F], F]:
    """Compile a function with numba at its first use, not at import: ``@jit`` or ``@jit(signature=…)``.

    Numba's ``njit`` with ``cache=True``, and with IEEE arithmetic as written: no fastmath, no threads. The
    function takes positional arguments only. ``signature`` is a numba signature as text (names of
    ``numba.types``); the module `alpha_forge_sdk.kernels.compiling` has names for the usual ones.

    Bits that don't depend on the shape of the array need loops: bar outer, then the bars of its window from
    the oldest to the newest, symbol inner (LLVM vectorises that one). No running sums, no array reductions,
    no ``exp``, ``log`` or ``pow`` over arrays (their vector forms round otherwise than their scalar forms).
    Keep helpers in the module of the kernel that calls them: numba's cache watches that one file only.
    """
    if function is None:
        return lambda f: _kernel(f, signature)
    return _kernel(function, signature)


def _kernel(function: F, signature: str | None) -> F:
    """The `Kernel` of `function`, which for a type checker is still the function."""
    kernel: Any = Kernel(function, signature)
    return kernel  # type: ignore[no-any-return]
