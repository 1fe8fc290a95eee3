"""The linear classifier on disk, with and without its metadata."""

from pathlib import Path

import pytest

from . import linear_file


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(linear_file.content())
    return path


@pytest.fixture
def described(bare: Path) -> Path:
    return linear_file.describe(bare)
