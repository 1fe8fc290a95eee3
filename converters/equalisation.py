"""Channels of an activation brought to similar ranges, by factors that the layer in front gives up to the one behind.

ReLU lets a positive factor a channel pass, so that the float network stays the same (Nagel et al., ICCV 2019). An
activation has one int8 scale for all its channels, weights have one an output channel: hence the factors of SmoothQuant
(Xiao et al., ICML 2023), which share the range of a channel between the activation and the weights behind it.
"""

from __future__ import annotations

import copy
import statistics
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .bias_correction import Call, flat, parted, rounded, watching
from .losses import sqnr_db
from .proof import answers

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, fx, nn

    from .bias_correction import Feeds

LEAST_GAIN: Final = 0.02
# Of all outputs. Weights that differ by 0.4 % move EfficientViT-M0 by more than this either way: less is chance.
LEAST_GAIN_OVERALL: Final = 0.1
LEVELS: Final = 255
# What a note begins with where something was done.
DONE: Final = "equalised"
# Of the activation's range in the factor, the rest is of the weights'. All of it suits a depthwise layer, whose weights
# have a scale for each of the channels anyway.
SHARES: Final = (0.5, 1.0)
# How far a factor may be from the median of its tensor.
FURTHEST: Final = 64.0
SECONDS: Final = ("conv1d", "conv2d", "linear")
FIRSTS: Final = (*SECONDS, "batch_norm")
# What lets a positive factor a channel pass, and keeps the channels where they are.
PASSING: Final = (
    "relu",
    "relu_",
    "leaky_relu",
    "leaky_relu_",
    "dropout",
    "max_pool2d",
    "avg_pool2d",
    "adaptive_avg_pool2d",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Names of parameters: the weight and the bias of the layer in front, and the weight of the layer behind."""

    first: str
    bias: str | None
    second: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """The least and the largest value of each channel: (channels,)."""

    low: Tensor
    high: Tensor


def equalised(module: nn.Module, feeds: Feeds) -> tuple[nn.Module, str]:
    """A copy of a float `module` that computes the same with scaled channels, or `module` itself, and a line about it.

    A pair of layers is changed if that makes the squared error of the second one fall by 2 %, its weights and its input
    being rounded to 8 bits; and the copy is given if with all layers rounded so that of its outputs falls by 10 %. Both
    are found on images that no range was taken from: a new image leaves the range of a channel that is rarely large.
    `feeds` are float32 (1, C, H, W); one of them is in memory at a time.
    """
    import torch

    example = torch.from_numpy(next(iter(feeds())))
    try:
        pairs = _pairs(module, example)
    # Anything at all: it is another's network that is traced.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        return module, f"equalisation: left out, torch.export does not take the network: {reason}"
    if not pairs:
        return module, "equalisation: left out, no layer has its result go through a ReLU to just one other"
    ranges = _ranges(module, parted(feeds, judging=False))
    found = _judged(module, {pair: ranges[pair.second] for pair in pairs if pair.second in ranges}, feeds)
    if not found:
        return module, f"equalisation: left out, none of {len(pairs)} pairs of layers would gain"
    equal = copy.deepcopy(module)
    for pair, (scale, _) in found.items():
        _apply(equal, pair, scale)
    gain = statistics.median(gain for _, gain in found.values())
    changed = f"{len(found)} of {len(pairs)} pairs of layers, median gain {gain:.1f} dB"
    signal, before = _noise(module, ranges, feeds)
    _, after = _noise(equal, _ranges(equal, parted(feeds, judging=False)), feeds)
    outcome = f"SQNR in 8 bits {sqnr_db(signal, before):.1f} -> {sqnr_db(signal, after):.1f} dB"
    if after < (1 - LEAST_GAIN_OVERALL) * before:
        return equal, f"{DONE}: {changed}, {outcome}"
    return module, f"equalisation: left out, {changed}, but {outcome}"


def _pairs(module: nn.Module, example: Tensor) -> list[Pair]:
    """All of them, as `torch.export` sees the network; raises whatever it does."""
    import torch

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (example,))
    own = _own(program, module)
    nodes = [node for node in program.graph.nodes if _kind(node) in SECONDS]
    found = [(_source(node), node) for node in nodes]
    pairs = [_pair(first, second, own) for first, second in found if first is not None]
    return [pair for pair in pairs if pair is not None]


def _own(program: torch.export.ExportedProgram, module: nn.Module) -> dict[str, str]:
    """The parameters that are used once, by the name of their node."""
    names = program.graph_signature.inputs_to_parameters
    uses: Counter[Tensor] = Counter()
    for node in program.graph.nodes:
        if node.name in names:
            uses[module.get_parameter(names[node.name])] += len(node.users)
    return {node: name for node, name in names.items() if uses[module.get_parameter(name)] == 1}


def _source(node: fx.Node) -> fx.Node | None:
    """The layer whose result, through what lets factors pass, only `node` takes."""
    source: Any = node.args[0]
    while _kind(source) in PASSING and len(source.users) == 1:
        source = source.args[0]
    return source if _kind(source) in FIRSTS and len(source.users) == 1 else None


def _kind(node: Any) -> str:
    packet = getattr(getattr(node, "target", None), "overloadpacket", None)
    return "" if packet is None else str(packet.__name__)


def _pair(first: fx.Node, second: fx.Node, own: Mapping[str, str]) -> Pair | None:
    weight, bias, behind = (_argument(node, place) for node, place in ((first, 1), (first, 2), (second, 1)))
    if weight is None or behind is None or _axis(first, weight) != _axis(second, behind):
        return None
    if any(node.name not in own for node in (weight, bias, behind) if node is not None):
        return None
    return Pair(first=own[weight.name], bias=own[bias.name] if bias else None, second=own[behind.name])


def _argument(node: fx.Node, place: int) -> fx.Node | None:
    return node.args[place] if len(node.args) > place else None  # type: ignore[return-value]


def _axis(node: fx.Node, weight: fx.Node) -> int:
    """Where the layer's result has its channels, from the end."""
    axis: int = 1 - (node if _kind(node) == "batch_norm" else weight).meta["val"].ndim
    return axis


def _ranges(module: nn.Module, feeds: Iterable[NDArray[Any]]) -> dict[str, Ranges]:
    """Of the input of each layer, by the name of its weight."""
    import torch

    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    found: dict[str, Ranges] = {}

    def see(call: Call) -> None:
        name = names.get(call.weight)
        if name is not None:
            values = call.input.movedim(call.axis, 0).flatten(1)
            low, high = values.amin(1), values.amax(1)
            known = found.get(name, Ranges(low=low, high=high))
            found[name] = Ranges(low=torch.minimum(known.low, low), high=torch.maximum(known.high, high))

    with watching(see):
        for feed in feeds:
            answers(module, feed)
    return found


def _judged(module: nn.Module, ranges: Mapping[Pair, Ranges], feeds: Feeds) -> dict[Pair, tuple[Tensor, float]]:
    """The best factors, (channels,), and what they gain in dB, of the pairs that gain enough."""
    seconds: dict[Tensor, Pair] = {module.get_parameter(pair.second): pair for pair in ranges}
    scales = {pair: _scales(weight, ranges[pair]) for weight, pair in seconds.items()}
    errors = {pair: [0.0] * len(scales[pair]) for pair in ranges}

    def see(call: Call) -> None:
        pair = seconds.get(call.weight)
        if pair is not None:
            for place, scale in enumerate(scales[pair]):
                errors[pair][place] += float(_lost(call, ranges[pair], scale).double().square().sum())

    with watching(see):
        for feed in parted(feeds, judging=True):
            answers(module, feed)
    best = {pair: min(range(len(sums)), key=sums.__getitem__) for pair, sums in errors.items()}
    return {
        pair: (scales[pair][place], sqnr_db(errors[pair][0], errors[pair][place]))
        for pair, place in best.items()
        if errors[pair][place] < (1 - LEAST_GAIN) * errors[pair][0]
    }


def _noise(module: nn.Module, ranges: Mapping[str, Ranges], feeds: Feeds) -> tuple[float, float]:
    """The sum of squares of all outputs, and of how far they are off with all layers in 8 bits."""
    import numpy as np

    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    signal = noise = 0.0

    def see(call: Call) -> Tensor | None:
        name = names.get(call.weight)
        return _lost(call, ranges[name]) if name and name in ranges else None

    for feed in parted(feeds, judging=True):
        wanted = flat(answers(module, feed))
        with watching(see):
            found = flat(answers(module, feed))
        signal += float(np.square(wanted).sum())
        noise += float(np.square(found - wanted).sum())
    return signal, noise


def _scales(weight: Tensor, ranges: Ranges) -> list[Tensor]:
    """None, as factors of 1, and those to choose from."""
    import torch

    return [torch.ones_like(ranges.low), *(_scale(weight, ranges, share) for share in SHARES)]


def _scale(weight: Tensor, ranges: Ranges, share: float) -> Tensor:
    """The factor of each channel; 1 for one that is always zero, or that is not listened to."""
    import torch

    activation = torch.maximum(-ranges.low, ranges.high).double()
    behind = _by_input(weight.detach().double(), len(activation)).abs().amax((1, 3)).flatten()
    alive = (activation > 0) & (behind > 0)
    if not alive.any():
        return torch.ones_like(activation)
    scale = activation**share / behind ** (1 - share)
    middle = scale[alive].median()
    scale = scale.clip(middle / FURTHEST, middle * FURTHEST)
    # The largest activation stays as large as it was.
    scale = scale * (activation / scale)[alive].max() / activation.max()
    return torch.where(alive, scale, 1.0)


def _by_input(weight: Tensor, channels: int) -> Tensor:
    """The weight as (groups, outputs of one, inputs of one, kernel)."""
    groups = channels // weight.shape[1]
    return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)


