"""What is found in a package: multiplications and bytes by hand, in packages of ours and of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from evit_edge.converters.artifact import TensorRecord
from evit_edge.converters.conversion import CONVERTERS
from evit_edge.converters.coreml import metadata
from evit_edge.converters.coreml.inspection import inspect, layers
from evit_edge.converters.coreml.program import load
from evit_edge.converters.coreml.toolkit import quiet
from evit_edge.converters.coreml.writer import Form, write
from evit_edge.converters.inspection import Layer, look
from evit_edge.models.errors import BadArtifact

from . import mil, tiny
from .calling import numbers
from .tiny import LABELS, SIZE, planned, spec, written


def figures(layer: Layer) -> tuple[str, int, str, int, str, int]:
    return (layer.kind, layer.weights, layer.weight_dtype, layer.weight_bytes, layer.arithmetic, layer.macs)


CASES: Any = {
    # 8 × 8 places, 6 outputs, 3 × 3 × 4 factors.
    "conv": (
        lambda mb, x: mb.conv(x=x, weight=numbers((6, 4, 3, 3)), pad_type="same"),
        {"x": (1, 4, 8, 8)},
        ("conv", 216, 216 * 4, 8 * 8 * 6 * 36),
    ),
    "strided conv in groups": (
        lambda mb, x: mb.conv(x=x, weight=numbers((6, 2, 3, 3)), groups=2, strides=[2, 2], pad_type="valid"),
        {"x": (1, 4, 9, 9)},
        ("conv", 108, 108 * 4, 4 * 4 * 6 * 18),
    ),
    "depthwise conv": (
        lambda mb, x: mb.conv(x=x, weight=numbers((4, 1, 5, 5)), groups=4, pad_type="same"),
        {"x": (1, 4, 8, 8)},
        ("conv", 100, 100 * 4, 8 * 8 * 4 * 25),
    ),
    # Each of 4 × 4 × 3 values meets 5 outputs of 2 × 2.
    "conv_transpose": (
        lambda mb, x: mb.conv_transpose(x=x, weight=numbers((3, 5, 2, 2)), strides=[2, 2]),
        {"x": (1, 3, 4, 4)},
        ("conv_transpose", 60, 60 * 4, 4 * 4 * 3 * 5 * 4),
    ),
    "conv_transpose in groups": (
        lambda mb, x: mb.conv_transpose(x=x, weight=numbers((4, 3, 2, 2)), strides=[2, 2], groups=2),
        {"x": (1, 4, 4, 4)},
        ("conv_transpose", 48, 48 * 4, 4 * 4 * 4 * 3 * 4),
    ),
    "linear": (
        lambda mb, x: mb.linear(x=x, weight=numbers((7, 5)), bias=numbers((7,))),
        {"x": (3, 5)},
        ("linear", 35, 35 * 4, 3 * 7 * 5),
    ),
    "matmul": (lambda mb, x, y: mb.matmul(x=x, y=y), {"x": (2, 3, 4), "y": (2, 4, 5)}, ("matmul", 0, 0, 2 * 3 * 5 * 4)),
    "matmul, x turned": (
        lambda mb, x, y: mb.matmul(x=x, y=y, transpose_x=True),
        {"x": (2, 4, 3), "y": (2, 4, 5)},
        ("matmul", 0, 0, 2 * 3 * 5 * 4),
    ),
    "matmul, y turned and constant": (
        lambda mb, x: mb.matmul(x=x, y=numbers((5, 4)), transpose_y=True),
        {"x": (3, 4)},
        ("matmul", 20, 80, 3 * 5 * 4),
    ),
    "matmul, x constant": (
        lambda mb, x: mb.matmul(x=numbers((3, 4)), y=x),
        {"x": (4, 5)},
        ("matmul", 12, 48, 3 * 5 * 4),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_multiplications_and_bytes_of_each_operator(tmp_path: Path, case: str) -> None:
    function, inputs, (kind, weights, stored, macs) = CASES[case]
    (layer,) = layers(load(mil.program(function, inputs, "iOS15", "FLOAT32", tmp_path)))
    dtype = "float32" if weights else ""
    assert figures(layer) == (kind, weights, dtype, stored, "float32", macs)


def test_weights_that_two_layers_share_lie_in_the_file_once(tmp_path: Path) -> None:
    def function(mb: Any, x: Any) -> Any:
        weights = mb.const(val=numbers((4, 4)))
        return mb.linear(x=mb.linear(x=x, weight=weights), weight=weights)

    found = inspect(mil.program(function, {"x": (1, 4)}, "iOS15", "FLOAT32", tmp_path))
    assert [(layer.weights, layer.weight_bytes, layer.macs) for layer in found.layers] == [(16, 64, 16), (16, 0, 16)]


def test_a_package_of_others_is_told_from_itself_alone(tmp_path: Path) -> None:
    path = mil.program(
        lambda mb, x: mb.relu(x=mb.linear(x=x, weight=numbers((7, 5))), name="y"),
        {"x": (1, 5)},
        "iOS16",
        "FLOAT16",
        tmp_path,
    )
    found = look(path)
    assert (found.target, found.asked, found.inspection.precision) == ("coreml", None, "fp16")
    assert dict(found.inspection.operators) == {"cast": 2, "linear": 1, "relu": 1}
    assert found.inspection.inputs == (TensorRecord(name="x", shape=(1, 5), dtype="float32"),)
    assert [record.dtype for record in found.inspection.outputs] == ["float32"]
    assert found.size_bytes == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    with pytest.raises(BadArtifact, match=r"has no evit-edge\.card: it was not written here"):
        CONVERTERS.load("coreml").card_of(path)


WIDE, NARROW = 256 * 16, 64 * 256
# Per channel a float16 scale; a zero point as large as a weight and an axis in the form of iOS 16 and 17.
SCALES = {256: 256 * 3 + 4, 64: 64 * 3 + 4}


@pytest.mark.parametrize(
    ("precision", "ios", "dtype", "arithmetic", "wide", "narrow"),
    [
        ("fp32", "auto", "float32", "float32", 4 * WIDE, 4 * NARROW),
        ("fp16", "auto", "float16", "float16", 2 * WIDE, 2 * NARROW),
        ("w8", "auto", "int8", "float16", WIDE + SCALES[256], NARROW + SCALES[64]),
        ("w8", "iOS18", "int8", "float16", WIDE + 2 * 256, NARROW + 2 * 64),
        ("int8", "auto", "int8", "int8", WIDE + SCALES[256], NARROW + SCALES[64]),
        ("pal8", "auto", "lut8", "float16", WIDE + 2 * 256, NARROW + 2 * 256),
        ("pal6", "auto", "lut6", "float16", WIDE * 6 // 8 + 2 * 64, NARROW * 6 // 8 + 2 * 64),
        ("pal4", "auto", "lut4", "float16", WIDE // 2 + 2 * 16, NARROW // 2 + 2 * 16),
        # A palette for every 16 channels.
        ("pal4", "iOS18", "lut4", "float16", WIDE // 2 + 16 * 2 * 16, NARROW // 2 + 4 * 2 * 16),
        ("pal6", "iOS18", "lut6", "float16", WIDE * 6 // 8 + 16 * 2 * 64, NARROW * 6 // 8 + 4 * 2 * 64),
    ],
)
def test_what_is_stored_of_each_precision(
    tmp_path: Path, precision: str, ios: str, dtype: str, arithmetic: str, wide: int, narrow: int
) -> None:
    found = inspect(written(planned(precision, ios=ios), tmp_path))
    stem, depthwise, *large, head = found.layers
    assert [figures(layer) for layer in large] == [
        ("conv", WIDE, dtype, wide, arithmetic, 64 * WIDE),
        ("conv", NARROW, dtype, narrow, arithmetic, 64 * NARROW),
    ]
    # Small weights are sensitive and few: only int8 arithmetic takes them along, and not the depthwise ones.
    small = {"fp32": "float32"}.get(precision, "float16")
    taken = "int8" if precision == "int8" else small
    assert (stem.weight_dtype, depthwise.weight_dtype, head.weight_dtype) == (taken, small, taken)
    assert (stem.macs, depthwise.macs, head.macs) == (64 * 16 * 27, 64 * 16 * 9, 64 * 5)
    assert found.precision == precision


@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
def test_weights_without_their_zeros(tmp_path: Path, target: str) -> None:
    form = Form(target=target, shape=(3, SIZE, SIZE), inputs=["image"], outputs=["logits"], half=True)
    with quiet():
        model = write(spec().build(), form)
        from coremltools.optimize import coreml

        config = coreml.OpMagnitudePrunerConfig(target_sparsity=0.75, weight_threshold=4096)
        pruned = coreml.prune_weights(model, coreml.OptimizationConfig(global_config=config))
    metadata.save(pruned, tmp_path / "model.mlpackage")
    found = inspect(tmp_path / "model.mlpackage")
    narrow = next(layer for layer in found.layers if layer.weights == NARROW)
    assert figures(narrow)[:3] == ("conv", NARROW, "sparse float16")
    # A bit for each, and two bytes for every fourth; some more are zero in float16.
    assert narrow.weight_bytes == pytest.approx(NARROW // 8 + NARROW // 4 * 2, abs=32)


def test_macs_are_those_of_one_image_whatever_the_batch(tmp_path: Path) -> None:
    one = inspect(written(planned("fp32"), tmp_path / "one"))
    four = inspect(written(planned("fp32", batch=4), tmp_path / "four"))
    free = inspect(written(planned("fp32", batch=None), tmp_path / "free"))
    assert one.macs == four.macs == free.macs == 64 * (16 * 27 + 16 * 9 + WIDE + NARROW) + 64 * 5
    assert [record.shape[0] for each in (one, four, free) for record in each.inputs] == [1, 4, None]


def test_pictures_and_labels_are_told_as_such(tmp_path: Path) -> None:
    found = inspect(written(planned(input="image", output="classifier"), tmp_path))
    assert found.inputs == (TensorRecord(name="image", shape=(1, SIZE, SIZE, 3), dtype="uint8", layout="nhwc"),)
    assert [record.dtype for record in found.outputs] == ["string", "dictionary"]


class Large(nn.Module):
    """Between the last two layers are numbers that float16 cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        self.network = tiny.Network()
        with torch.no_grad():
            for parameter in self.network.wide.parameters():
                parameter.mul_(1e6)
            self.network.narrow.weight.mul_(1e-6)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network(image)  # type: ignore[no-any-return]


def test_layers_that_the_file_declares_to_be_in_float32_do_not_count(tmp_path: Path) -> None:
    large, path = spec(build=Large), tmp_path / "model.mlpackage"
    (note,) = CONVERTERS.load("coreml").convert(large.build(), planned(of=large), path)
    found = inspect(path)
    wide, narrow = (next(layer for layer in found.layers if layer.weights == size) for size in (WIDE, NARROW))
    assert {wide.name, narrow.name} <= found.excepted
    assert all(layer.name in note for layer in (wide, narrow))
    assert (wide.arithmetic, narrow.arithmetic) == ("float32", "float32")
    assert found.precision == "fp16"
    assert len(LABELS) in {record.shape[-1] for record in found.outputs}
