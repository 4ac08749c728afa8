"""Training: it learns what is there, says what it found, and gives the same bits again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bilstm_support import COLUMNS, SMALL, WINDOW, Samples, fit, model, planted

from alpha_forge_plugins.models.bilstm_checkpoint import Scaler
from alpha_forge_plugins.models.pytorch_bilstm_predictor import BiLSTMPredictor
from alpha_forge_sdk import ModelError

torch = pytest.importorskip("torch")

BATCH = BiLSTMPredictor.batch


def served(predictor: BiLSTMPredictor, windows: np.ndarray) -> np.ndarray:
    """Predictions as the runtime asks for them, in zero-padded batches, without the product's helpers."""
    predictor.load()
    answers = []
    for start in range(0, len(windows), BATCH):
        part = windows[start : start + BATCH]
        padding = np.zeros((BATCH - len(part), *windows.shape[1:]), np.float32)
        answers.append(predictor.predict(np.concatenate([part, padding]))[: len(part)])
    return np.concatenate(answers)


def test_a_planted_signal_is_found(tmp_path: Path) -> None:
    validation = planted(1000, seed=2)
    result = model(tmp_path).fit(
        *planted(3000, seed=1),
        validation,
        columns=COLUMNS,
        options={"hidden": 16, "epochs": 12, "batch_size": 64, "learning_rate": 3e-3},
    )
    assert result.ratio <= 0.9
    assert result.information_coefficient > 0.4
    # Half of the variance is noise that nobody can know: less would mean that the answer leaked in.
    assert result.ratio > 0.3


def test_loaded_again_the_model_has_the_figures_that_training_reported(tmp_path: Path) -> None:
    result = fit(tmp_path)
    windows, targets = planted(150, seed=2)
    predicted = served(model(tmp_path), windows)
    assert float(np.mean((predicted - targets) ** 2)) == result.validation_mse
    naive = planted(300, seed=1)[1].mean()
    assert float(np.mean((naive - targets) ** 2)) == pytest.approx(result.naive_mse, rel=1e-12)
    assert np.corrcoef(predicted, targets)[0, 1] == pytest.approx(result.correlation, rel=1e-9)
    ranks = [np.argsort(np.argsort(values)) for values in (predicted, targets)]
    assert np.corrcoef(*ranks)[0, 1] == pytest.approx(result.information_coefficient, rel=1e-9)
    trained_on = planted(300, seed=1)
    assert np.mean((served(model(tmp_path), trained_on[0]) - trained_on[1]) ** 2) == pytest.approx(
        result.train_mse, rel=1e-12
    )


