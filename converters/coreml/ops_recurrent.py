"""Recurrent layers over (sequence, batch, features).

With direction `reverse` the steps of the result come in the order in which they are computed, from the last input to
the first, as coremltools' own tests demand; the backward half of a bidirectional layer lies beside the input it read.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .operators import operator

Activation = Callable[[torch.Tensor], torch.Tensor]
Given = torch.Tensor | None

# `scaled_tanh` is left out: nothing says which two constants it has inside of a recurrent layer.
ACTIVATIONS: dict[str, Activation] = {
    "linear": lambda x: x,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "sigmoid_hard": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "tanh": torch.tanh,
}


@operator
def rnn(
    x: torch.Tensor,
    initial_h: torch.Tensor,
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    *,
    bias: Given = None,
    direction: str = "forward",
    output_sequence: torch.Tensor | bool = False,
    activation: str = "tanh",
) -> tuple[torch.Tensor, torch.Tensor]:
    """One gate."""
    act, h, steps = _activation(activation), initial_h, []
    for taken in _inputs(x, weight_ih, bias, direction):
        h = act(taken + h @ weight_hh.T)
        steps.append(h)
    return _sequence(steps, output_sequence), h


@operator
def gru(
    x: torch.Tensor,
    initial_h: torch.Tensor,
    weight_ih: torch.Tensor,
    weight_hh: torch.Tensor,
    *,
    bias: Given = None,
    direction: str = "forward",
    output_sequence: torch.Tensor | bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: torch.Tensor | bool = False,
    input_bias: Given = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gates in the order reset, output, update; with `reset_after` the state is reset behind its product and bias."""
    inner, outer = _activation(recurrent_activation), _activation(activation)
    h, steps = initial_h, []
    size = initial_h.shape[-1]
    hidden_bias = torch.zeros(3 * size) if bias is None else bias
    gates, turned = slice(0, 2 * size), weight_hh.T
    for taken in _inputs(x, weight_ih, input_bias, direction):
        taken_r, taken_o, taken_z = taken.chunk(3, -1)
        r = inner(taken_r + h @ turned[:, :size] + hidden_bias[:size])
        z = inner(taken_z + h @ turned[:, gates.stop :] + hidden_bias[gates.stop :])
        ours, ours_bias = turned[:, size : gates.stop], hidden_bias[size : gates.stop]
        kept = r * (h @ ours + ours_bias) if reset_after else (r * h) @ ours + ours_bias
        h = (1 - z) * outer(taken_o + kept) + z * h
        steps.append(h)
    return _sequence(steps, output_sequence), h


@operator
def lstm(
    x: torch.Tensor,
    initial_h: torch.Tensor,
    initial_c: torch.Tensor,
    weight_ih: torch.Tensor,
    *,
    weight_hh: torch.Tensor,
    bias: Given = None,
    peephole: Given = None,
    weight_ih_back: Given = None,
    weight_hh_back: Given = None,
    bias_back: Given = None,
    peephole_back: Given = None,
    direction: str = "forward",
    output_sequence: torch.Tensor | bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: Given = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gates in the order input, forget, output, cell; `clip` bounds the cell's state, as in coremltools' own tests."""
    acts = (_activation(recurrent_activation), _activation(cell_activation), _activation(activation))
    if direction != "bidirectional":
        inputs = _inputs(x, weight_ih, bias, direction)
        steps, c = _lstm(inputs, initial_h, initial_c, weights=(weight_hh, peephole), clip=clip, acts=acts)
        return _sequence(steps, output_sequence), steps[-1], c
    if weight_ih_back is None or weight_hh_back is None:
        raise ValueError("a bidirectional layer has no weights for the way back")
    h, h_back = initial_h.chunk(2, -1)
    c, c_back = initial_c.chunk(2, -1)
    inputs = _inputs(x, weight_ih, bias, "forward")
    there, c = _lstm(inputs, h, c, weights=(weight_hh, peephole), clip=clip, acts=acts)
    inputs = _inputs(x, weight_ih_back, bias_back, "reverse")
    back, c_back = _lstm(inputs, h_back, c_back, weights=(weight_hh_back, peephole_back), clip=clip, acts=acts)
    last = torch.cat([there[-1], back[-1]], -1)
    both = [torch.cat(pair, -1) for pair in zip(there, reversed(back), strict=True)]
    return torch.stack(both) if output_sequence else last[None], last, torch.cat([c, c_back], -1)


def _lstm(
    inputs: torch.Tensor,
    h: torch.Tensor,
    c: torch.Tensor,
    *,
    weights: tuple[torch.Tensor, Given],
    clip: Given,
    acts: tuple[Activation, Activation, Activation],
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Every hidden state in the order of computation, and the last cell's state."""
    inner, cell, outer = acts
    weight_hh, peephole = weights
    see_i, see_f, see_o = (torch.zeros(3) if peephole is None else peephole).chunk(3)
    steps = []
    for taken in inputs:
        i, f, o, z = (taken + h @ weight_hh.T).chunk(4, -1)
        c = inner(f + see_f * c) * c + inner(i + see_i * c) * cell(z)
        if clip is not None:
            c = c.clamp(-float(clip), float(clip))
        h = inner(o + see_o * c) * outer(c)
        steps.append(h)
    return steps, c


def _inputs(x: torch.Tensor, weight_ih: torch.Tensor, bias: Given, direction: str) -> torch.Tensor:
    """What each step gets from its input, in the order of computation."""
    if direction not in ("forward", "reverse"):
        raise ValueError(f"direction is {direction}")
    taken = x @ weight_ih.T
    taken = taken if bias is None else taken + bias
    return taken.flip(0) if direction == "reverse" else taken


def _sequence(steps: list[torch.Tensor], whole: torch.Tensor | bool) -> torch.Tensor:
    return torch.stack(steps if whole else steps[-1:])


def _activation(name: str) -> Activation:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation is {name}")
    return ACTIVATIONS[name]
