"""Recurrent layers against PyTorch's, converted by coremltools or given MIL's order of gates, and step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor

from . import mil
from .calling import Array, float32, numbers, ours, same, saved

few = settings(max_examples=25, deadline=None)
CLOSE = 1e-5


def converted(module: nn.Module, x: torch.Tensor, target: str, folder: Path) -> Executor:
    with mil.quiet():
        import coremltools as ct

        model = ct.convert(
            torch.jit.trace(module.eval(), x),
            inputs=[ct.TensorType(name="x", shape=tuple(x.shape))],
            convert_to="mlprogram",
            minimum_deployment_target=getattr(ct.target, target),
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
        )
        path = folder / "model.mlpackage"
        model.save(str(path))
    return Executor(programs.load(path))


class Outputs(nn.Module):
    """Every output of a recurrent layer, flat."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sequence, state = self.layer(x)
        states = state if isinstance(state, tuple) else (state,)
        return torch.cat([part.flatten() for part in (sequence, *states)])


@pytest.mark.parametrize("target", ["iOS15", "iOS17"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, False), (1, True)])
def test_lstm_of_pytorch(layers: int, both: bool, bias: bool, target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Outputs(nn.LSTM(3, 4, layers, bias=bias, bidirectional=both, batch_first=True))
    x = torch.randn(2, 5, 3)
    with torch.no_grad():
        want = module(x).numpy()
    executor = converted(module, x, target, tmp_path)
    assert "lstm" in {operation.kind for operation in executor.program.operations}
    (got,) = executor.run({"x": x.numpy()}).values()
    same(got.numpy(), want, tolerance=CLOSE)


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_rnn_of_pytorch(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Outputs(nn.RNN(3, 4, nonlinearity=kind))
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        want = module(x).numpy()
    executor = converted(module, x, "iOS15", tmp_path)
    assert "rnn" in {operation.kind for operation in executor.program.operations}
    (got,) = executor.run({"x": x.numpy()}).values()
    same(got.numpy(), want, tolerance=CLOSE)


def by_gate(layer: nn.GRU) -> dict[str, Array]:
    """PyTorch has reset, update, new; MIL reset, new, update."""
    names = {"weight_ih": "weight_ih_l0", "weight_hh": "weight_hh_l0", "input_bias": "bias_ih_l0", "bias": "bias_hh_l0"}
    turned = {}
    for name, theirs in names.items():
        r, z, n = layer.state_dict()[theirs].chunk(3)
        turned[name] = torch.cat([r, n, z]).numpy()
    return turned


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("whole", [True, False], ids=["sequence", "last"])
def test_gru_of_pytorch_in_a_saved_program(whole: bool, direction: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.GRU(3, 4)
    x, h = torch.randn(5, 2, 3), torch.randn(1, 2, 4)
    with torch.no_grad():
        sequence, state = layer(x.flip(0) if direction == "reverse" else x, h)

    def function(mb: Any, x: Any, h: Any) -> Any:
        options = {"direction": direction, "output_sequence": whole, "reset_after": True}
        return mb.gru(x=x, initial_h=h, **by_gate(layer), **options)

    got = saved(function, {"x": x.numpy(), "h": h[0].numpy()}, "iOS18", tmp_path)
    same(got, ((sequence if whole else sequence[-1:]).numpy(), state[0].numpy()), tolerance=CLOSE)


def sigmoid(x: Array) -> Any:
    return 1 / (1 + np.exp(-x))


ACTIVATIONS: dict[str, Callable[[Array], Any]] = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "sigmoid_hard": lambda x: np.clip(x / 5 + 0.5, 0, 1),
}
some = st.sampled_from(sorted(ACTIVATIONS))


def small(shape: tuple[int, ...], seed: int) -> Array:
    """Weights that even a layer without a bounded activation stays finite with."""
    return numbers(shape, seed) / 4


@few
@given(st.integers(1, 4), st.integers(1, 3), st.booleans(), some, some, st.booleans())
def test_gru_that_resets_before(steps: int, size: int, whole: bool, inner: str, outer: str, reverse: bool) -> None:
    x, h = numbers((steps, 2, 3), 1), numbers((2, size), 2)
    weight_ih, weight_hh, bias = small((3 * size, 3), 3), small((3 * size, size), 4), small((3 * size,), 5)
    results, state = [], h
    for row in x[::-1] if reverse else x:
        w_r, w_o, w_z = np.split(row @ weight_ih.T + bias, 3, 1)
        u_r, u_o, u_z = np.split(weight_hh, 3)
        r = ACTIVATIONS[inner](w_r + state @ u_r.T)
        z = ACTIVATIONS[inner](w_z + state @ u_z.T)
        o = ACTIVATIONS[outer](w_o + (r * state) @ u_o.T)
        state = (1 - z) * o + z * state
        results.append(state)
    options: dict[str, Any] = {"direction": "reverse" if reverse else "forward", "output_sequence": np.bool_(whole)}
    options |= {"recurrent_activation": inner, "activation": outer, "bias": bias}
    got = ours("gru", x=x, initial_h=h, weight_ih=weight_ih, weight_hh=weight_hh, **options)
    same(got, (np.stack(results if whole else results[-1:]), state), tolerance=1e-4)


@few
@given(st.integers(1, 4), st.integers(1, 3), st.booleans(), some, st.booleans())
def test_rnn_by_steps(steps: int, size: int, whole: bool, outer: str, reverse: bool) -> None:
    x, h = numbers((steps, 2, 3), 1), numbers((2, size), 2)
    weight_ih, weight_hh, bias = small((size, 3), 3), small((size, size), 4), small((size,), 5)
    results, state = [], h
    for row in x[::-1] if reverse else x:
        state = ACTIVATIONS[outer](row @ weight_ih.T + state @ weight_hh.T + bias)
        results.append(state)
    options: dict[str, Any] = {"direction": "reverse" if reverse else "forward", "activation": outer}
    got = ours(
        "rnn",
        x=x,
        initial_h=h,
        weight_ih=weight_ih,
        weight_hh=weight_hh,
        bias=bias,
        output_sequence=np.bool_(whole),
        **options,
    )
    same(got, (np.stack(results if whole else results[-1:]), state), tolerance=1e-4)


def by_steps(
    x: Array, h: Array, c: Array, weights: tuple[Array, ...], clip: float, acts: tuple[str, str, str]
) -> tuple[list[Array], Array]:
    """An LSTM as the tests of coremltools define it, peephole and clip included."""
    weight_ih, weight_hh, bias, peephole = weights
    p_i, p_f, p_o = np.split(peephole, 3)
    inner, cell, outer = (ACTIVATIONS[name] for name in acts)
    results = []
    for row in x:
        a_i, a_f, a_o, a_z = np.split(row @ weight_ih.T + h @ weight_hh.T + bias, 4, 1)
        i, f, z = inner(a_i + c * p_i), inner(a_f + c * p_f), cell(a_z)
        c = np.clip(f * c + i * z, -clip, clip)
        h = inner(a_o + c * p_o) * outer(c)
        results.append(h)
    return results, c


@few
@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from(["forward", "reverse", "bidirectional"]),
    st.booleans(),
    st.tuples(some, some, some),
    st.sampled_from([0.3, math.inf]),
)
def test_lstm_with_peephole_and_clip(
    steps: int, size: int, direction: str, whole: bool, acts: tuple[str, str, str], clip: float
) -> None:
    ways = 2 if direction == "bidirectional" else 1
    x, h, c = numbers((steps, 2, 3), 1), numbers((2, ways * size), 2), numbers((2, ways * size), 3)
    shapes = ((4 * size, 3), (4 * size, size), (4 * size,), (3 * size,))
    names = ("weight_ih", "weight_hh", "bias", "peephole")
    inputs: dict[str, Any] = {}
    results, cells = [], []
    for way in range(ways):
        backward = way == 1 or direction == "reverse"
        weights = tuple(small(shape, 9 * way + seed) for seed, shape in enumerate(shapes, start=4))
        inputs |= {name + "_back" * way: weight for name, weight in zip(names, weights, strict=True)}
        states = [np.split(state, ways, 1)[way] for state in (h, c)]
        rows, cell = by_steps(x[::-1] if backward else x, states[0], states[1], weights, clip, acts)
        results.append((rows, rows[::-1] if way else rows))
        cells.append(cell)
    last = np.concatenate([rows[-1] for rows, _ in results], 1)
    sequence = np.concatenate([np.stack(rows) for _, rows in results], 2) if whole else last[None]
    named = dict(zip(("recurrent_activation", "cell_activation", "activation"), acts, strict=True))
    options: dict[str, Any] = {"direction": direction, "output_sequence": np.bool_(whole), **named}
    if clip < math.inf:
        options["clip"] = float32(clip)
    got = ours("lstm", x=x, initial_h=h, initial_c=c, **inputs, **options)
    same(got, (sequence, last, np.concatenate(cells, 1)), tolerance=1e-4)


def test_what_is_not_defined_is_refused() -> None:
    layer = {"x": numbers((2, 1, 3)), "initial_h": numbers((1, 2)), "weight_hh": numbers((2, 2))}
    with pytest.raises(ValueError, match="activation is scaled_tanh"):
        ours("rnn", weight_ih=numbers((2, 3)), activation="scaled_tanh", **layer)
    with pytest.raises(ValueError, match="direction is sideways"):
        ours("rnn", weight_ih=numbers((2, 3)), direction="sideways", **layer)
    both = {"x": numbers((2, 1, 3)), "initial_h": numbers((1, 4)), "initial_c": numbers((1, 4))}
    with pytest.raises(ValueError, match="way back"):
        ours("lstm", weight_ih=numbers((8, 3)), weight_hh=numbers((8, 2)), direction="bidirectional", **both)
