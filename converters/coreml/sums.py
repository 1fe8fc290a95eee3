"""Sums of integers, both of whose terms coremltools multiplies by what saves one of them its scale.

What rounds the sum divides by it again, so the values between are not those that their names stand for in the float
program. The pass of coremltools is `distributive_quantized_binary_op_scale_normalization`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from .program import Operation, Program

SUMS: Final = ("add", "sub")
# What may stand between a sum and its rounding.
PASSING: Final = ("leaky_relu", "prelu", "relu")
# Scales are float16.
NEAR: Final = 0.005


def restored(program: Program) -> Program:
    """The program with the scales that these had before; its answers differ by what float16 rounds.

    A sum whose terms have different factors is left as it is, since that is no sum of anything.
    """
    found = _Scales(program)
    for operation in program.operations:
        if operation.kind in SUMS:
            found.restore(operation)
    return found.program()


class _Scales:
    """The scales of a program's roundings, by the operator's name."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._makers = {name: operation for operation in program.operations for name in operation.outputs}
        self._readers: dict[str, list[Operation]] = {}
        for operation in program.operations:
            for names in operation.inputs.values():
                for name in names:
                    self._readers.setdefault(name, []).append(operation)
        self._changed: dict[str, float] = {}

    def restore(self, total: Operation) -> None:
        terms = [self._makers.get(total.inputs[key][0]) for key in ("x", "y")]
        backs = [term for term in terms if term is not None and term.kind == "dequantize"]
        roundings = [self._makers.get(back.inputs["input"][0]) for back in backs]
        pairs = [(b, r) for b, r in zip(backs, roundings, strict=True) if r is not None and r.kind == "quantize"]
        factors = [self._scale(back) / self._scale(rounding) for back, rounding in pairs]
        if len(factors) < 2 or abs(factors[0] / factors[1] - 1) > NEAR or abs(factors[0] - 1) <= NEAR:
            return
        for back, rounding in pairs:
            self._changed[back.name] = self._scale(rounding)
        for rounding in self._behind(total):
            self._changed[rounding.name] = self._scale(rounding) / factors[0]

    def _scale(self, operation: Operation) -> float:
        known = self._changed.get(operation.name)
        return float(self._program.constants[operation.inputs["scale"][0]].value) if known is None else known  # type: ignore[arg-type]

    def _behind(self, operation: Operation) -> Iterator[Operation]:
        """The roundings of a result."""
        for name in operation.outputs:
            for reader in self._readers.get(name, ()):
                if reader.kind in PASSING:
                    yield from self._behind(reader)
                elif reader.kind == "quantize":
                    yield reader

    def program(self) -> Program:
        """With the changed scales as constants of their own, since several may have had one together."""
        import numpy as np

        constants, operations = dict(self._program.constants), list[Operation]()
        for operation in self._program.operations:
            if operation.name not in self._changed:
                operations.append(operation)
                continue
            before, name = constants[operation.inputs["scale"][0]], f"{operation.name}/scale"
            constants[name] = replace(
                before, value=np.asarray(self._changed[operation.name], np.asarray(before.value).dtype)
            )
            operations.append(replace(operation, inputs={**operation.inputs, "scale": (name,)}))
        return replace(self._program, constants=constants, operations=tuple(operations))
