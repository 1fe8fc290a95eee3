"""States: a sum that goes on from run to run, converted from a buffer of PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor
from evit_edge.converters.coreml.inspection import inspect
from evit_edge.converters.coreml.operators import table
from evit_edge.converters.coreml.program import TensorType

from . import mil
from .calling import float32


class Total(nn.Module):
    """What was given so far, and twice what was given before."""

    total: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(2, dtype=torch.float16))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        before = self.total * 2
        self.total.add_(x)
        return self.total * 1.0, before


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Executor:
    with mil.quiet():
        import coremltools as ct

        path: Path = tmp_path_factory.mktemp("states") / "model.mlpackage"
        ct.convert(
            torch.jit.trace(Total().eval(), torch.zeros(2, dtype=torch.float16)),
            inputs=[ct.TensorType(name="x", shape=(2,), dtype=np.float16)],
            outputs=[ct.TensorType(name="total_", dtype=np.float16), ct.TensorType(name="before", dtype=np.float16)],
            states=[ct.StateType(wrapped_type=ct.TensorType(shape=(2,), dtype=np.float16), name="total")],
            minimum_deployment_target=ct.target.iOS18,
            skip_model_load=True,
        ).save(str(path))
    return Executor(programs.load(path))


def run(executor: Executor, x: list[float], states: dict[str, torch.Tensor] | None = None) -> tuple[list[float], ...]:
    results = executor.run({"x": float32(x)}, states=states)
    return results["total_"].tolist(), results["before"].tolist()


def test_a_state_has_a_type(executor: Executor) -> None:
    assert executor.program.states == {"total": TensorType(dtype="float16", shape=(2,))}
    assert [feature.name for feature in executor.program.inputs] == ["x"]
    assert inspect(executor.program.path).operators["write_state"] == 1


def test_a_sequence_goes_on_where_it_was(executor: Executor) -> None:
    states, other = executor.states(), executor.states()
    assert run(executor, [1, 2], states) == ([1, 2], [0, 0])
    assert run(executor, [10, 20], states) == ([11, 22], [2, 4])
    assert run(executor, [5, 5], other) == ([5, 5], [0, 0])
    assert run(executor, [100, 0], states) == ([111, 22], [22, 44])
    assert states["total"].tolist() == [111, 22]


def test_a_run_without_states_is_the_first_of_a_sequence(executor: Executor) -> None:
    for _ in range(2):
        assert run(executor, [1, 2]) == ([1, 2], [0, 0])


def test_what_was_read_is_left_alone_by_writing() -> None:
    state = torch.zeros(2)
    before = table()["read_state"](input=state)
    assert table()["write_state"](input=state, data=torch.ones(2)) == ()
    assert (before.tolist(), state.tolist()) == ([0, 0], [1, 1])
