"""Where a model loses bits: proof that its float program computes what the module does, and keeps its weights.

A channel swap or a wrong axis can cost less than int8 itself does, and so can a wrong scale deep in the model. The
gate, which sees the final package's answers alone, would let both pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from ...models.errors import ParityFailed
from .. import proof, tensors
from .executor import Executor
from .program import Program, flattened

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from ..artifact import TensorRecord

COUNT: Final = proof.COUNT
REPORT: Final = "this is a fault of the converter: take another precision, and report it"
# Of a tensor's weights, as a relative L2: three times and more what was measured in trained models.
WEIGHTS: Final[Mapping[str, float]] = {
    **dict.fromkeys(("w8", "int8", "mixed", "pal8"), 0.03),
    "pal6": 0.1,
    "pal4": 0.35,
}


def prove(
    program: Program,
    module: nn.Module,
    feeds: Iterable[NDArray[Any]],
    *,
    taken: TensorRecord,
    given: Iterable[TensorRecord],
) -> None:
    """Compare a float16 program with the module on `feeds`, the module's own float32 (1, …); raises `ParityFailed`."""
    proof.prove(
        _answers(program, module, feeds, taken, list(given)),
        precision="fp16",
        form="the float program to be compressed",
        hint="try --precision fp32; if that passes, float16 is not enough for this model",
    )


def _answers(
    program: Program, module: nn.Module, feeds: Iterable[NDArray[Any]], taken: TensorRecord, given: list[TensorRecord]
) -> Iterator[tuple[list[NDArray[Any]], list[NDArray[Any]]]]:
    """The module's outputs, as probabilities where the program gives those, and the program's."""
    import numpy as np

    executor = Executor(program)
    for feed in feeds:
        wanted = proof.answers(module, feed)
        results = executor.run({taken.name: fitted(taken, feed)})
        if program.probabilities:
            yield (
                [tensors.softmax(part) for part in wanted],
                [np.asarray([list(results[program.probabilities].values())])],
            )
        else:
            # A program for a fixed batch was given one image several times.
            yield wanted, [results[record.name].numpy()[:1] for record in given]


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
