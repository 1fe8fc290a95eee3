"""What is read, counted and seen within blocks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor
from evit_edge.converters.coreml.inspection import inspect
from evit_edge.converters.coreml.program import TensorType, flattened
from evit_edge.converters.coreml.ranges import measure
from evit_edge.converters.coreml.trace import trace

from . import mil
from .calling import float32, numbers
from .test_control_flow import by_sign, doubled_until_100, kinds, loaded, ran


def test_blocks_are_plain_values(tmp_path: Path) -> None:
    program = loaded(by_sign, tmp_path)
    (holder,) = (operation for operation in program.operations if operation.blocks)
    true, false = holder.blocks
    assert true.inputs == false.inputs == {}
    assert [operation.kind for operation in true.operations] == ["mul", "add"]
    assert false.results == ("turned", "x")
    (three,) = true.operations[0].inputs["y"]
    assert program.constants[three].value == np.float32(3)
    order = [operation.kind for operation in flattened(program.operations)]
    assert order == [*kinds(program)[:-1], "mul", "add", "mul", "cond"]


def test_a_block_has_inputs_with_types(tmp_path: Path) -> None:
    program = loaded(doubled_until_100, tmp_path)
    condition, body = program.operations[-1].blocks
    float3, count = TensorType(dtype="float32", shape=(3,)), TensorType(dtype="int32", shape=())
    assert list(body.inputs.values()) == list(condition.inputs.values()) == [count, float3]
    assert body.results[1] == "doubled"


def in_a_loop(mb: Any, x: Any) -> Any:
    """A layer in a loop, and one before it."""
    y = mb.linear(x=x, weight=numbers((4, 4), 1) / 8, name="before")
    return mb.while_loop(
        _cond=lambda y: mb.less(x=mb.reduce_max(x=mb.abs(x=y), keep_dims=False), y=np.float32(8)),
        _body=lambda y: mb.linear(x=y, weight=numbers((4, 4), 2) / 8, bias=float32([1, 2, 3, 9]), name="within"),
        loop_vars=(y,),
    )


def test_a_layer_in_a_block_is_counted(tmp_path: Path) -> None:
    found = inspect(loaded(in_a_loop, tmp_path, (2, 4)).path)
    assert found.operators["linear"] == 2
    assert found.operators["while_loop"] == 1
    assert found.operators["less"] == 1
    # For one of two images, and one iteration.
    layers = {layer.name: (layer.weights, layer.weight_dtype, layer.arithmetic, layer.macs) for layer in found.layers}
    assert layers == dict.fromkeys(("before", "within"), (16, "float32", "float32", 16))


def test_compressed_weights_in_a_block(tmp_path: Path) -> None:
    program = loaded(in_a_loop, tmp_path / "whole", (2, 4), target="iOS16")
    with mil.quiet():
        import coremltools as ct
        from coremltools.optimize import coreml

        operation = coreml.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=0)
        model = ct.models.MLModel(str(program.path), skip_model_load=True)
        small = coreml.palettize_weights(model, coreml.OptimizationConfig(global_config=operation))
        small.save(str(tmp_path / "small.mlpackage"))
    path = tmp_path / "small.mlpackage"
    assert {layer.name: layer.weight_dtype for layer in inspect(path).layers} == {"before": "lut4", "within": "lut4"}
    x = numbers((2, 4)) / 9
    exact, rounded = ran(program, x=x), ran(programs.load(path), x=x)
    seen = []
    small_program = Executor(programs.load(path))
    small_program.run({"x": x}, observe=lambda operation, name, values: seen.append(operation.kind))
    # Made dense once, not in each iteration.
    assert set(seen) == {"linear", "abs", "reduce_max", "less", "while_loop"}
    assert 0 < np.abs(exact - rounded).max() < 0.1 * np.abs(exact).max()


def test_ranges_are_over_all_iterations(tmp_path: Path) -> None:
    found = measure(loaded(doubled_until_100, tmp_path), [{"x": float32([1, -1, 0.5])}], rounding=True)
    assert found["doubled"] == (-128, 128)


def test_a_trace_sums_over_all_iterations(tmp_path: Path) -> None:
    """1024.5 is no float16 from the second time on; the first loses nothing."""

    def function(mb: Any, x: Any) -> Any:
        return mb.while_loop(
            _cond=lambda y: mb.less(x=mb.reduce_max(x=y, keep_dims=False), y=np.float32(4096)),
            _body=lambda y: mb.relu(x=mb.add(x=y, y=np.float32(2048), name="added"), name="kept"),
            loop_vars=(x,),
        )

    program = loaded(function, tmp_path, (1,), "FLOAT16")
    found = {step.name.removesuffix("_cast_fp16"): step for step in trace(program, [{"x": float32([0.5])}])}
    # Meant are 2048.5 and 4096.5, found 2048 and 4096.
    decibels = 10 * math.log10((2048.5**2 + 4096.5**2) / (2 * 0.5**2))
    assert found["added"].largest == 4096.5
    assert found["added"].sqnr_db == pytest.approx(decibels, abs=1e-3)
    # What the block is given has an error in its second iteration.
    given = 10 * math.log10((0.5**2 + 2048.5**2) / 0.5**2)
    assert found["added"].lost_db == pytest.approx(given - decibels, abs=1e-3)
    assert found["kept"].lost_db == 0
    # The cast in the body loses nothing; the condition is given the same values, and the last one.
    both = 10 * math.log10((2 * (0.5**2 + 2048.5**2) + 4096.5**2) / (3 * 0.5**2))
    (cast,) = (
        step for step in found.values() if step.kind == "cast" and step.sqnr_db == pytest.approx(given, abs=1e-3)
    )
    assert cast.lost_db == pytest.approx(both - given, abs=1e-3)
    order = [step.kind for step in trace(program, [{"x": float32([0.5])}])]
    assert order.index("add") < order.index("relu") < order.index("while_loop")


def test_a_trace_of_a_loop_that_rounding_shortens(tmp_path: Path) -> None:
    """2047.5 rounds to 2048, which ends the loop an iteration earlier."""

    def function(mb: Any, x: Any) -> Any:
        return mb.while_loop(
            _cond=lambda y: mb.less(x=mb.reduce_max(x=y, keep_dims=False), y=np.float32(2048)),
            _body=lambda y: mb.add(x=y, y=np.float32(1023.5), name="added"),
            loop_vars=(x,),
        )

    program = loaded(function, tmp_path, (1,), "FLOAT16")
    feed = {"x": float32([0.5])}
    exact, rounded = (float(ran(program, rounding=rounding, **feed)[0]) for rounding in (False, True))
    assert (exact, rounded) == (3071, 2048)
    (added,) = (step for step in trace(program, [feed, feed]) if step.kind == "add")
    # 1024 exactly, then 2047.5 as 2048; the third has nothing beside it.
    decibels = 10 * math.log10((1024**2 + 2047.5**2) / 0.5**2)
    assert added.sqnr_db == pytest.approx(decibels, abs=1e-3)


def test_a_way_that_rounding_alone_takes_has_no_step(tmp_path: Path) -> None:
    def function(mb: Any, x: Any) -> Any:
        y = mb.add(x=x, y=np.float32(2048))
        pred = mb.greater(x=mb.reduce_max(x=y, keep_dims=False), y=np.float32(2048.0))
        return mb.cond(
            pred=pred,
            _true_fn=lambda: mb.mul(x=y, y=np.float32(2), name="larger"),
            _false_fn=lambda: mb.mul(x=y, y=np.float32(4), name="smaller"),
        )

    program = loaded(function, tmp_path, (1,), "FLOAT16")
    names = {step.name.removesuffix("_cast_fp16") for step in trace(program, [{"x": float32([0.5])}])}
    assert not names & {"larger", "smaller"}
    names = {step.name.removesuffix("_cast_fp16") for step in trace(program, [{"x": float32([2])}])}
    assert names & {"larger", "smaller"} == {"larger"}
