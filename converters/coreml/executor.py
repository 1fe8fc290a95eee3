"""The reference executor: runs a saved ML Program with PyTorch on any CPU. Not Apple hardware, and never said to be.

Two ways: with `rounding` every result is rounded to the dtype that the program declares for it, after arithmetic in
float32, which is how hardware with 16-bit storage and wider accumulators behaves; without, floats stay float32, which
is what the program means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ...models.errors import BadArtifact, ParityFailed, Unsupported
from . import operators
from .package import AGAIN
from .program import FLOATS, Block, Constant, Operation, Program, TensorType, flattened

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Observe = Callable[[Operation, str, torch.Tensor], None]

# The inputs that are several values, also where they are one.
VARIADIC: Final = ("values", "loop_vars", "elem_shape")
CONSTEXPR: Final = "constexpr_"
LABEL: Final = "reference executor, not Apple hardware"
INTEGERS: Final = {
    **{f"uint{width}": "uint8" for width in (1, 2, 3, 4, 6)},
    "int4": "int8",
    "uint16": "int32",
    "uint32": "int64",
    "uint64": "int64",
}


class Executor:
    """A program with its constants made ready; `run` may be called any number of times."""

    def __init__(self, program: Program, *, rounding: bool = True) -> None:
        """Evaluates the compressed constants; raises `ParityFailed` naming every operator that is not known."""
        self.program = program
        self.rounding = rounding
        everything = tuple(flattened(program.operations))
        _refuse_unknown(everything)
        self._constants = {name: _value(constant) for name, constant in program.constants.items()}
        for operation in everything:
            if operation.kind.startswith(CONSTEXPR):
                self._constants.update(self._results(operation, self._constants))
        self._main = Block(inputs={}, operations=program.operations, results=program.results)
        blocks = (self._main, *(block for operation in everything for block in operation.blocks))
        self._last_use = {id(block): _last_uses(block, keep={*self._constants, *block.results}) for block in blocks}

    def states(self) -> dict[str, torch.Tensor]:
        """A sequence's states at its start, which are zeros as those that Core ML makes."""
        import torch

        return {
            name: torch.zeros([side or 1 for side in kind.shape], dtype=_held(kind.dtype))
            for name, kind in self.program.states.items()
        }

    def constant(self, name: str) -> Any:
        """A constant as the operators see it, the compressed ones dense; None for what is computed."""
        return self._constants.get(name)

    def run(
        self,
        feeds: Mapping[str, NDArray[Any]],
        *,
        states: Mapping[str, torch.Tensor] | None = None,
        observe: Observe | None = None,
    ) -> dict[str, Any]:
        """The program's results by name: tensors, for a classifier its label and its dictionary of probabilities.

        `feeds` are arrays by the name of the input: a tensor in the program's shape; an image as uint8 pixels
        (1, height, width, channels), RGB whatever order the program wants. `states` are changed in their place;
        without, the run is the first of a sequence. `observe` sees every result as it is computed, and what a block
        is given. Raises `Unsupported` for a feed of another shape, and `BadArtifact` where a result has not the
        shape that the program says.
        """
        import torch

        values = {**self._constants, **self.taken(feeds), **(self.states() if states is None else states)}
        with torch.inference_mode():
            results = self._ran(self._main, values, observe)
        return dict(zip(self.program.results, results, strict=True))

    def alone(self, operation: Operation, values: Mapping[str, Any]) -> dict[str, Any]:
        """One operator's results on `values`, which are tensors by name and need not hold the constants."""
        import torch

        names = {name for given in operation.inputs.values() for name in given}
        known = {name: self._constants[name] for name in names & self._constants.keys()}
        with torch.inference_mode():
            return self._results(operation, {**known, **values})

    def _ran(self, block: Block, values: dict[str, Any], observe: Observe | None) -> tuple[Any, ...]:
        import torch

        last_use = self._last_use[id(block)]
        for index, operation in enumerate(block.operations):
            if operation.kind.startswith(CONSTEXPR):
                continue
            for name, result in self._results(operation, values, observe).items():
                values[name] = result
                if observe is not None and isinstance(result, torch.Tensor):
                    observe(operation, name, result)
            for name in last_use.get(index, ()):
                values.pop(name, None)
        return tuple(values[name] for name in block.results)

    def _entered(
        self, holder: Operation, block: Block, around: Mapping[str, Any], observe: Observe | None, *given: Any
    ) -> tuple[Any, ...]:
        """What a block gives for its inputs; what it computes is not seen outside."""
        import torch

        values = dict(around)
        for (name, kind), value in zip(block.inputs.items(), given, strict=True):
            values[name] = self._settled(holder, value, kind)
            if observe is not None and isinstance(value, torch.Tensor):
                observe(holder, name, values[name])
        return self._ran(block, values, observe)

    def _results(
        self, operation: Operation, values: Mapping[str, Any], observe: Observe | None = None
    ) -> dict[str, Any]:
        arguments = {
            key: values[names[0]] if len(names) == 1 and key not in VARIADIC else tuple(values[name] for name in names)
            for key, names in operation.inputs.items()
        }
        if operation.blocks:
            entered = (partial(self._entered, operation, block, values, observe) for block in operation.blocks)
            arguments["blocks"] = tuple(entered)
        try:
            answer = operators.table()[operation.kind](**arguments)
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
            raise BadArtifact(
                f"{self.program.path}: {_called(operation)} cannot be executed: {error}", AGAIN
            ) from error
        several = operation.blocks or len(operation.outputs) != 1
        results = answer if isinstance(answer, tuple) and several else (answer,)
        return {
            name: self._settled(operation, result, kind)
            for (name, kind), result in zip(operation.outputs.items(), results, strict=True)
        }

    def _settled(self, operation: Operation, result: Any, kind: TensorType | None) -> Any:
        """The result in the declared dtype, if it has the declared shape."""
        import torch

        if kind is None or not isinstance(result, torch.Tensor):
            return result
        if len(result.shape) != len(kind.shape) or any(
            want not in (None, got) for want, got in zip(kind.shape, result.shape, strict=True)
        ):
            raise BadArtifact(
                f"{self.program.path}: {_called(operation)} gives {tuple(result.shape)}, the program says {kind.shape}",
                AGAIN,
            )
        if self.rounding and kind.dtype == "float16":
            return result.half().float()
        return result.to(_held(kind.dtype))

    def taken(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
        """The feeds of `run` as the operators see them."""
        import torch

        taken = {}
        for feature in self.program.inputs:
            array = feeds[feature.name]
            if feature.kind == "image":
                ordered = array[..., ::-1] if feature.color == "BGR" else array
                array = ordered.transpose(0, 3, 1, 2)
            if array.ndim != len(feature.shape) or any(
                want not in (None, got) for want, got in zip(feature.shape, array.shape, strict=True)
            ):
                raise Unsupported(f"{feature.name} takes {feature.shape}, not {array.shape}")
            value = torch.from_numpy(array.copy())
            if feature.kind == "image" or feature.dtype in FLOATS:
                value = value.half().float() if self.rounding and feature.dtype == "float16" else value.float()
            taken[feature.name] = value
        return taken


def _called(operation: Operation) -> str:
    return f"{operation.kind} {operation.name}"


def _refuse_unknown(operations: Iterable[Operation]) -> None:
    known = operators.table()
    unknown = sorted({operation.kind for operation in operations if operation.kind not in known})
    if unknown:
        raise ParityFailed(
            f"not proven: the reference executor does not know {', '.join(unknown)}",
            "nothing was checked; report the operator, or run the parity check on a Mac",
        )


def _held(dtype: str) -> torch.dtype:
    """The dtype that values of a MIL dtype have here."""
    import torch

    found: torch.dtype = getattr(torch, "float32" if dtype in FLOATS else INTEGERS.get(dtype, dtype))
    return found


def _value(constant: Constant) -> Any:
    import numpy as np
    import torch

    if not isinstance(constant.value, np.ndarray):
        return constant.value
    dtype = constant.type.dtype
    if dtype in FLOATS:
        # A copy: PyTorch takes no memory that it may not write to.
        return torch.from_numpy(np.array(constant.value, dtype=np.float32))
    # PyTorch has no arithmetic on the wider unsigned dtypes.
    wide = INTEGERS.get(dtype, constant.value.dtype.name)
    return torch.from_numpy(constant.value.astype(wide))


def _last_uses(block: Block, *, keep: set[str]) -> dict[int, list[str]]:
    """For each operator of a block the values that nothing needs after it."""
    last: dict[str, int] = {}
    for index, operation in enumerate(block.operations):
        for name in _touched(operation):
            last[name] = index
    uses: dict[int, list[str]] = {}
    for name, index in last.items():
        if name not in keep:
            uses.setdefault(index, []).append(name)
    return uses


def _touched(operation: Operation) -> Iterator[str]:
    """The values that an operator gives or reads, also within its blocks."""
    yield from operation.outputs
    for names in operation.inputs.values():
        yield from names
    for block in operation.blocks:
        yield from block.results
        for inner in block.operations:
            yield from _touched(inner)
