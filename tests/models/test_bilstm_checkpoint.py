"""Checkpoints that are missing, damaged, foreign or dangerous: each a clear error, none a traceback."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bilstm_support import model, params
from pydantic import ValidationError

from alpha_forge_plugins.models.pytorch_bilstm_predictor import BiLSTMPredictor
from alpha_forge_sdk import MissingExtraError, ModelError

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

NAME = "small.unified"


def refused(code: str, call: Callable[[], Any]) -> ModelError:
    with pytest.raises(ModelError) as caught:
        call()
    assert caught.value.code == code, caught.value
    assert caught.value.exit_code == 2
    assert caught.value.help
    return caught.value


def edit(directory: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = directory / f"{NAME}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def replace_weights(directory: Path, content: bytes) -> None:
    """Other weights, and a JSON that vouches for them."""
    (directory / f"{NAME}.safetensors").write_bytes(content)
    edit(directory, lambda c: c.update(weights_sha256=hashlib.sha256(content).hexdigest()))


class Bomb:
    """A pickle that would say so if it were ever read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.target),))


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_a_missing_file_is_named(checkpoint: Path, suffix: str) -> None:
    gone = checkpoint / f"{NAME}.{suffix}"
    gone.unlink()
    error = refused("AF7001", model(checkpoint).describe)
    assert str(gone) in error.message
    assert "alpha_forge train" in error.help
    refused("AF7001", model(checkpoint).load)


def test_a_missing_directory_is_a_missing_checkpoint(tmp_path: Path) -> None:
    refused("AF7001", model(tmp_path / "nowhere").describe)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"x"', b"{}", b"\xff\xfe", b"[" * 100_000, b'{"format": "something else"}'],
    ids=lambda content: repr(content[:12]),
)
def test_a_json_that_is_none_is_damaged(checkpoint: Path, content: bytes) -> None:
    (checkpoint / f"{NAME}.json").write_bytes(content)
    refused("AF7002", model(checkpoint).describe)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.pop("columns"), "columns"),
        (lambda c: c.update(columns=[]), "columns"),
        (lambda c: c.update(columns=["a", "a", "b"]), "twice"),
        (lambda c: c.update(columns=["a", "b"]), "3 means"),
        (lambda c: c["scaler"].update(scale=[1.0, 0.0, 1.0]), "scaler.scale.1"),
        (lambda c: c["scaler"].update(mean=[float("nan"), 0.0, 1.0]), "scaler.mean.0"),
        (lambda c: c["target"].update(scale=float("inf")), "target.scale"),
        (lambda c: c["architecture"].update(hidden=10**9), "architecture.hidden"),
        (lambda c: c["architecture"].update(layers="two"), "architecture.layers"),
        (lambda c: c.update(window=0), "window"),
        (lambda c: c.update(weights_sha256="abc"), "weights_sha256"),
        (lambda c: c.update(version=2), "version 2"),
    ],
)
def test_a_json_that_says_nonsense_is_damaged_and_says_where(
    checkpoint: Path, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    edit(checkpoint, change)
    assert says in refused("AF7002", model(checkpoint).describe).message


def test_a_note_in_the_json_does_no_harm(checkpoint: Path) -> None:
    edit(checkpoint, lambda c: c.update(note="trained on a Tuesday"))
    model(checkpoint).load()


def test_another_window_is_refused_with_the_right_one(checkpoint: Path) -> None:
    error = refused("AF7003", model(checkpoint, window_size=30).describe)
    assert "window_size: 12" in error.help
    refused("AF7003", model(checkpoint, window_size=30).load)


@pytest.mark.parametrize(
    ("suffix", "reference"),
    [(suffix, f"mine{suffix}") for suffix in (".pt", ".pth", ".pkl", ".bin", ".ckpt", ".PT")]
    + [(suffix, "mine") for suffix in (".pt", ".pth", ".pkl", ".bin", ".ckpt")],
)
def test_a_pickled_checkpoint_is_refused_unread(tmp_path: Path, suffix: str, reference: str) -> None:
    mark = tmp_path / "unpickled"
    (tmp_path / f"mine{suffix}").write_bytes(pickle.dumps(Bomb(mark)))
    predictor = model(tmp_path, reference)
    for call in (predictor.describe, predictor.load):
        error = refused("AF7004", call)
        assert f"mine{suffix}" in error.message
        assert "safetensors" in error.help
    assert not mark.exists()


def test_a_pickle_beside_a_whole_checkpoint_is_ignored(checkpoint: Path) -> None:
    (checkpoint / f"{NAME}.pt").write_bytes(b"anything")
    model(checkpoint).load()


def test_a_pickle_by_the_name_of_safetensors_is_refused_unread(checkpoint: Path, tmp_path: Path) -> None:
    mark = tmp_path / "unpickled"
    replace_weights(checkpoint, pickle.dumps(Bomb(mark)))
    refused("AF7004", model(checkpoint).load)
    torch.save({"head.bias": torch.zeros(1)}, checkpoint / "archive")
    replace_weights(checkpoint, (checkpoint / "archive").read_bytes())
    refused("AF7004", model(checkpoint).load)
    assert not mark.exists()


def test_nothing_is_ever_unpickled(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("something was unpickled")

    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, name, never)
    predictor = model(checkpoint)
    predictor.describe()
    predictor.load()


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"\x10\x00\x00\x00\x00\x00\x00\x00not json at all!"])
def test_weights_that_are_not_safetensors_are_damaged(checkpoint: Path, content: bytes) -> None:
    replace_weights(checkpoint, content)
    refused("AF7002", model(checkpoint).load)


