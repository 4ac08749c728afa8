"""The base classes of the five kinds of plugins. Their docstrings are the contract.

Numeric code sees ``float64`` arrays of shape ``(bars, symbols)``, oldest bar first, NaN where nothing is known.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from alpha_forge.contracts import params as _params
from alpha_forge.contracts.clock import Clock
from alpha_forge.contracts.interval import Interval
from alpha_forge.contracts.types import BAR_COLUMNS, BarBlock, MarketEvent, Prediction

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class Plugin:
    """What all kinds share: typed parameters, and construction without any I/O.

    ``examples`` are parameter sets (mappings, as in the DSL) that the conformance kit uses; the first is the
    one that the documentation shows.
    """

    Params: ClassVar[type[_params.Params]] = _params.Params
    examples: ClassVar[Sequence[Mapping[str, Any]]] = ({},)

    params: Any
    """The validated parameters, an instance of this class's ``Params``."""

    def __init__(self, params: Any) -> None:
        self.params = params


def positional_names(function: Callable[..., Any], skip: int) -> tuple[str, ...]:
    """Names of the positional parameters of `function` after the first `skip`; ``*args`` gives none."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds]
    return tuple(names[skip:])


class Feature(Plugin):
    """Columns → columns, with memory of finitely many bars.

    Row t of the output is a pure function of rows ``t - lookback + 1 … t`` of the input; the first
    ``lookback - 1`` rows are NaN. Inputs are never written to. Any float64 is taken: NaN, infinities, zeros and
    flat prices raise nothing and warn of nothing (``np.errstate``). Called on one compute thread.
    """

    scope: ClassVar[str] = "symbol"
    """``symbol``: each symbol alone. ``panel``: reads across symbols; rows are aligned by ts, NaN where absent."""
    inputs: ClassVar[tuple[str, ...] | None] = None
    """Input names; default: the positional names of ``compute``."""
    outputs: ClassVar[tuple[str, ...]] = ("value",)

    def lookback(self) -> int:
        """Bars that one output needs, the current one included (at least 1)."""
        raise TypeError(f"{type(self).__name__} must define lookback()")

    # `**_` lets a type checker accept overrides that name their columns: compute(self, high, low, close).
    def compute(self, *columns: Any, **_: Any) -> Any:
        """(bars, symbols) arrays → one (bars, symbols) array, or a tuple in the order of ``outputs``."""
        raise TypeError(f"{type(self).__name__} must define compute()")

    @classmethod
    def input_names(cls) -> tuple[str, ...]:
        return cls.inputs if cls.inputs is not None else positional_names(cls.compute, skip=1)


class RecursiveFeature(Plugin):
    """Columns → columns, with memory that fades (EMA, Wilder's RSI).

    The runtime starts a fresh state every ``settle(epsilon) / 4`` bars of the absolute time grid and reads the
    youngest one that has settled, so that a value never depends on when the process started. As with a `Feature`,
    inputs are never written to, and any float64 is taken: nothing is raised, nothing is warned of.
    """

    scope: ClassVar[str] = "symbol"
    inputs: ClassVar[tuple[str, ...] | None] = None
    """Input names; default: the positional names of ``advance`` after ``state``."""
    outputs: ClassVar[tuple[str, ...]] = ("value",)

    def settle(self, epsilon: float) -> int:
        """Bars after which the start weighs less than `epsilon`, relative."""
        raise TypeError(f"{type(self).__name__} must define settle()")

    def start(self, symbols: int) -> dict[str, Array]:
        """A fresh state: named arrays whose axis 0 is the symbol."""
        raise TypeError(f"{type(self).__name__} must define start()")

    def advance(self, state: dict[str, Array], *columns: Any, **_: Any) -> Any:
        """Any number of rows → as many rows; `state` moves on in place. It may hold any subset of the symbols.

        A NaN in a row leaves that symbol's state as it was and gives NaN.
        """
        raise TypeError(f"{type(self).__name__} must define advance()")

    @classmethod
    def input_names(cls) -> tuple[str, ...]:
        return cls.inputs if cls.inputs is not None else positional_names(cls.advance, skip=2)


class Transform(Plugin):
    """Frame → frame (resample), or two frames → frame (an as-of join)."""

    frames: ClassVar[tuple[str, ...]] = ("frame",)
    """Input names, each bound to a frame. With two, the first one leads: its rows are the output's rows."""

    def output_interval(self, interval: Interval) -> Interval:
        """Interval of the output from that of the (first) input. Raise ValueError if they don't fit."""
        return interval

    def lookback(self) -> int:
        """Rows of the (first) input that one output row needs, the current one included."""
        raise TypeError(f"{type(self).__name__} must define lookback()")

    def other_lookback(self, interval: Interval) -> int:
        """Rows of the second input, whose interval is given, that one output row needs."""
        return 1

    def input_columns(self, *available: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """Columns that it reads, one tuple for each input frame, from those available. Default: the bar's."""
        return tuple(BAR_COLUMNS for _ in available)

    def output_columns(self, *taken: Sequence[str]) -> tuple[str, ...]:
        """Columns of the output, from those it reads of each input. Default: those of the first."""
        return tuple(taken[0])

    def apply(
        self, ts: Array, columns: Mapping[str, Array], *others: tuple[Array, Mapping[str, Array]]
    ) -> Any:
        """(bars,) int64 ns and {name: (bars, symbols)} → (ts, columns) of the output.

        Rows are aligned by ts, NaN where a symbol's bar is absent. An output row at ts b may read input rows
        with ts ≤ b only. A symbol whose close is NaN in an output row has no bar there. ``others`` holds the
        second frame of an as-of join as (ts, columns). Inputs are never written to; any float64 is taken: nothing is
        raised, nothing is warned of.
        """
        raise TypeError(f"{type(self).__name__} must define apply()")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a model reads: column names in the checkpoint's order, and the bars in its window."""

    columns: tuple[str, ...]
    window: int


class Model(Plugin):
    """Windows of columns → one value a symbol. Nothing is ever unpickled."""

    batch: ClassVar[int] = 32
    """``predict`` always gets exactly this many rows, zero-padded: the same bits whoever comes together."""

    def describe(self) -> ModelSpec:
        """From the checkpoint's JSON alone, before ``load``. Raises ModelError for a missing or damaged one."""
        raise TypeError(f"{type(self).__name__} must define describe()")

    def load(self) -> None:
        """Read the weights (safetensors). Called once, on the compute thread, before ``predict``."""
        raise TypeError(f"{type(self).__name__} must define load()")

    def predict(self, windows: Array) -> Array:
        """(batch, window, features) float32 → (batch,) float64. Row i depends on row i alone; NaN in, NaN out."""
        raise TypeError(f"{type(self).__name__} must define predict()")

    # Optional, and not defined here, because its presence is what makes a model trainable:
    #
    # def fit(self, windows, targets, validation, progress, *, columns, symbols, training_range, target, horizon,
    #         options): ...
    #
    # (n, window, features) float32 windows and (n,) float64 targets, ordered by time; ``validation`` is such a pair
    # from later bars; ``progress(epoch, epochs, train_loss, validation_loss)`` is called after each epoch. Writes the
    # checkpoint that ``params`` name, and returns an object with epochs, best_epoch, train_samples,
    # validation_samples, validation_mse, naive_mse and information_coefficient.


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What the runtime hands to a data source when it opens it.

    ``shared`` is one mapping for all sources of a run: what belongs to the process and not to one source (the
    request budget of a host) is kept there with ``setdefault``, under a key that begins with the pack's name. Read
    and written on the event loop only.
    """

    clock: Clock
    cache_dir: Path
    limits: Mapping[str, float]
    shared: dict[tuple[str, ...], Any] = field(default_factory=dict)


class DataSource(Plugin):
    """Closed bars from history, and bars as they happen. Lives on the event loop; never blocks it.

    Its ``Params`` have ``universe`` (symbols) and ``interval``; network sources have ``endpoints``. While it is not
    open, before ``open`` and after ``close``, `stream` and `history` raise SourceError.
    """

    ticks: ClassVar[bool] = False
    """True for a source of instants, such as a timer: its bars say nothing but their close. A step that one of them
    triggers (``on``) runs on the newest bar of each symbol, and on no bar twice."""
    history_lag: ClassVar[float] = 30.0
    """Seconds after a close from which on history's silence about that bar proves that it does not exist."""

    async def find_clock(self) -> Clock | None:
        """The clock of a server that keeps its own time (an accelerated exchange), or None. Called before open."""
        return None

    async def open(self, context: SourceContext) -> None:
        """Connect. Raises SourceError if the source can't be reached or doesn't know a symbol."""
        raise TypeError(f"{type(self).__name__} must define open()")

    async def passed(self, instant: int, now: int) -> int:
        """The latest instant ≤ `instant` (ns) that the source is known to have passed; ``now`` is the runner's clock.

        That a bar does not exist is believed only of a source that has passed its close by ``history_lag``. A source
        that can tell its own time overrides this: the clock of this machine may be ahead of it.
        """
        return min(instant, now)

    def stream(self) -> AsyncIterator[MarketEvent]:
        """Events as they happen, from the moment of the first ``anext``. Reconnects by itself; never ends by itself.

        A source of finite extent (files) may end; the run then ends too.
        """
        raise TypeError(f"{type(self).__name__} must define stream()")

    def history(self, symbols: Sequence[str], start: int, end: int) -> AsyncIterator[BarBlock]:
        """Closed bars with ``start < ts <= end`` (ns since the epoch), in order within each symbol."""
        raise TypeError(f"{type(self).__name__} must define history()")

    def explain_history(self, start: int, end: int, now: int, cache_dir: Path) -> Sequence[str]:
        """How `history` would fetch the closes in (start, end] at ``now`` (ns), and why: for ``alpha_forge plan``.

        Called on a source that was never opened; goes by the calendar and the files in ``cache_dir``, never by the
        network. Lines of text; none by default.
        """
        return ()

    async def close(self) -> None:
        """Release everything. Idempotent."""


class Sink(Plugin):
    """Where predictions go. Override ``emit`` or ``emit_batch``; both may be ``async``.

    Either returns when the destination HAS the records: a crash right after loses none. Raise
    `RetryLater` for a fault that passes, `Rejected` (after all others are stored) for records that never
    will be taken; any other exception is retried as a fault. ``open``, ``emit`` and ``close`` run in one thread of
    the sink's own, never concurrently.
    """

    delivery: ClassVar[str] = "at_least_once"
    idempotent_by: ClassVar[tuple[str, ...]] = ()
    on_conflict: ClassVar[str] = "replace"
    ordered: ClassVar[bool] = True
    max_batch: ClassVar[int] = 1000
    timeout: ClassVar[float] = 30.0
    non_finite: ClassVar[str] = "store"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.emit is Sink.emit and cls.emit_batch is Sink.emit_batch:
            raise TypeError(
                f"sink {cls.__qualname__} overrides neither emit nor emit_batch; define one of them"
            )

    def preflight(self) -> None:
        """Raise an AlphaForgeError if it is plain already now, without connecting or creating anything, that ``open``
        will fail (a directory that can't be written). Called by ``alpha_forge check`` and before a run connects."""

    def open(self) -> Any:
        """Acquire what the sink needs. Called once before the first record."""

    def emit(self, symbol: str, ts: Any, prediction: float, metadata: Mapping[str, Any]) -> Any:
        """Store one record; see the class."""
        raise TypeError(f"{type(self).__name__} takes batches; call emit_batch")

    def emit_batch(self, predictions: Sequence[Prediction]) -> Any:
        """Store the records, in their order; see the class."""
        raise TypeError(f"{type(self).__name__} takes single records; call emit")

    def close(self) -> Any:
        """Release everything. Comes once on every path that called ``open``; idempotent."""


KINDS: dict[str, tuple[type[Plugin], ...]] = {
    "data": (DataSource,),
    "transforms": (Transform,),
    "features": (Feature, RecursiveFeature),
    "models": (Model,),
    "sinks": (Sink,),
}
"""Prefix of a plugin's DSL name → the base classes that plugins of this kind derive from."""
