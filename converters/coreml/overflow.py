"""Where float16 would overflow: measured on real images, and on inputs as large as the parity gate gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from .program import Program
from .ranges import measure

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST: Final = 65_504.0
# Images that were not measured may go further.
MARGIN: Final = 2
# What coremltools puts behind the name of a value that it turned into float16.
HALF: Final = "_cast_fp16"


def find(program: Program, feeds: Iterable[Mapping[str, NDArray[Any]]]) -> frozenset[str]:
    """The float16 results of a program that come too near to what float16 can hold, by their names in float32."""
    ranges = measure(program, feeds, rounding=False)
    declared = {name: kind for operation in program.operations for name, kind in operation.outputs.items() if kind}
    return frozenset(
        name.removesuffix(HALF)
        for name, (low, high) in ranges.items()
        # Also where a range is NaN.
        if name in declared and declared[name].dtype == "float16" and not max(-low, high) < LARGEST / MARGIN
    )
