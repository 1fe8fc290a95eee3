"""Before a model loses bits: proof that the float file computes what the module does; see `converters/proof.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from .. import proof

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

COUNT: Final = proof.COUNT


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
    proof.prove(
        _answers(content, module, _repeated(shape, feeds), channels_last=channels_last),
        precision="fp32",
        form="the float form of the file to be quantized",
        hint="this is a fault of the converter: try the other --via, and report it",
    )


def _answers(
    content: bytes, module: nn.Module, feeds: Iterable[NDArray[Any]], *, channels_last: bool
) -> Iterator[tuple[list[NDArray[Any]], list[NDArray[Any]]]]:
    """The module's outputs, in the file's layout, and the file's."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (taken,), given = interpreter.get_input_details(), interpreter.get_output_details()
    for feed in feeds:
        (laid_out,) = _laid_out([feed], channels_last=channels_last)
        interpreter.set_tensor(taken["index"], np.ascontiguousarray(laid_out))
        interpreter.invoke()
        yield (
            _laid_out(proof.answers(module, feed), channels_last=channels_last),
            [interpreter.get_tensor(each["index"]) for each in given],
        )


def _repeated(shape: tuple[int | None, ...], feeds: Iterable[NDArray[Any]] | None) -> Iterator[NDArray[Any]]:
    # A file for a fixed batch takes no other.
    chosen = islice(_noise(shape) if feeds is None else feeds, COUNT)
    return (feed.repeat(shape[0] or 1, axis=0) for feed in chosen)


def _noise(shape: tuple[int | None, ...]) -> Iterator[NDArray[Any]]:
    import numpy as np

    rng = np.random.default_rng(0)
    return (rng.standard_normal([1, *(side or 1 for side in shape[1:])], np.float32) for _ in range(COUNT))


def _laid_out(arrays: Iterable[NDArray[Any]], *, channels_last: bool) -> list[NDArray[Any]]:
    return [array.transpose(0, 2, 3, 1) if channels_last and array.ndim == 4 else array for array in arrays]
