"""The smallest case that breaks a promise: Hypothesis looks for one, and shrinks it. The same one each time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from alpha_forge.contracts.errors import MissingExtraError
from alpha_forge_sdk.conformance.check import Broken

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

T = TypeVar("T")


def strategies() -> Any:
    """The module ``hypothesis.strategies``. Raises MissingExtraError where Hypothesis isn't installed."""
    try:
        from hypothesis import strategies as found
    except ImportError as error:
        raise MissingExtraError("this check", "sdk") from error
    return found


def smallest(
    strategy: SearchStrategy[T],
    breaks: Callable[[T], Broken | None],
    known: Iterable[T] = (),
    examples: int = 20,
) -> None:
    """Try cases of `strategy`; raise what ``breaks`` says of the smallest one that it objects to.

    ``known`` are cases that are always tried; one of them is told only if no smaller one is found.
    """
    import hypothesis
    from hypothesis.errors import NoSuchExample

    settings = hypothesis.settings(
        database=None,
        derandomize=True,
        deadline=None,
        max_examples=examples,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    broken: Broken | None = None
    try:
        broken = breaks(hypothesis.find(strategy, lambda case: breaks(case) is not None, settings=settings))
    except NoSuchExample:
        broken = next((found for found in map(breaks, known) if found is not None), None)
    if broken is not None:
        raise broken