def test_every_cut_and_every_flipped_byte_of_the_weights_is_seen(checkpoint: Path) -> None:
    path = checkpoint / f"{NAME}.safetensors"
    whole = path.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert "sha256" in refused("AF7005", model(checkpoint).load).message
    for place in (0, 100, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused("AF7005", model(checkpoint).load)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w.pop("head.bias"), "head.bias is absent"),
        (lambda w: w.update(extra=torch.zeros(2)), "extra is float32[2], not absent"),
        (lambda w: w.update({"head.weight": torch.zeros(1, 15)}), "head.weight is float32[1, 15]"),
        (lambda w: w.update({"head.bias": torch.zeros(1, dtype=torch.float64)}), "float64[1]"),
        (lambda w: w.update({"head.bias": torch.tensor([float("nan")])}), "not finite"),
    ],
)
def test_weights_of_another_network_are_refused(
    checkpoint: Path, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    weights = safetensors_torch.load_file(checkpoint / f"{NAME}.safetensors")
    change(weights)
    replace_weights(checkpoint, safetensors_torch.save(weights))
    assert says in refused("AF7005", model(checkpoint).load).message


def test_an_architecture_that_the_weights_do_not_have_is_refused(checkpoint: Path) -> None:
    edit(checkpoint, lambda c: c["architecture"].update(hidden=16))
    refused("AF7005", model(checkpoint).load)


@pytest.mark.parametrize("reference", ["", "../other", "a/b", "/etc/passwd", ".hidden", "a\\b", "a b"])
def test_a_reference_never_leaves_its_directory(tmp_path: Path, reference: str) -> None:
    with pytest.raises(ValidationError, match="model_ref"):
        params(tmp_path, reference)


def test_only_the_unified_strategy_exists(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="strategy"):
        params(tmp_path, strategy="per_symbol")


def test_the_examples_are_valid_and_every_field_is_described() -> None:
    for example in BiLSTMPredictor.examples:
        BiLSTMPredictor(BiLSTMPredictor.Params(**example))
    for fields in (BiLSTMPredictor.Params.model_fields, BiLSTMPredictor.FitOptions.model_fields):
        assert all(field.description for field in fields.values())


@pytest.mark.parametrize("absent", ["torch", "safetensors.torch"])
def test_without_torch_the_extra_is_named(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    predictor = model(checkpoint)
    predictor.describe()
    with pytest.raises(MissingExtraError, match="'torch'") as caught:
        predictor.load()
    assert caught.value.exit_code == 2


def test_describing_and_importing_pull_in_nothing_heavy(trained: Path) -> None:
    code = f"""
import sys
from alpha_forge_plugins.models.pytorch_bilstm_predictor import BiLSTMPredictor
params = BiLSTMPredictor.Params(window_size=12, checkpoint_dir={str(trained)!r}, model_ref={NAME!r})
BiLSTMPredictor(params).describe()
print(sorted(set(sys.modules) & {{"torch", "numpy", "pandas", "numba", "safetensors"}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
