"""Does an object grow with every call? Judged by what it holds, not by a clock."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

_CONTAINERS = (list, dict, set, deque, bytearray)
_DEEP = 8
"""Levels of nesting that are looked into."""


def footprint(instance: Any) -> int:
    """Bytes of what an instance holds, its class's containers and its module's included; shared parts once."""
    seen: set[int] = set()
    total = _bytes_of(vars(instance), seen, _DEEP) if hasattr(instance, "__dict__") else 0
    for base in type(instance).__mro__:
        if base.__module__.partition(".")[0] in ("builtins", "alpha_forge"):
            continue
        held = {k: v for k, v in vars(base).items() if isinstance(v, _CONTAINERS) or hasattr(v, "nbytes")}
        total += _bytes_of(held, seen, _DEEP)
        module = sys.modules.get(base.__module__)
        for value in list(vars(module).values()) if module is not None else ():
            # Only how many things a module keeps: what else is in there is none of this plugin's.
            if isinstance(value, _CONTAINERS) and id(value) not in seen:
                seen.add(id(value))
                total += 8 * len(value)
    return total


def _bytes_of(value: Any, seen: set[int], depth: int) -> int:
    if id(value) in seen or not depth:
        return 0
    seen.add(id(value))
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    if isinstance(value, Mapping):
        return 16 * len(value) + sum(_bytes_of(v, seen, depth - 1) for v in value.values())
    if isinstance(value, list | tuple | set | frozenset | deque):
        return 8 * len(value) + sum(_bytes_of(v, seen, depth - 1) for v in value)
    if isinstance(value, int | float | complex | bool | type(None)):
        # A counter may count as far as it likes.
        return 8
    held = getattr(value, "__dict__", None)
    return 8 + (_bytes_of(held, seen, depth - 1) if isinstance(held, dict) else 0)


def grows(call: Callable[[int], object], size: Callable[[], int], most_calls: int = 2048) -> str | None:
    """Call ``call(k)`` again and again; a sentence if ``size()`` grows in every doubling of the calls, or None.

    A cache that is bounded by fewer than half of ``most_calls`` entries stops growing and is let pass.
    """
    done, calls, sizes_seen = 0, 16, []
    while calls <= most_calls:
        for k in range(done, calls):
            call(k)
        done = calls
        sizes_seen.append(size())
        # At least half a byte a call more than after half the calls: a list, a dict, a string, an array.
        if len(sizes_seen) > 1 and sizes_seen[-1] - sizes_seen[-2] < calls // 4:
            return None
        calls *= 2
    return f"it held {sizes_seen[0]} bytes after 16 calls and {sizes_seen[-1]} after {done}"