def _scaled(weight: Tensor, scale: Tensor) -> Tensor:
    """The weight of the layer behind, its input channels multiplied."""
    split = _by_input(weight.detach().double(), len(scale))
    return (split * scale.reshape(len(split), 1, -1, 1)).reshape(weight.shape).float()


def _lost(call: Call, ranges: Ranges, scale: Tensor | None = None) -> Tensor:
    """What rounding the weights and the input of a layer to 8 bits, after a scaling, does to its result."""
    import torch

    factors = torch.ones_like(ranges.low) if scale is None else scale
    low, high = float((ranges.low / factors).min()), float((ranges.high / factors).max())
    divisor = factors.float().reshape(-1, *[1] * (-1 - call.axis))
    given = _rounded_activation(call.input / divisor, low, high)
    return call.product(rounded(_scaled(call.weight, factors)), given) - call.product(call.weight, call.input)


def _rounded_activation(values: Tensor, low: float, high: float) -> Tensor:
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / LEVELS or 1.0
    zero = round(-low / step)
    return ((values / step).round() + zero).clip(0, LEVELS).sub(zero) * step


def _apply(module: nn.Module, pair: Pair, scale: Tensor) -> None:
    import torch

    with torch.no_grad():
        for name in filter(None, (pair.first, pair.bias)):
            parameter = module.get_parameter(name)
            parameter.copy_(parameter.double() / scale.reshape(-1, *[1] * (parameter.ndim - 1)))
        second = module.get_parameter(pair.second)
        second.copy_(_scaled(second, scale))
