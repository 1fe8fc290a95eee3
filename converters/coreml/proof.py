"""Before a model loses bits: proof that its float program computes what the module does.

A channel swap or a wrong axis can cost less than int8 itself does, and the gate, which sees the final package alone,
would let it pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from ...models.errors import ParityFailed
from .. import parity, tensors
from .executor import Executor
from .program import Program

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from ..artifact import TensorRecord

COUNT: Final = 4


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


def fitted(taken: TensorRecord, feed: NDArray[Any]) -> NDArray[Any]:
    """One sample in the file's terms, as often as its fixed batch wants it."""
    return tensors.to_file(taken, feed.repeat(taken.shape[0] or 1, axis=0))


def _flat(arrays: Iterable[NDArray[Any]]) -> NDArray[Any]:
    import numpy as np

    return np.concatenate([array.reshape(1, -1) for array in arrays], axis=1)
