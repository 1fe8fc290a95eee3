"""Before a model loses bits: proof that its float form computes what the module does.

A channel swap or a wrong axis can cost less than int8 itself does, or int8 weights alone, and the gate, which sees the
final file alone, would let it pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..models.errors import ParityFailed
from . import parity

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from .artifact import Precision

COUNT: Final = 4


def answers(module: nn.Module, feed: NDArray[Any]) -> list[NDArray[Any]]:
    """All outputs of an eager module for one input of its own."""
    import torch

    with torch.inference_mode():
        given = module(torch.from_numpy(feed))
    return [part.numpy() for part in ([given] if isinstance(given, torch.Tensor) else given)]


def prove(
    pairs: Iterable[tuple[Sequence[NDArray[Any]], Sequence[NDArray[Any]]]],
    *,
    precision: Precision,
    form: str,
    hint: str,
) -> None:
    """Compare all outputs of the module with all of its float form's, a pair for each sample, as the gate does.

    Not judged by the first class: there may be no classes, and two that are as good as equal prove nothing. Raises
    `ParityFailed`, with `form` in what it says, where they differ by more than `precision` may.
    """
    import numpy as np

    rows = [[_flat(wanted), _flat(found)] for wanted, found in pairs]
    expected, actual = (np.concatenate(arrays) for arrays in zip(*rows, strict=True))
    row = parity.compare([expected], [actual], inputs="samples", threshold=parity.THRESHOLDS[precision])
    if not row.passed:
        raise ParityFailed(
            f"{form} is off by a relative L2 of {row.relative_l2:.2e}, cosine {parity.at_least(row.cosine)}", hint
        )


def _flat(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """All outputs of one sample in a row: (1, elements)."""
    import numpy as np

    return np.concatenate([array.reshape(1, -1) for array in arrays], axis=1)
