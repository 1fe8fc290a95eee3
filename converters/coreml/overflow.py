"""Where float16 would overflow: measured on real images, and on inputs as large as the parity gate gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from .program import Program, TensorType, flattened
from .ranges import measure

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST: Final = 65_504.0
# Images that were not measured may go further.
MARGIN: Final = 2
# What coremltools puts behind the name of an operator that it turned into float16.
HALF: Final = "_cast_fp16"


def find(program: Program, feeds: Iterable[Mapping[str, NDArray[Any]]]) -> frozenset[str]:
    """The operators, and inputs, whose values come too near to what float16 can hold; names are those in float32."""
    ranges = measure(program, feeds, rounding=False)
    makers = {name: operation for operation in flattened(program.operations) for name in operation.outputs}

    def source(name: str) -> str:
        maker = makers.get(name)
        if maker is None:
            return name
        # A cast has no name of its own before there is float16.
        return source(maker.inputs["x"][0]) if maker.kind == "cast" else maker.name.removesuffix(HALF)

    return frozenset(
        source(name)
        for name, (low, high) in ranges.items()
        # Also where a range is NaN.
        if name in makers and _is_half(makers[name].outputs[name]) and not max(-low, high) < LARGEST / MARGIN
    )


def _is_half(kind: TensorType | None) -> bool:
    return kind is not None and kind.dtype == "float16"


def kept(program: Program) -> list[str]:
    """The operators that compute in float32, of a program that is float16 otherwise."""
    return [
        operation.name
        for operation in flattened(program.operations)
        if operation.kind != "cast" and any(kind and kind.dtype == "float32" for kind in operation.outputs.values())
    ]
