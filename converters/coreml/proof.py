"""Where a model loses bits: proof that its float program computes what the module does, and keeps its weights.

A channel swap or a wrong axis can cost less than int8 itself does, and so can a wrong scale deep in the model. The
gate, which sees the final package's answers alone, would let both pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from ...models.errors import ParityFailed
from .. import parity, tensors
from .executor import Executor
from .program import Program, flattened

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from ..artifact import TensorRecord

COUNT: Final = 4
REPORT: Final = "this is a fault of the converter: take another precision, and report it"
# Of a tensor's weights, as a relative L2: three times and more what was measured in trained models.
WEIGHTS: Final[Mapping[str, float]] = {"w8": 0.03, "int8": 0.03, "pal8": 0.03, "pal6": 0.1, "pal4": 0.35}


def prove(
    program: Program,
    module: nn.Module,
    feeds: Iterable[NDArray[Any]],
    *,
    taken: TensorRecord,
    given: Iterable[TensorRecord],
) -> None:
    """Compare a float16 program with the module on `feeds`, the module's own float32 (1, …); raises `ParityFailed`."""
    import numpy as np
    import torch

    executor, records = Executor(program), list(given)
    expected, actual = [], []
    for feed in feeds:
        with torch.inference_mode():
            answer = module(torch.from_numpy(feed))
        wanted = [answer.numpy()] if isinstance(answer, torch.Tensor) else [part.numpy() for part in answer]
        results = executor.run({taken.name: fitted(taken, feed)})
        if program.probabilities:
            found: list[NDArray[Any]] = [np.asarray([list(results[program.probabilities].values())])]
            wanted = [tensors.softmax(part) for part in wanted]
        else:
            found = [results[record.name].numpy() for record in records]
        expected.append(_flat(wanted))
        # A program for a fixed batch was given one image several times.
        actual.append(_flat([part[:1] for part in found]))
    row = parity.compare(
        [np.concatenate(expected)], [np.concatenate(actual)], inputs="samples", threshold=parity.THRESHOLDS["fp16"]
    )
    if not row.passed:
        raise ParityFailed(
            f"the float program to be compressed is off by a relative L2 of {row.relative_l2:.2e}, "
            f"cosine {parity.at_least(row.cosine)}",
            "try --precision fp32; if that passes, float16 is not enough for this model",
        )


def prove_weights(floating: Program, compressed: Program, precision: str) -> None:
    """Compare each layer's weights in a compressed program with those in the float one; raises `ParityFailed`."""
    before, after = (dict(_weights(program)) for program in (floating, compressed))
    limit = WEIGHTS[precision]
    for name, want in before.items():
        got = after.get(name)
        if got is None or got.shape != want.shape:
            raise ParityFailed(f"the layer {name} lost its weights in the compressed program", REPORT)
        lost = float((got - want).norm() / want.norm()) if want.any() else float(got.norm())
        # Also where it is NaN.
        if not lost <= limit:
            raise ParityFailed(
                f"the {precision} weights of {name} are off by a relative L2 of {lost:.2e}, more than {limit:g}", REPORT
            )


def _weights(program: Program) -> Iterator[tuple[str, torch.Tensor]]:
    """The constant weights of convolutions and linear layers, as they are used, by the layer's result."""
    executor = Executor(program)
    for operation in flattened(program.operations):
        if operation.kind in ("conv", "conv_transpose", "linear"):
            weight = executor.constant(operation.inputs["weight"][0])
            if weight is not None:
                yield next(iter(operation.outputs)), weight


def fitted(taken: TensorRecord, feed: NDArray[Any]) -> NDArray[Any]:
    """One sample in the file's terms, as often as its fixed batch wants it."""
    return tensors.to_file(taken, feed.repeat(taken.shape[0] or 1, axis=0))


def _flat(arrays: Iterable[NDArray[Any]]) -> NDArray[Any]:
    import numpy as np

    return np.concatenate([array.reshape(1, -1) for array in arrays], axis=1)
