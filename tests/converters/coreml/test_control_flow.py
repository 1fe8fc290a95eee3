"""Loops and conditions against PyTorch and by hand, and what is refused within them."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evit_edge.converters.coreml import ops_control
from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor
from evit_edge.converters.coreml.program import Operation, Program, flattened
from evit_edge.models.errors import BadArtifact, ParityFailed

from . import mil
from .calling import Array, float32, int32, numbers
from .test_package import change

Function = Callable[..., Any]


def loaded(
    function: Function, folder: Path, shape: tuple[int, ...] = (3,), precision: str = "FLOAT32", target: str = "iOS15"
) -> Program:
    return programs.load(mil.program(function, {"x": shape}, target, precision, folder))


def ran(program: Program, *, rounding: bool = True, **feeds: Array) -> Any:
    """The results as arrays, one alone without its tuple."""
    results = tuple(np.asarray(part) for part in Executor(program, rounding=rounding).run(feeds).values())
    return results if len(results) > 1 else results[0]


def converted(module: nn.Module, x: torch.Tensor, folder: Path, *, scripted: bool = False) -> Program:
    with mil.quiet():
        import coremltools as ct

        path = folder / "model.mlpackage"
        ct.convert(
            torch.jit.script(module.eval()) if scripted else torch.jit.trace(module.eval(), x),
            inputs=[ct.TensorType(name="x", shape=tuple(x.shape))],
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS15,
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
        ).save(str(path))
    return programs.load(path)


def kinds(program: Program) -> list[str]:
    return [operation.kind for operation in program.operations]


def doubled_until_100(mb: Any, x: Any) -> Any:
    """How often, and what is there then."""
    return mb.while_loop(
        _cond=lambda count, y: mb.less(x=mb.reduce_max(x=y, keep_dims=False), y=np.float32(100)),
        _body=lambda count, y: (mb.add(x=count, y=int32(1)), mb.mul(x=y, y=np.float32(2), name="doubled")),
        loop_vars=(mb.cast(x=mb.reduce_sum(x=mb.mul(x=x, y=np.float32(0)), keep_dims=False), dtype="int32"), x),
    )


def by_sign(mb: Any, x: Any) -> Any:
    return mb.cond(
        pred=mb.greater(x=mb.reduce_sum(x=x, keep_dims=False), y=np.float32(0)),
        _true_fn=lambda: (mb.mul(x=x, y=np.float32(3), name="tripled"), mb.add(x=x, y=np.float32(1))),
        _false_fn=lambda: (mb.mul(x=x, y=np.float32(-1), name="turned"), x),
    )


class First(nn.Module):
    """All states and the last ones of a recurrent layer, one behind the other."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, last = self.layer(x)
        return torch.cat([states.flatten(), last.flatten()])


@pytest.mark.parametrize(("layers", "both", "bias"), [(1, False, True), (2, False, False), (1, True, True)])
def test_gru_of_pytorch(layers: int, both: bool, bias: bool, tmp_path: Path) -> None:
    torch.manual_seed(layers)
    module = First(nn.GRU(3, 4, num_layers=layers, bidirectional=both, bias=bias)).eval()
    x = torch.from_numpy(numbers((6, 2, 3)))
    program = converted(module, x, tmp_path)
    assert kinds(program).count("while_loop") == layers * (1 + both)
    for seed in range(3):
        feed = numbers((6, 2, 3), seed)
        with torch.inference_mode():
            wanted = module(torch.from_numpy(feed)).numpy()
        np.testing.assert_allclose(ran(program, x=feed), wanted, rtol=1e-5, atol=1e-6)


