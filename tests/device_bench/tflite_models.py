"""What the tests of TFLite's interpreters run: small files, and the manifest's records of their tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evit_edge.converters.artifact import Artifact, TensorRecord
from evit_edge.device_bench.session import RUNTIMES, Bound, Runtime, Session

from .conftest import CLASSES, SIZE, WEIGHTS
from .tflite_files import Op, Tensor, file


def is_interpreter(runtime: Runtime) -> bool:
    """Whether it opens TFLite files on every machine."""
    return runtime.opens("tflite") and not (runtime.original or isinstance(runtime, Bound))


NAMES = [name for name in RUNTIMES.names() if is_interpreter(RUNTIMES.load(name))]
DELEGATED = [name for name in NAMES if not name.endswith("_builtin")]

TENS, ONES = np.array([[10, 20, 30, 40]], np.float32), np.array([[1, 2, 3, 4]], np.float32)
PIXELS = 3 * SIZE * SIZE
# The file has channels last, the model second.
ROWS = WEIGHTS.reshape(3, SIZE, SIZE, CLASSES).transpose(3, 1, 2, 0).reshape(CLASSES, PIXELS)
INT8_STEP = float(np.abs(ROWS).max() / 127)
INT8_ROWS = np.round(ROWS / INT8_STEP).astype(np.int8)

INPUTS = (TensorRecord(name="pixels", shape=(None, SIZE, SIZE, 3), dtype="float32", layout="nhwc"),)
OUTPUTS = tuple(TensorRecord(name=name, shape=(None, CLASSES), dtype="float32") for name in ("probabilities", "logits"))
TENSORS: dict[str, Any] = {"inputs": INPUTS, "outputs": OUTPUTS}
WIDE_SHAPE = (1, 64, 64, 64)
WIDE = TensorRecord(name="x", shape=WIDE_SHAPE, dtype="float32")
PAIR = tuple(TensorRecord(name=name, shape=(1, 4), dtype="float32") for name in ("left", "right"))
ANSWERS = tuple(TensorRecord(name=name, shape=(1, 4), dtype="float32") for name in ("difference", "sum"))
SIGNATURE = ({"right": "t1", "left": "t0"}, {"sum": "t3", "difference": "t2"})
OWN_NAMES = ("left", "right", "difference", "sum")
CROSSED_NAMES = ("right", "left", "sum", "difference")
CROSSED = ({"right": "left", "left": "right"}, {"sum": "difference", "difference": "sum"})
STRANGERS = ({"x": "t0", "y": "t1"}, {"z": "t2", "w": "t3"})


def fixed(records: Sequence[TensorRecord], batch: int | None) -> tuple[TensorRecord, ...]:
    return tuple(record.model_copy(update={"shape": (batch, *record.shape[1:])}) for record in records)


def linear(*, batch: int | None = None) -> bytes:
    """The model of `conftest.save_model`, with both outputs in the other order than the manifest's."""
    return file(
        [
            Tensor(name="serving_default_pixels:0", shape=(batch, SIZE, SIZE, 3)),
            Tensor(name="weights", shape=ROWS.shape, data=ROWS),
            Tensor(name="Identity", shape=(batch, CLASSES)),
            Tensor(name="Identity_1", shape=(batch, CLASSES)),
        ],
        [
            Op(
                kind="FULLY_CONNECTED",
                inputs=["serving_default_pixels:0", "weights"],
                outputs=["Identity"],
                options_type="FullyConnectedOptions",
            ),
            Op(
                kind="SOFTMAX",
                inputs=["Identity"],
                outputs=["Identity_1"],
                options_type="SoftmaxOptions",
                options={"beta": 1.0},
            ),
        ],
        inputs=["serving_default_pixels:0"],
        outputs=["Identity", "Identity_1"],
        signature=(
            {"pixels": "serving_default_pixels:0"},
            {"logits": "Identity", "probabilities": "Identity_1"},
        ),
    )


def pair(names: Sequence[str] = ("t0", "t1", "t2", "t3"), *, signature: Any = None) -> bytes:
    """Of two inputs the difference and the sum, in this order."""
    left, right, difference, total = names
    return file(
        [Tensor(name=name, shape=(1, 4)) for name in names],
        [
            Op(kind="SUB", inputs=[left, right], outputs=[difference], options_type="SubOptions"),
            Op(kind="ADD", inputs=[left, right], outputs=[total], options_type="AddOptions"),
        ],
        inputs=[left, right],
        outputs=[difference, total],
        signature=signature,
    )


def convolution() -> bytes:
    """A 1x1 convolution of 64 channels with ones, large enough to be shared among threads."""
    return file(
        [
            Tensor(name="x", shape=WIDE_SHAPE),
            Tensor(name="weights", shape=(64, 1, 1, 64), data=np.ones((64, 1, 1, 64), np.float32)),
            Tensor(name="bias", shape=(64,), data=np.zeros(64, np.float32)),
            Tensor(name="y", shape=WIDE_SHAPE),
        ],
        [
            Op(
                kind="CONV_2D",
                inputs=["x", "weights", "bias"],
                outputs=["y"],
                options_type="Conv2DOptions",
                options={"strideW": 1, "strideH": 1},
            )
        ],
        inputs=["x"],
        outputs=["y"],
    )


def integers(*, scale: float, out_scale: float) -> bytes:
    """logits = flatten(pixels) @ WEIGHTS, rounded to INT8_STEP, with int8 in and out."""
    return file(
        [
            Tensor(name="pixels", shape=(None, SIZE, SIZE, 3), dtype="int8", scale=scale, zero_point=3),
            Tensor(name="weights", shape=ROWS.shape, dtype="int8", data=INT8_ROWS, scale=INT8_STEP),
            Tensor(name="logits", shape=(None, CLASSES), dtype="int8", scale=out_scale, zero_point=-5),
        ],
        [
            Op(
                kind="FULLY_CONNECTED",
                inputs=["pixels", "weights"],
                outputs=["logits"],
                options_type="FullyConnectedOptions",
                version=4,
            )
        ],
        inputs=["pixels"],
        outputs=["logits"],
    )


def opened(artifact: Artifact, name: str, *, threads: int = 1) -> Session:
    session: Session = RUNTIMES.load(name).open(artifact, threads=threads)
    return session


def pixels(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).standard_normal((count, 3, SIZE, SIZE), np.float32)


def last(images: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def logits(images: NDArray[Any]) -> NDArray[Any]:
    return images.reshape(len(images), -1) @ WEIGHTS
