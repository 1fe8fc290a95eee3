"""From a PyTorch module to an ML Program, through coremltools: the float program that all precisions start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .toolkit import coremltools, quiet

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...models.spec import Preprocess


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How the program looks from outside.

    `target` is the oldest system that runs it, `batches` the batch sizes that it takes, or the first and the last of a
    range. With `preprocess` it takes pictures and normalises them itself; with `labels` it is a classifier.
    """

    target: str
    shape: tuple[int, ...]
    inputs: Sequence[str]
    outputs: Sequence[str]
    half: bool
    batches: tuple[int, ...] = (1,)
    ranged: bool = False
    preprocess: Preprocess | None = None
    labels: Sequence[str] | None = None


def write(module: nn.Module, form: Form, *, keep_float32: frozenset[str] = frozenset()) -> Any:
    """The `MLModel` of a float32 module that takes (batch, *form.shape); the named operators stay in float32."""
    import numpy as np
    import torch

    ct = coremltools()
    wrapped = _wrapped(module, form)
    example = torch.rand(form.batches[0], *form.shape)
    with quiet(), torch.no_grad():
        traced = torch.jit.trace(wrapped, (example,), check_trace=False)
        outputs = [ct.TensorType(name=name, dtype=np.float32) for name in form.outputs]
        return ct.convert(
            traced,
            inputs=[_input(ct, form)],
            outputs=None if form.labels is not None else outputs,
            classifier_config=None if form.labels is None else ct.ClassifierConfig(list(form.labels)),
            convert_to="mlprogram",
            minimum_deployment_target=getattr(ct.target, form.target),
            compute_precision=_compute_precision(ct, half=form.half, keep_float32=keep_float32),
            skip_model_load=True,
        )


def _wrapped(module: nn.Module, form: Form) -> nn.Module:
    """The module between the normalisation of pixels and the softmax of a classifier, as far as the form wants them.

    An image input of Core ML has one scale for all channels, so the three standard deviations stand in the program.
    """
    import torch

    class Wrapped(torch.nn.Module):
        scale: Tensor
        offset: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.module = module
            if form.preprocess is not None:
                mean, std = (
                    torch.tensor(values).reshape(1, -1, 1, 1) for values in (form.preprocess.mean, form.preprocess.std)
                )
                self.register_buffer("scale", 1 / (255 * std))
                self.register_buffer("offset", -mean / std)

        def forward(self, x: Tensor) -> Any:
            y = self.module(x * self.scale + self.offset if form.preprocess is not None else x)
            return y.softmax(-1) if form.labels is not None else y

    return Wrapped().eval()


def _input(ct: Any, form: Form) -> Any:
    import numpy as np

    (name,) = form.inputs
    if form.preprocess is not None:
        return ct.ImageType(name=name, shape=(1, *form.shape), color_layout=ct.colorlayout.RGB)
    shape: Any = (form.batches[0], *form.shape)
    if form.ranged:
        low, high = form.batches
        shape = ct.Shape((ct.RangeDim(low, high, default=low), *form.shape))
    elif len(form.batches) > 1:
        shape = ct.EnumeratedShapes([(batch, *form.shape) for batch in form.batches])
    return ct.TensorType(name=name, shape=shape, dtype=np.float32)


def _compute_precision(ct: Any, *, half: bool, keep_float32: frozenset[str]) -> Any:
    if not half:
        return ct.precision.FLOAT32
    selector: Callable[[Any], bool] = lambda operation: operation.outputs[0].name not in keep_float32  # noqa: E731
    return ct.transform.FP16ComputePrecision(op_selector=selector) if keep_float32 else ct.precision.FLOAT16
