"""The images that TensorFlow's converter calibrates with: in their places, and one batch of them in memory."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from evit_edge.converters.tflite import by_onnx2tf, onnx2tf_worker

from .test_by_onnx2tf import IMAGES, conversion


@pytest.mark.parametrize("io", ["nhwc", "nchw"])
def test_the_number_of_calibration_images_costs_no_memory_and_no_batch_is_short(tmp_path: Path, io: str) -> None:
    count, batch = 501, 4
    shape = (32, 48, 3) if io == "nhwc" else (3, 32, 48)
    images = (np.full((1, 3, 32, 48), index, np.float32) for index in range(count))
    tracemalloc.start()
    try:
        by_onnx2tf._save_calibration(images, conversion("int8", io=io), tmp_path / "images")
        given = [
            part["input_000"][:, 0, 0, 0].copy()
            for part in onnx2tf_worker._batches(tmp_path / "images", shape, batch)()
        ]
        # All of them are 9 MB.
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()
    assert np.concatenate(given).tolist() == [*range(count), 0, 1, 2]


def test_calibration_images_keep_their_places(tmp_path: Path) -> None:
    for io, expected in (("nchw", IMAGES), ("nhwc", IMAGES.transpose(0, 2, 3, 1))):
        by_onnx2tf._save_calibration((image[None] for image in IMAGES), conversion("int8", io=io), tmp_path / io)
        (part,) = onnx2tf_worker._batches(tmp_path / io, expected.shape[1:], len(IMAGES))()
        np.testing.assert_array_equal(part["input_000"], expected)
