"""The size of a model, counted on the model itself."""

from __future__ import annotations

from dataclasses import dataclass

from .spec import ModelRequest, find


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Learned parameters and multiply-accumulates of one image; BatchNorm, which folds away, counts no MACs.

    `published_top1` is the authors' figure in per cent, for the weights `imagenet`.
    """

    name: str
    parameters: int
    macs: int
    input_shape: tuple[int, ...]
    published_top1: float | None
    weights: tuple[str, ...]


def figures(name: str) -> Figures:
    """Build the model with random weights and count; convolutions and matrix products make the MACs."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    spec = find(ModelRequest(name=name, weights="random"))
    shape = tuple(side for side in spec.inputs[0].shape if side is not None)
    model = spec.build()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, *shape))
    return Figures(
        name=name,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs=counter.get_total_flops() // 2,
        input_shape=shape,
        published_top1=spec.published_top1,
        weights=spec.weights_known,
    )
