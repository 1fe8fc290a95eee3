"""Whole networks that are not ours: what coremltools converts, the executor runs, and it gives what PyTorch gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from evit_edge.converters.coreml import compress, int8
from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor
from evit_edge.converters.coreml.program import flattened
from evit_edge.converters.coreml.ranges import measure
from evit_edge.converters.to_coreml import TARGETS
from evit_edge.models.errors import ParityFailed, Unsupported

from ..tflite.engines import expected
from ..tflite.networks import SIZE
from ..tflite.photographs import photographs
from .damage import Damaged
from .networks import NETWORKS, network
from .saving import cosine, feeds, form, largest_error, run, saved, written

COUNT = 6
FAST = ("iOS15", "iOS18")
HALF = [pytest.param(target, marks=() if target in FAST else pytest.mark.slow) for target in TARGETS]
# Means of squares, as of LPPool2d, have twice the decades of what they are made of.
INTEGERS = dict.fromkeys(NETWORKS, 0.95) | {"pools": 0.85, "ViT": 0.94}
# coremltools 9 itself fails to quantize the activations of a loop.
del INTEGERS["GRU"]
QUICK = ("ResNet", "detector")


def asked(name: str) -> tuple[nn.Module, NDArray[Any], list[NDArray[Any]]]:
    """The network, photographs, and its own answers to them."""
    module, images = network(name), photographs(COUNT, SIZE)
    return module, images, expected(module, images)


@pytest.mark.parametrize("target", HALF)
@pytest.mark.parametrize("name", NETWORKS)
def test_half_precision(name: str, target: str, tmp_path: Path) -> None:
    module, images, wanted = asked(name)
    # The answers to other images would not do.
    assert cosine([np.roll(part, 1, axis=0) for part in wanted], wanted) < 0.99
    program = saved(written(module, form(module, images, target)), tmp_path)
    assert cosine(run(program, feeds(images)), wanted) >= 0.9995
    # What the program means is nearer: only its weights are rounded.
    assert cosine(run(program, feeds(images), rounding=False), wanted) >= 0.9999


@pytest.mark.parametrize("target", [pytest.param(target, marks=pytest.mark.slow) for target in TARGETS])
@pytest.mark.parametrize("name", NETWORKS)
def test_full_precision(name: str, target: str, tmp_path: Path) -> None:
    module, images, wanted = asked(name)
    found = run(saved(written(module, form(module, images, target, half=False)), tmp_path), feeds(images))
    assert largest_error(found, wanted) <= 1e-4
    assert cosine(found, wanted) >= 0.99999


def reduced(model: Any, precision: str, target: str) -> Any:
    if precision == "w8":
        return compress.quantize_weights(model)
    return compress.palettize(model, precision, grouped=target == "iOS18")


@pytest.mark.parametrize(("precision", "target"), [("w8", "iOS16"), ("pal8", "iOS16"), ("pal8", "iOS18")])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NETWORKS]
)
def test_small_weights(name: str, precision: str, target: str, tmp_path: Path) -> None:
    module, images, wanted = asked(name)
    model = reduced(written(module, form(module, images, target)), precision, target)
    program = saved(model, tmp_path)
    assert any(operation.kind.startswith("constexpr_") for operation in flattened(program.operations))
    assert cosine(run(program, feeds(images)), wanted) >= 0.99


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in INTEGERS]
)
def test_calibrated_int8(name: str, tmp_path: Path) -> None:
    module, images, wanted = asked(name)
    model = written(module, form(module, images, "iOS17"))
    program = saved(model, tmp_path)
    ranges = measure(program, feeds(photographs(32, SIZE, training=True)), rounding=False)
    small = saved(int8.quantize(model, program, ranges), tmp_path)
    assert any(operation.kind == "quantize" for operation in small.operations)
    assert cosine(run(small, feeds(images)), wanted) >= INTEGERS[name]


@pytest.mark.parametrize("half", [True, False])
def test_what_the_executor_does_not_know_is_refused_by_name(half: bool, tmp_path: Path) -> None:
    module, images = network("ResNet"), photographs(1, SIZE)
    whole = saved(written(module, form(module, images, "iOS15", half=half)), tmp_path)
    copy = Damaged(whole.path, tmp_path)
    for operation in copy.operations("max_pool"):
        operation.type = "newest_pool"
    copy.save()
    with pytest.raises(ParityFailed, match="does not know newest_pool") as refused:
        Executor(programs.load(copy.path))
    assert refused.value.exit_code == 5


def allowed(model: Any) -> list[int]:
    """The batches that a system may give: each of an enumeration, or the ends of a range."""
    (described,) = model.get_spec().description.input
    array = described.type.multiArrayType
    assert list(array.shape)[1:] == [3, SIZE, SIZE]
    if array.WhichOneof("ShapeFlexibility") == "enumeratedShapes":
        return [shape.shape[0] for shape in array.enumeratedShapes.shapes]
    if array.WhichOneof("ShapeFlexibility") == "shapeRange":
        sides = array.shapeRange.sizeRanges
        assert [(side.lowerBound, side.upperBound) for side in sides[1:]] == [(side, side) for side in (3, SIZE, SIZE)]
        return [sides[0].lowerBound, sides[0].upperBound]
    return [array.shape[0]]


@pytest.mark.parametrize("target", FAST)
@pytest.mark.parametrize(("batches", "ranged"), [((4,), False), ((1, 4, 8), False), ((1, 16), True)])
@pytest.mark.parametrize("name", ["ResNet", "ViT", pytest.param("detector", marks=pytest.mark.slow)])
def test_batches(name: str, batches: tuple[int, ...], ranged: bool, target: str, tmp_path: Path) -> None:
    module, images = network(name), photographs(16, SIZE)
    model = written(module, form(module, images, target, batches=batches, ranged=ranged))
    assert allowed(model) == list(batches)
    program = saved(model, tmp_path)
    for size in (*batches, *((3,) if ranged else ())):
        given = images[-size:]
        assert cosine(run(program, [{"x": given}]), expected(module, given)) >= 0.9995, size
    if len(batches) == 1:
        with pytest.raises(Unsupported, match="not"):
            run(program, [{"x": images[:3]}])
