"""A program as plain values: what coremltools wrote comes back, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evit_edge.converters.coreml import package
from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.program import Feature, TensorType
from evit_edge.models.errors import BadArtifact

from . import mil
from .calling import float32, int32, numbers, same
from .test_package import MODEL, change, refused


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Operators with a variadic input, two outputs and constants of several dtypes."""

    def function(mb: Any, x: Any) -> Any:
        left, right = mb.split(x=x, num_splits=2, axis=1, name="halves")
        joined = mb.concat(values=(right, left, x), axis=1, name="joined")
        kept = mb.slice_by_index(x=joined, begin=[0, 1], end=[0, 5], end_mask=[True, False])
        rows = mb.gather(x=kept, indices=np.uint16([2, 0]), axis=0)  # type: ignore[arg-type]
        return mb.linear(x=rows, weight=numbers((3, 4)), bias=float32([1, 2, 3]), name="out")

    return mil.program(function, {"x": (3, 6)}, "iOS16", "FLOAT32", tmp_path)


def test_operators_in_order(path: Path) -> None:
    program = programs.load(path)
    assert program.path == path
    assert (program.specification_version, program.opset) == (7, "CoreML6")
    kinds = [operation.kind for operation in program.operations]
    assert kinds == ["split", "concat", "slice_by_index", "gather", "linear"]
    halves, joined = program.operations[:2]
    assert halves.name == "halves"
    assert list(halves.outputs.values()) == [TensorType(dtype="float32", shape=(3, 3))] * 2
    assert joined.inputs["values"] == (*reversed(list(halves.outputs)), "x")
    assert program.results == tuple(program.operations[-1].outputs)
    assert {operation.blocks for operation in program.operations} == {()}
    assert program.inputs == (Feature(name="x", kind="tensor", shape=(3, 6), dtype="float32"),)
    assert [(feature.kind, feature.dtype) for feature in program.outputs] == [("tensor", "float32")]
    assert program.properties["com.github.apple.coremltools.version"]


def test_constants_of_several_dtypes(path: Path) -> None:
    program = programs.load(path)
    of = {
        (operation.kind, key): program.constants[names[0]]
        for operation in program.operations
        for key, names in operation.inputs.items()
        if names[0] in program.constants
    }
    for kind, key, want in (
        ("slice_by_index", "begin", int32([0, 1])),
        ("slice_by_index", "end_mask", np.array([True, False])),
        ("gather", "indices", np.array([2, 0], np.uint16)),
        ("gather", "axis", int32(0)),
        ("linear", "weight", numbers((3, 4))),
        ("linear", "bias", float32([1, 2, 3])),
    ):
        constant = of[kind, key]
        assert isinstance(constant.value, np.ndarray)
        assert constant.value.dtype == want.dtype
        assert constant.stored_bytes == want.nbytes
        same(constant.value, want)


def test_half_precision_and_strings(tmp_path: Path) -> None:
    def function(mb: Any, x: Any) -> Any:
        return mb.scatter(data=mb.add(x=x, y=0.1), indices=[1], updates=numbers((1, 2)), axis=0, mode="update")

    program = programs.load(mil.program(function, {"x": (2, 2)}, "iOS17", "FLOAT16", tmp_path))
    values = [constant.value for constant in program.constants.values()]
    halves = [value for value in values if isinstance(value, np.ndarray) and value.dtype == np.float16]
    assert sorted(value.shape for value in halves) == [(), (1, 2)]
    assert {float(value) for value in halves if value.shape == ()} == {float(np.float16(0.1))}
    assert "update" in values


def image(ct: Any, shape: Any, color: str) -> Any:
    return ct.ImageType(name="image", shape=shape, color_layout=getattr(ct.colorlayout, color))


@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_an_image(color: str, tmp_path: Path) -> None:
    x = torch.rand(1, 3, 6, 8)
    with mil.quiet():
        import coremltools as ct

        path = tmp_path / "model.mlpackage"
        ct.convert(
            torch.jit.trace(nn.Conv2d(3, 2, 1).eval(), x),
            inputs=[image(ct, tuple(x.shape), color)],
            outputs=[ct.TensorType(name="logits")],
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        ).save(str(path))
    program = programs.load(path)
    assert program.inputs == (Feature(name="image", kind="image", shape=(1, 3, 6, 8), dtype="uint8", color=color),)
    assert program.results == ("logits",)


def test_a_free_dimension_is_none(tmp_path: Path) -> None:
    x = torch.rand(2, 3)
    with mil.quiet():
        import coremltools as ct

        path = tmp_path / "model.mlpackage"
        ct.convert(
            torch.jit.trace(nn.Linear(3, 2).eval(), x),
            inputs=[ct.TensorType(name="x", shape=(ct.RangeDim(1, 8), 3))],
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        ).save(str(path))
    assert programs.load(path).inputs[0].shape == (None, 3)


def test_the_function_that_the_description_names(path: Path) -> None:
    change(path, lambda model: setattr(model.description, "defaultFunctionName", "other"))
    refused(path, "has no function other")


def test_an_opset_without_a_block(path: Path) -> None:
    change(path, lambda model: setattr(model.mlProgram.functions["main"], "opset", "CoreML99"))
    refused(path, "function main has no block for its opset CoreML99")


def test_a_constant_with_too_few_values(path: Path) -> None:
    def edit(model: Any) -> None:
        (block,) = model.mlProgram.functions["main"].block_specializations.values()
        for op in block.operations:
            value = op.attributes["val"].immediateValue.tensor if op.type == "const" else None
            if value is not None and value.WhichOneof("value") == "ints" and len(value.ints.values) == 2:
                del value.ints.values[1:]

    change(path, edit)
    refused(path, r"a constant of shape \(2,\) holds 1 values")


def test_a_feature_of_an_unknown_kind(path: Path) -> None:
    model = package.read(path).model
    model.description.input[0].type.sequenceType.SetInParent()
    (path / MODEL).write_bytes(model.SerializeToString())
    with pytest.raises(BadArtifact, match="x is a sequenceType, which no evit-edge program has"):
        programs.load(path)
