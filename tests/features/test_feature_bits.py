"""What the runtime relies on: the same bits however bars and symbols come, honest look-backs, no traces."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from feature_cases import PANEL, RECURSIVE, WINDOWED, Case, market, run, same_bits

from alpha_forge_sdk import Feature

BARS = market(160, 7)
ALL = WINDOWED + RECURSIVE + PANEL


def in_chunks(case: Case, columns: list[np.ndarray], sizes: list[int]) -> list[np.ndarray]:
    """Outputs put together from calls of the given sizes, as a runtime that streams would make them."""
    plugin, parts, start = case.make(), [], 0
    state = None if isinstance(plugin, Feature) else plugin.start(columns[0].shape[1])
    for size in sizes:
        stop = start + size
        if state is None:
            # Exactly the rows that the outputs wanted need.
            first = max(0, start - plugin.lookback() + 1)
            result = plugin.compute(*(np.ascontiguousarray(c[first:stop]) for c in columns))
        else:
            first = start
            result = plugin.advance(state, *(np.ascontiguousarray(c[start:stop]) for c in columns))
        parts.append([out[start - first :] for out in (result if isinstance(result, tuple) else (result,))])
        start = stop
    return [np.vstack(column) for column in zip(*parts, strict=True)]


@pytest.mark.parametrize("case", ALL, ids=str)
def test_any_chunking_gives_the_same_bits(case: Case) -> None:
    columns = case.columns(BARS)
    whole = run(case.make(), columns)
    rng = np.random.default_rng(4)
    bars = len(columns[0])
    cuts = np.sort(rng.choice(np.arange(1, bars), 12, replace=False))
    for sizes in ([1] * bars, np.diff(cuts, prepend=0, append=bars).tolist()):
        for a, b in zip(in_chunks(case, columns, sizes), whole, strict=True):
            assert same_bits(a, b)


@pytest.mark.parametrize("case", WINDOWED + RECURSIVE, ids=str)
def test_symbols_know_nothing_of_each_other(case: Case) -> None:
    columns = case.columns(market(160, 500, seed=5))
    whole = run(case.make(), columns)
    rng = np.random.default_rng(6)
    for picked in ([0], [499], [3, 1], rng.permutation(500), rng.choice(500, 33, replace=False)):
        alone = run(case.make(), [np.ascontiguousarray(c[:, picked]) for c in columns])
        for a, b in zip(alone, whole, strict=True):
            assert same_bits(a, b[:, picked])


def test_the_order_of_symbols_permutes_the_ranks() -> None:
    (case,) = PANEL
    columns = case.columns(BARS)
    order = np.random.default_rng(7).permutation(7)
    (ranks,), (permuted,) = run(case.make(), columns), run(case.make(), [c[:, order] for c in columns])
    assert same_bits(permuted, ranks[:, order])


@pytest.mark.parametrize("case", WINDOWED + PANEL, ids=str)
def test_the_look_back_is_honest(case: Case) -> None:
    plugin, columns = case.make(), case.columns(BARS)
    need = plugin.lookback()
    for t in range(need - 1, 160, 13):
        exact = run(plugin, [np.ascontiguousarray(c[t - need + 1 : t + 1]) for c in columns])
        for a, b in zip(exact, run(plugin, columns), strict=True):
            assert same_bits(a[-1:], b[t : t + 1])
    # Not larger than needed: the oldest bar of the window matters to some output of some row.
    changed = [c.copy() for c in columns]
    for c in changed:
        c[0] = c[0, ::-1]
    before, after = run(plugin, columns), run(plugin, changed)
    row = slice(need - 1, need)
    assert any(not same_bits(a[row], b[row]) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("case", ALL, ids=str)
def test_the_future_changes_nothing(case: Case) -> None:
    columns = case.columns(BARS)
    whole = run(case.make(), columns)
    for t in (1, 40, 99, 158):
        changed = [c.copy() for c in columns]
        for c in changed:
            c[t + 1 :] = np.nan
        for a, b in zip(run(case.make(), changed), whole, strict=True):
            assert same_bits(a[: t + 1], b[: t + 1])


@pytest.mark.parametrize("case", ALL, ids=str)
def test_inputs_are_read_only_and_of_any_layout(case: Case) -> None:
    columns = case.columns(BARS)
    whole = run(case.make(), columns)
    frozen = [c.copy() for c in columns]
    for c in frozen:
        c.flags.writeable = False
    strided = [np.repeat(c, 2, axis=1)[:, ::2] for c in columns]
    for variant in (frozen, [np.asfortranarray(c) for c in columns], strided):
        for a, b in zip(run(case.make(), variant), whole, strict=True):
            assert same_bits(a, b)
    for a, b in zip(frozen, columns, strict=True):
        assert same_bits(a, b)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, 1e-12, 1e12], ids=str)
@pytest.mark.parametrize("case", WINDOWED + RECURSIVE, ids=str)
def test_a_bad_bar_warns_of_nothing_and_leaves_no_trace(case: Case, bad: float) -> None:
    columns = [c.copy() for c in case.columns(BARS)]
    for c in columns:
        c[80, :3] = bad
    plugin = case.make()
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        outputs = run(plugin, columns)
    gone = 80 + (plugin.lookback() if isinstance(plugin, Feature) else 1)
    for out, clean in zip(outputs, run(plugin, case.columns(BARS)), strict=True):
        assert np.isfinite(out[gone:]).all()
        assert same_bits(out[:, 3:], clean[:, 3:])
        if isinstance(plugin, Feature):
            assert same_bits(out[gone:], clean[gone:])
        if np.isnan(bad):
            assert np.isnan(out[80, :3]).all()


@pytest.mark.parametrize("level", [0.0, 1e-12, 1.0, 1e12], ids=str)
@pytest.mark.parametrize("case", ALL, ids=str)
def test_constant_columns_raise_and_warn_nothing(case: Case, level: float) -> None:
    columns = [np.full((120, 3), level) for _ in case.plugin.input_names()]
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        for out in run(case.make(), columns):
            assert out.shape == (120, 3)
            assert not np.isinf(out).any()


@pytest.mark.parametrize("case", ALL, ids=str)
def test_nothing_to_do_is_done(case: Case) -> None:
    for shape in ((0, 3), (1, 3), (5, 0)):
        for out in run(case.make(), [np.ones(shape) for _ in case.plugin.input_names()]):
            assert out.shape == shape
            assert out.dtype == np.float64


@pytest.mark.parametrize("case", RECURSIVE, ids=str)
def test_state_may_be_gathered_and_scattered(case: Case) -> None:
    """A runtime that advances any subset of the symbols gives the bits of each symbol alone."""
    columns, plugin = case.columns(BARS), case.make()
    whole = run(plugin, columns)
    state = plugin.start(7)
    got = [np.full((160, 7), np.nan) for _ in whole]
    rng = np.random.default_rng(8)
    for t in range(160):
        order = rng.permutation(7)
        for subset in (order[:3], order[3:]):
            part = {name: array[subset] for name, array in state.items()}
            result = plugin.advance(part, *(c[t : t + 1, subset] for c in columns))
            for out, column in zip(got, result if isinstance(result, tuple) else (result,), strict=True):
                out[t, subset] = column[0]
            for name, array in state.items():
                array[subset] = part[name]
    for a, b in zip(got, whole, strict=True):
        assert same_bits(a, b)
