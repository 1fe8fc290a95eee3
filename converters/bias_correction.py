"""Biases that make up for what rounding a layer's weights to int8 shifts its results by, on average.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), with means that are
measured on images instead of derived from BatchNorm.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .losses import sqnr_db
from .proof import answers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    Layer = nn.Conv1d | nn.Conv2d | nn.Linear
    Feeds = Callable[[], Iterable[NDArray[np.float32]]]

INT8_MAX: Final = 127
# Every fourth image judges, and the others are measured: what fits only the images it was made from is not kept.
JUDGING: Final = 4
LEAST_GAIN: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A layer at work: `product(weight, input)` is its result without the bias.

    `axis`, from the end, is where input and result have their channels.
    """

    weight: Tensor
    input: Tensor
    axis: int
    product: Callable[[Tensor, Tensor], Tensor]


def corrected(module: nn.Module, feeds: Feeds) -> tuple[nn.Module, str]:
    """A copy of a float `module` with corrected biases, or `module` itself, and in a line what that brings.

    A layer's bias gets the mean, over images and positions, of what it loses by int8 weights with a scale an output
    channel, its own input being that of the float module. The copy is given if with rounded weights it is nearer to
    `module` than `module` is, by 1 % of the squared error, on images that no mean was taken from. `feeds` are
    float32 (1, C, H, W); one of them is in memory at a time.
    """
    better = copy.deepcopy(module)
    shifts = _shifts(better, parted(feeds, judging=False))
    if not shifts:
        return module, "bias correction: left out, without two images and a layer there is nothing to measure"
    for layer, shift in shifts.items():
        _add(layer, shift)
    signal, before, after = _compared(module, [_in_int8(module), _in_int8(better)], parted(feeds, judging=True))
    changed = f"{sqnr_db(signal, before):.1f} -> {sqnr_db(signal, after):.1f} dB"
    if after < (1 - LEAST_GAIN) * before:
        return better, f"bias correction: SQNR with rounded weights {changed}"
    return module, f"bias correction: left out, SQNR with rounded weights {changed}"


def parted(feeds: Feeds, *, judging: bool) -> Iterator[NDArray[np.float32]]:
    """The images that judge, or the others, which are measured."""
    return (feed for place, feed in enumerate(feeds()) if (place % JUDGING == 0) == judging)


def rounded(weight: Tensor) -> Tensor:
    """What int8 makes of a layer's weights (out, …): the largest magnitude of each output channel at 127."""
    import torch

    values = weight.detach().double()
    steps = values.abs().amax(dim=tuple(range(1, values.ndim)), keepdim=True) / INT8_MAX
    # A channel of zeros stays one.
    steps = torch.where(steps > 0, steps, 1.0)
    return ((values / steps).round() * steps).float()


def watching(see: Callable[[Call], Tensor | None]) -> AbstractContextManager[object]:
    """While it is open, `see` gets each convolution, linear layer and `addmm`, and what it returns is added there.

    Not by hooks: a network may use a layer's weights without calling the layer. Of `addmm` the first factor counts as
    the weight.
    """
    from torch.overrides import TorchFunctionMode

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            named = kwargs or {}
            call = _call(func, args, named)
            added = see(call) if call else None
            result = func(*args, **named)
            return result if added is None else result + added

    return Watch()


def _call(func: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Call | None:
    import torch
    from torch.nn import functional as F

    if func is torch.addmm:
        _, weight, given = args
        return Call(weight=weight, input=given, axis=-2, product=torch.mm)
    if func not in (F.conv1d, F.conv2d, F.linear):
        return None
    known = {**dict(zip(("input", "weight"), args, strict=False)), **named}
    further = {name: value for name, value in named.items() if name not in ("input", "weight", "bias")}
    weight = known["weight"]
    return Call(
        weight=weight,
        input=known["input"],
        axis=1 - weight.ndim,
        product=lambda weight, given: func(given, weight, None, *args[3:], **further),
    )


def _layers(module: nn.Module) -> list[Layer]:
    from torch import nn

    return [layer for layer in module.modules() if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear)]


def _shifts(module: nn.Module, feeds: Iterable[NDArray[Any]]) -> dict[Layer, Tensor]:
    """What each layer that was seen loses on average: float64 (out,)."""
    losing = {layer.weight: layer.weight.detach() - rounded(layer.weight) for layer in _layers(module)}
    sums: dict[Tensor, Tensor] = {}
    counts: dict[Tensor, int] = {}

    def see(call: Call) -> None:
        if call.weight in losing:
            lost = call.product(losing[call.weight], call.input).double().movedim(call.axis, 0).flatten(1)
            sums[call.weight] = sums.get(call.weight, 0) + lost.sum(1)
            counts[call.weight] = counts.get(call.weight, 0) + lost.shape[1]

    with watching(see):
        for feed in feeds:
            answers(module, feed)
    return {layer: sums[layer.weight] / counts[layer.weight] for layer in _layers(module) if layer.weight in sums}


def _add(layer: Layer, shift: Tensor) -> None:
    from torch import nn

    bias = shift if layer.bias is None else layer.bias.detach().double() + shift
    layer.bias = nn.Parameter(bias.float(), requires_grad=False)


def _in_int8(module: nn.Module) -> nn.Module:
    """A copy with rounded weights."""
    import torch

    small = copy.deepcopy(module)
    with torch.no_grad():
        for layer in _layers(small):
            layer.weight.copy_(rounded(layer.weight))
    return small


def _compared(module: nn.Module, others: Sequence[nn.Module], feeds: Iterable[NDArray[Any]]) -> NDArray[np.float64]:
    """The sum of squares of all outputs of `module`, and of how far each of the others is off."""
    import numpy as np

    sums = np.zeros(1 + len(others))
    for feed in feeds:
        wanted = flat(answers(module, feed))
        found = [flat(answers(other, feed)) - wanted for other in others]
        sums += [np.square(part).sum() for part in (wanted, *found)]
    return sums


def flat(outputs: Iterable[NDArray[Any]]) -> NDArray[np.float64]:
    """All outputs in a row."""
    import numpy as np

    return np.concatenate([output.ravel() for output in outputs], dtype=np.float64)