class Collatz(nn.Module):
    """A loop that ends by its data, with a condition inside, as only a script has them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = torch.zeros(1)
        while bool(x > 1.5):
            if bool(torch.floor(x / 2) * 2 > x - 0.5):  # noqa: SIM108
                x = x / 2
            else:
                x = 3 * x + 1
            steps = steps + 1
        return steps


def test_a_script_with_a_loop(tmp_path: Path) -> None:
    program = converted(Collatz(), torch.zeros(1), tmp_path, scripted=True)
    assert {"while_loop", "cond"} <= {operation.kind for operation in flattened(program.operations)}
    # The lengths of Collatz' sequences.
    for start, steps in ((1, 0), (2, 1), (3, 7), (6, 8), (7, 16), (27, 111)):
        assert ran(program, x=float32([start])).tolist() == [steps]


def test_a_loop_runs_while_its_condition_holds(tmp_path: Path) -> None:
    program = loaded(doubled_until_100, tmp_path)
    for largest, times in ((1.0, 7), (60.0, 1), (100.0, 0), (1000.0, 0)):
        count, y = ran(program, x=float32([largest, -1, 0.5]))
        assert int(count) == times
        np.testing.assert_array_equal(y, float32([largest, -1, 0.5]) * 2**times)


def test_a_loop_of_one_value(tmp_path: Path) -> None:
    def function(mb: Any, x: Any) -> Any:
        return mb.while_loop(
            _cond=lambda y: mb.less(x=mb.reduce_sum(x=y, keep_dims=False), y=np.float32(10)),
            _body=lambda y: mb.add(x=y, y=x),
            loop_vars=(x,),
        )

    assert ran(loaded(function, tmp_path), x=float32([1, 2, 0])).tolist() == [4, 8, 0]


def test_a_condition_takes_one_of_two_ways(tmp_path: Path) -> None:
    program = loaded(by_sign, tmp_path)
    for x in (float32([1, 2, -1]), float32([1, -2, -1]), float32([0, 0, 0])):
        first, second = ran(program, x=x)
        np.testing.assert_array_equal(first, 3 * x if x.sum() > 0 else -x)
        np.testing.assert_array_equal(second, x + 1 if x.sum() > 0 else x)
    seen: list[str] = []
    Executor(program).run({"x": float32([1, 2, 3])}, observe=lambda operation, name, values: seen.append(name))
    assert "tripled" in seen
    assert "turned" not in seen


def test_blocks_within_blocks_see_what_is_around_them(tmp_path: Path) -> None:
    """Adds x as often as its first value says, and as it is or negative by turns."""

    def function(mb: Any, x: Any) -> Any:
        outer = mb.mul(x=x, y=np.float32(2), name="outer")
        times = mb.reduce_max(x=x, keep_dims=False)

        def body(count: Any, y: Any) -> Any:
            even = mb.equal(x=mb.floor_div(x=count, y=np.float32(2)), y=mb.real_div(x=count, y=np.float32(2)))
            step = mb.cond(pred=even, _true_fn=lambda: mb.identity(x=outer), _false_fn=lambda: mb.sub(x=x, y=outer))
            return mb.add(x=count, y=np.float32(1)), mb.add(x=y, y=step)

        start = mb.mul(x=times, y=np.float32(0))
        zeros = mb.mul(x=x, y=np.float32(0))
        return mb.while_loop(_cond=lambda count, y: mb.less(x=count, y=times), _body=body, loop_vars=(start, zeros))[1]

    program = loaded(function, tmp_path)
    for times in (0, 1, 2, 5):
        x = float32([times, -1, -3])
        wanted = (2 * x) * math.ceil(times / 2) - x * (times // 2)
        np.testing.assert_array_equal(ran(program, x=x), wanted)


def test_what_a_block_computes_is_gone_after_it(tmp_path: Path) -> None:
    """Six doublings one behind the other in a loop: the loop variable, one that is read and one that is given."""

    def function(mb: Any, x: Any) -> Any:
        def body(y: Any) -> Any:
            for _ in range(6):
                y = mb.mul(x=y, y=np.float32(2))
            return y

        return mb.while_loop(
            _cond=lambda y: mb.less(x=mb.reduce_max(x=y, keep_dims=False), y=np.float32(1e6)),
            _body=body,
            loop_vars=(x,),
        )

    alive: list[weakref.ref[torch.Tensor]] = []
    counts = []

    def see(operation: Operation, name: str, values: torch.Tensor) -> None:
        if operation.kind == "mul":
            alive.append(weakref.ref(values))
            counts.append(sum(reference() is not None for reference in alive))

    Executor(loaded(function, tmp_path)).run({"x": float32([1, 2, 3])}, observe=see)
    assert len(counts) > 12
    assert max(counts) == 3


def test_a_value_is_kept_for_the_blocks_that_read_it(tmp_path: Path) -> None:
    """`early` is read inside alone, and long after it was computed."""

    def function(mb: Any, x: Any) -> Any:
        early = mb.mul(x=x, y=np.float32(5))
        late = x
        for _ in range(3):
            late = mb.abs(x=mb.sub(x=late, y=np.float32(1)))
        pred = mb.less(x=mb.reduce_sum(x=late, keep_dims=False), y=np.float32(1000))
        return mb.cond(pred=pred, _true_fn=lambda: mb.add(x=early, y=late), _false_fn=lambda: mb.identity(x=early))

    x = float32([4, 5, 6])
    np.testing.assert_array_equal(ran(loaded(function, tmp_path), x=x), 5 * x + (x - 3))


def inner(model: Any) -> Any:
    """The operators of the last block but constants."""
    (main,) = model.mlProgram.functions["main"].block_specializations.values()
    (holder,) = (operation for operation in main.operations if operation.blocks)
    return [operation for operation in holder.blocks[-1].operations if operation.type != "const"]


def test_an_operator_in_a_block_that_is_not_known_is_named(tmp_path: Path) -> None:
    path = loaded(doubled_until_100, tmp_path).path
    change(path, lambda model: setattr(inner(model)[-1], "type", "whirl"))
    with pytest.raises(ParityFailed, match=r"does not know whirl \("):
        Executor(programs.load(path))


def test_an_operator_in_a_block_that_fails_is_named(tmp_path: Path) -> None:
    path = loaded(doubled_until_100, tmp_path).path
    change(path, lambda model: setattr(inner(model)[-1], "type", "concat"))
    with pytest.raises(BadArtifact, match=r"concat doubled cannot be executed: "):
        ran(programs.load(path), x=float32([1, 1, 1]))


def test_a_block_is_given_what_it_declares(tmp_path: Path) -> None:
    path = loaded(doubled_until_100, tmp_path).path

    def edit(model: Any) -> None:
        (main,) = model.mlProgram.functions["main"].block_specializations.values()
        main.operations[-1].blocks[1].inputs[1].type.tensorType.dimensions[0].constant.size = 4

    change(path, edit)
    with pytest.raises(BadArtifact, match=r"while_loop \S+ gives \(3,\), the program says \(4,\)"):
        ran(programs.load(path), x=float32([1, 1, 1]))


def test_two_constants_of_one_name_are_refused(tmp_path: Path) -> None:
    path = loaded(by_sign, tmp_path).path

    def edit(model: Any) -> None:
        (main,) = model.mlProgram.functions["main"].block_specializations.values()
        true, false = main.operations[-1].blocks
        false.operations[0].outputs[0].name = true.operations[0].outputs[0].name

    change(path, edit)
    with pytest.raises(BadArtifact, match="has two constants"):
        programs.load(path)


def test_a_loop_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ops_control.LIMIT == 1_000_000
    monkeypatch.setattr(ops_control, "LIMIT", 50)
    program = loaded(doubled_until_100, tmp_path)
    assert int(ran(program, x=float32([1, 0, 0]))[0]) == 7
    with pytest.raises(BadArtifact, match=r"while_loop \S+ cannot be executed: it has not ended after 50") as caught:
        ran(program, x=float32([0, 0, 0]))
    assert "\n" not in str(caught.value)
