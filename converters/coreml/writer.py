"""From a PyTorch module to an ML Program, through coremltools: the float program that all precisions start from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    """The `MLModel` of a float32 module that takes (batch, *form.shape); float32 is what makes or reads the named."""
    import numpy as np
    import torch

    ct = coremltools()
    wrapped = _wrapped(module, form)
    example = torch.rand(form.batches[0], *form.shape)
    with quiet(), torch.no_grad(), _plain_attention():
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


@contextmanager
def _plain_attention() -> Iterator[None]:
    """PyTorch's fused attention of eval mode is one operator that coremltools does not know."""
    import torch

    was_on = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_on)


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

    def in_half(operation: Any) -> bool:
        # What reads a value that float16 cannot hold would get it rounded to float16.
        return keep_float32.isdisjoint((_saved_name(operation), *map(_source, _read(operation))))

    return ct.transform.FP16ComputePrecision(op_selector=in_half) if keep_float32 else ct.precision.FLOAT16


def _read(operation: Any) -> Iterator[Any]:
    for given in operation.inputs.values():
        yield from given if isinstance(given, (list, tuple)) else (given,)


def _source(value: Any) -> str:
    """The operator behind a value and its casts, or the input, as it is called in the saved program."""
    while value.op is not None and value.op.op_type == "cast":
        value = value.op.x
    return _saved_name(value if value.op is None else value.op)


def _saved_name(named: Any) -> str:
    """Names become identifiers only after the precision was chosen."""
    name = re.sub(r"\W", "_", named.name, flags=re.ASCII)
    return f"op_{name}" if name[0].isdigit() else name
