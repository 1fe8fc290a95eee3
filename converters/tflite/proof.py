"""Before a model loses bits: proof that its float form computes what the module does.

A channel swap or a wrong axis can cost less than int8 itself does, or int8 weights alone, and the gate, which sees the
final file alone, would let it pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ...models.errors import ParityFailed
from .. import parity

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

COUNT: Final = 4


def prove(
    content: bytes,
    module: nn.Module,
    shape: tuple[int | None, ...],
    *,
    channels_last: bool,
    feeds: Iterable[NDArray[Any]] | None = None,
) -> None:
    """Compare the float file `content` with the module, which takes one tensor of `shape`; raises `ParityFailed`.

    On the first of `feeds`, float32 (1, …) in the module's layout, or on noise without any.
    """
    import numpy as np

    pairs = list(_answers(content, module, _repeated(shape, feeds), channels_last=channels_last))
    expected, actual = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    # Not judged by the first class: there may be no classes, and two that are as good as equal prove nothing.
    row = parity.compare([expected], [actual], inputs="samples", threshold=parity.THRESHOLDS["fp32"])
    if not row.passed:
        raise ParityFailed(
            f"the float form of the file to be quantized is off by a relative L2 of {row.relative_l2:.2e}, "
            f"cosine {parity.at_least(row.cosine)}",
            "this is a fault of the converter: try the other --via, and report it",
        )


def _answers(
    content: bytes, module: nn.Module, feeds: Iterable[NDArray[Any]], *, channels_last: bool
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """The module's outputs and the file's, each in a row."""
    import numpy as np
    import torch
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (taken,), given = interpreter.get_input_details(), interpreter.get_output_details()
    for feed in feeds:
        laid_out = feed.transpose(0, 2, 3, 1) if channels_last and feed.ndim == 4 else feed
        interpreter.set_tensor(taken["index"], np.ascontiguousarray(laid_out))
        interpreter.invoke()
        with torch.inference_mode():
            wanted = module(torch.from_numpy(feed))
        yield (
            _flat([wanted] if isinstance(wanted, torch.Tensor) else wanted, channels_last=channels_last),
            _flat([interpreter.get_tensor(each["index"]) for each in given], channels_last=False),
        )


def _repeated(shape: tuple[int | None, ...], feeds: Iterable[NDArray[Any]] | None) -> Iterator[NDArray[Any]]:
    # A file for a fixed batch takes no other.
    chosen = islice(_noise(shape) if feeds is None else feeds, COUNT)
    return (feed.repeat(shape[0] or 1, axis=0) for feed in chosen)


def _noise(shape: tuple[int | None, ...]) -> Iterator[NDArray[Any]]:
    import numpy as np

    rng = np.random.default_rng(0)
    return (rng.standard_normal([1, *(side or 1 for side in shape[1:])], np.float32) for _ in range(COUNT))


def _flat(arrays: Iterable[Any], *, channels_last: bool) -> NDArray[Any]:
    """All outputs of one sample in a row: float32 (1, elements)."""
    import numpy as np

    turned = (a.transpose(0, 2, 3, 1) if channels_last and a.ndim == 4 else a for a in map(np.asarray, arrays))
    return np.concatenate([array.reshape(1, -1) for array in turned], axis=1)
