"""A small trained checkpoint that the tests copy, damage and load."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bilstm_support import fit


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a checkpoint ``small.unified``. Not to be changed: see `checkpoint`."""
    directory = tmp_path_factory.mktemp("trained")
    fit(directory)
    return directory


@pytest.fixture
def checkpoint(trained: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint that a test may damage."""
    for path in trained.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path
