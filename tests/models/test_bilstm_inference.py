"""A prediction depends on its window alone: to the last bit, whoever asks, in whatever company."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from bilstm_support import COLUMNS, WINDOW, model, planted

from alpha_forge_plugins.models.pytorch_bilstm_predictor import BiLSTMPredictor
from alpha_forge_sdk import ModelError, ModelSpec

torch = pytest.importorskip("torch")

BATCH = BiLSTMPredictor.batch


@pytest.fixture
def loaded(trained: Path) -> BiLSTMPredictor:
    predictor = model(trained)
    predictor.load()
    return predictor


@pytest.fixture
def windows() -> np.ndarray:
    return planted(BATCH, seed=7)[0]


def bits(values: np.ndarray) -> list[int]:
    assert values.dtype == np.float64
    return list(values.view(np.uint64))


def test_the_model_says_what_it_reads_before_its_weights_are_loaded(trained: Path) -> None:
    assert model(trained).describe() == ModelSpec(tuple(COLUMNS), WINDOW)


def test_a_row_alone_has_the_bits_it_has_in_company(loaded: BiLSTMPredictor, windows: np.ndarray) -> None:
    together = bits(loaded.predict(windows))
    assert len(set(together)) > BATCH // 2, "a model that says the same of everything proves nothing here"
    for place in range(BATCH):
        alone = np.zeros_like(windows)
        alone[place] = windows[place]
        assert bits(loaded.predict(alone))[place] == together[place]


def test_a_row_has_the_same_bits_in_any_place(loaded: BiLSTMPredictor, windows: np.ndarray) -> None:
    together = np.array(bits(loaded.predict(windows)))
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(BATCH)
        assert (np.array(bits(loaded.predict(windows[order]))) == together[order]).all()


@pytest.mark.parametrize("company", [0.0, 1e30, -1e30, np.nan, np.inf])
def test_whatever_fills_the_other_rows_changes_nothing(
    loaded: BiLSTMPredictor, windows: np.ndarray, company: float
) -> None:
    together = bits(loaded.predict(windows))
    padded = np.full_like(windows, company)
    padded[:3] = windows[:3]
    assert bits(loaded.predict(padded))[:3] == together[:3]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("step", [0, WINDOW - 1])
def test_a_window_that_is_not_wholly_known_predicts_nothing(
    loaded: BiLSTMPredictor, windows: np.ndarray, bad: float, step: int
) -> None:
    together = bits(loaded.predict(windows))
    windows[5, step, 1] = bad
    got = loaded.predict(windows)
    assert np.isnan(got[5])
    assert [b for i, b in enumerate(bits(got)) if i != 5] == [b for i, b in enumerate(together) if i != 5]


def test_huge_inputs_are_cut_off_and_warn_nobody(
    loaded: BiLSTMPredictor, windows: np.ndarray, recwarn: pytest.WarningsRecorder
) -> None:
    windows[0] = np.finfo(np.float32).max
    windows[1] = np.finfo(np.float32).min
    assert np.isfinite(loaded.predict(windows)).all()
    assert not recwarn.list


def test_the_windows_are_not_written_to(loaded: BiLSTMPredictor, windows: np.ndarray) -> None:
    windows[3, 2, 1] = np.nan
    before = windows.copy()
    windows.flags.writeable = False
    loaded.predict(windows)
    np.testing.assert_array_equal(windows, before)


def test_a_window_laid_out_otherwise_in_memory_has_the_same_bits(
    loaded: BiLSTMPredictor, windows: np.ndarray
) -> None:
    assert bits(loaded.predict(np.asfortranarray(windows))) == bits(loaded.predict(windows))


def test_every_instance_gives_the_same_bits(trained: Path, windows: np.ndarray) -> None:
    answers = []
    for _ in range(3):
        predictor = model(trained)
        predictor.load()
        answers.append(bits(predictor.predict(windows)))
    assert answers[0] == answers[1] == answers[2]


def test_threads_at_work_together_give_the_same_bits(trained: Path, windows: np.ndarray) -> None:
    expected = {seed: [] for seed in range(4)}
    batches = {seed: planted(BATCH, seed=seed)[0] for seed in expected}
    predictor = model(trained)
    predictor.load()
    for seed, batch in batches.items():
        expected[seed] = bits(predictor.predict(batch))
    gate = threading.Barrier(4)

    def work(seed: int) -> bool:
        own = model(trained)
        own.load()
        gate.wait(30)
        return all(
            bits(which.predict(batches[seed])) == expected[seed]
            for _ in range(20)
            for which in (own, predictor)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_the_number_of_threads_makes_no_difference_to_the_bits(trained: Path, windows: np.ndarray) -> None:
    before = torch.get_num_threads()
    try:
        answers = []
        for threads in (1, 2):
            predictor = model(trained, threads=threads)
            predictor.load()
            assert torch.get_num_threads() == threads
            answers.append(bits(predictor.predict(windows)))
        assert answers[0] == answers[1]
    finally:
        torch.set_num_threads(before)


def test_loading_leaves_torchs_random_state_alone(trained: Path) -> None:
    before = torch.random.get_rng_state()
    model(trained).load()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_dropout_is_off(loaded: BiLSTMPredictor, windows: np.ndarray) -> None:
    torch.manual_seed(1)
    first = bits(loaded.predict(windows))
    torch.manual_seed(2)
    assert bits(loaded.predict(windows)) == first


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((BATCH - 1, WINDOW, 3), np.float32),
        ((BATCH + 1, WINDOW, 3), np.float32),
        ((BATCH, WINDOW + 1, 3), np.float32),
        ((BATCH, WINDOW, 2), np.float32),
        ((BATCH, WINDOW * 3), np.float32),
        ((BATCH, WINDOW, 3), np.float64),
    ],
)
def test_another_shape_or_type_is_refused(
    loaded: BiLSTMPredictor, shape: tuple[int, ...], dtype: type
) -> None:
    with pytest.raises(ModelError, match=r"\(32, 12, 3\)") as caught:
        loaded.predict(np.zeros(shape, dtype))
    assert caught.value.code == "AF7010"


def test_predicting_before_load_is_a_clear_error(trained: Path, windows: np.ndarray) -> None:
    with pytest.raises(ModelError, match="before load") as caught:
        model(trained).predict(windows)
    assert caught.value.code == "AF7011"


def test_an_unopened_model_travels_to_a_worker(trained: Path, windows: np.ndarray) -> None:
    there = pickle.loads(pickle.dumps(model(trained)))  # noqa: S301
    there.load()
    here = model(trained)
    here.load()
    assert bits(there.predict(windows)) == bits(here.predict(windows))