def test_the_checkpoint_says_what_it_is(tmp_path: Path) -> None:
    result = fit(tmp_path)
    content = json.loads((tmp_path / "small.unified.json").read_text())
    assert content["columns"] == COLUMNS
    assert content["window"] == WINDOW
    assert content["symbols"] == ["BTCUSDT", "ETHUSDT"]
    assert content["training_range"] == {"start": "2025-01-01T00:00:00Z", "end": "2025-02-01T00:00:00Z"}
    assert content["architecture"] == {"hidden": 8, "layers": 1, "dropout": 0.1, "bidirectional": True}
    assert content["validation"]["mse"] == result.validation_mse
    windows, targets = planted(300, seed=1)
    assert content["target"]["mean"] == targets.mean()
    np.testing.assert_allclose(content["scaler"]["mean"], windows.mean(axis=(0, 1), dtype=float), rtol=1e-5)
    np.testing.assert_allclose(content["scaler"]["scale"], windows.std(axis=(0, 1), dtype=float), rtol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "small.unified.json",
        "small.unified.safetensors",
    ]


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = fit(tmp_path / "a", dropout=0.5)
    torch.manual_seed(2)
    second = fit(tmp_path / "b", dropout=0.5)
    other = fit(tmp_path / "c", dropout=0.5, seed=1)
    assert first == second
    assert first != other
    for name in ("small.unified.json", "small.unified.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_cut_through_the_targets_tails_reaches_the_training(tmp_path: Path) -> None:
    assert fit(tmp_path, target_clip=0.5).train_mse != fit(tmp_path, target_clip=1e9).train_mse


def test_training_puts_torchs_state_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        state = torch.random.get_rng_state()
        fit(tmp_path)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_progress_is_told_after_each_epoch_in_units_of_the_naive_loss(tmp_path: Path) -> None:
    told: list[tuple[int, int, float, float]] = []
    result = model(tmp_path).fit(
        *planted(300, seed=1),
        planted(150, seed=2),
        lambda *args: told.append(args),
        columns=COLUMNS,
        options={**SMALL, "epochs": 3},
    )
    assert [(epoch, epochs) for epoch, epochs, _, _ in told] == [(1, 3), (2, 3), (3, 3)]
    best = told[result.best_epoch - 1][3]
    assert best == min(loss for *_, loss in told)
    assert best == pytest.approx(result.ratio, rel=1e-4)
    assert all(0.2 < loss < 2.0 for *_, train, validation in told for loss in (train, validation))


def test_training_stops_when_validation_gets_no_better_and_keeps_the_best(tmp_path: Path) -> None:
    # Targets that nothing explains: what is learned after the first epochs is noise.
    rng = np.random.default_rng(3)
    told: list[float] = []
    result = model(tmp_path).fit(
        planted(200, seed=1)[0],
        rng.normal(size=200),
        (planted(200, seed=2)[0], rng.normal(size=200)),
        lambda epoch, epochs, train, validation: told.append(validation),
        columns=COLUMNS,
        options={**SMALL, "epochs": 200, "patience": 3, "learning_rate": 1e-2},
    )
    assert result.epochs == len(told) < 200
    assert result.best_epoch == result.epochs - 3 == int(np.argmin(told)) + 1
    assert result.ratio == pytest.approx(min(told), rel=1e-4)


def test_an_interrupted_training_leaves_the_old_checkpoint(checkpoint: Path) -> None:
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model(checkpoint).fit(
            *planted(100, seed=1), planted(50, seed=2), interrupt, columns=COLUMNS, options=SMALL
        )
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == before


@pytest.mark.parametrize(
    "options",
    [
        {"layers": 2, "dropout": 0.2},
        {"bidirectional": False},
        {"loss": "huber"},
        {"target_clip": 0.5},
        {"samples_per_epoch": 50},
        {"dropout": 0.0, "batch_size": 7},
    ],
)
def test_every_option_gives_a_model_that_loads(tmp_path: Path, options: dict[str, Any]) -> None:
    result = fit(tmp_path, **{"epochs": 1, **options})
    windows, targets = planted(150, seed=2)
    predicted = served(model(tmp_path), windows)
    assert float(np.mean((predicted - targets) ** 2)) == result.validation_mse


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"hiden": 8}, "unknown training option 'hiden'"),
        ({"hidden": 0}, "'hidden' is 0"),
        ({"epochs": "many"}, "'epochs' is 'many'"),
        ({"loss": "mae"}, "'loss' is 'mae'"),
        ({"learning_rate": float("nan")}, "'learning_rate'"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        fit(tmp_path, **options)
    assert caught.value.code == "AF7006"
    assert caught.value.help
    assert not list(tmp_path.iterdir())


def bent(samples: Samples, windows: Any = None, targets: Any = None) -> Samples:
    return (samples[0] if windows is None else windows, samples[1] if targets is None else targets)


@pytest.mark.parametrize(
    ("training", "validation", "says"),
    [
        (bent(planted(60, 1), windows=np.zeros((60, 5, 3), np.float32)), planted(20, 2), "training windows"),
        (
            bent(planted(60, 1), windows=np.zeros((60, WINDOW, 2), np.float32)),
            planted(20, 2),
            "training windows",
        ),
        (bent(planted(60, 1), targets=np.zeros(59)), planted(20, 2), "training windows"),
        (planted(60, 1), bent(planted(20, 2), targets=np.zeros((20, 1))), "validation windows"),
        (bent(planted(60, 1), targets=np.full(60, np.nan)), planted(20, 2), "training part has 0"),
        (planted(60, 1), (np.zeros((0, WINDOW, 3), np.float32), np.zeros(0)), "validation part has 0"),
        (bent(planted(60, 1), targets=np.full(60, 0.5)), planted(20, 2), "same value"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(
    tmp_path: Path, training: Samples, validation: Samples, says: str
) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        model(tmp_path).fit(*training, validation, columns=COLUMNS, options=SMALL)
    assert caught.value.code == "AF7007"


def test_samples_that_are_not_wholly_known_are_left_out(tmp_path: Path) -> None:
    windows, targets = planted(100, seed=1)
    windows[3, 4, 1], targets[10] = np.nan, np.inf
    before = windows.copy()
    result = model(tmp_path / "a").fit(windows, targets, planted(50, seed=2), columns=COLUMNS, options=SMALL)
    assert (result.train_samples, result.validation_samples) == (98, 50)
    keep = np.delete(np.arange(100), [3, 10])
    same = model(tmp_path / "b").fit(
        windows[keep], targets[keep], planted(50, seed=2), columns=COLUMNS, options=SMALL
    )
    assert result == same
    np.testing.assert_array_equal(windows, before)


def test_a_training_that_diverges_says_so_and_writes_nothing(tmp_path: Path) -> None:
    windows, targets = planted(60, seed=1)
    with pytest.raises(ModelError, match="diverged") as caught:
        model(tmp_path).fit(
            windows, targets, (planted(20, seed=2)[0], np.full(20, 1e300)), columns=COLUMNS, options=SMALL
        )
    assert caught.value.code == "AF7008"
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match="can't be written") as caught:
        fit(tmp_path / "file" / "models")
    assert caught.value.code == "AF7009"


def test_a_constant_column_neither_divides_by_zero_nor_hides_the_others(tmp_path: Path) -> None:
    windows, targets = planted(100, seed=1)
    windows[:, :, 1] = 1e6 + 0.0625  # a constant whose sums round
    result = model(tmp_path).fit(windows, targets, planted(50, seed=2), columns=COLUMNS, options=SMALL)
    assert np.isfinite(result.train_mse)
    assert json.loads((tmp_path / "small.unified.json").read_text())["scaler"]["scale"][1] == 1.0


def test_the_scaler_gives_each_element_the_same_bits_in_any_shape() -> None:
    scaler = Scaler(mean=(0.1, -3.0), scale=(0.7, 1e-3), clip=5.0)
    windows = np.random.default_rng(0).normal(size=(9, 4, 2)).astype(np.float32)
    together = scaler.apply(windows)
    for i in range(9):
        np.testing.assert_array_equal(scaler.apply(windows[i : i + 1])[0], together[i])
    assert together.dtype == np.float32
    assert np.abs(together).max() <= 5.0
