"""The reference executor: runs a saved ML Program with PyTorch on any CPU. Not Apple hardware, and never said to be.

Two ways: with `rounding` every result is rounded to the dtype that the program declares for it, after arithmetic in
float32, which is how hardware with 16-bit storage and wider accumulators behaves; without, floats stay float32, which
is what the program means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ...models.errors import BadArtifact, ParityFailed, Unsupported
from . import operators
from .package import AGAIN
from .program import FLOATS, Constant, Operation, Program, TensorType

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Observe = Callable[[Operation, str, torch.Tensor], None]

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
        _refuse_unknown(program.operations)
        self._constants = {name: _value(constant) for name, constant in program.constants.items()}
        self._steps: list[Operation] = []
        for operation in program.operations:
            if operation.kind.startswith("constexpr_"):
                self._constants.update(self._results(operation, self._constants))
            else:
                self._steps.append(operation)
        self._last_use = _last_uses(self._steps, keep={*self._constants, *program.results})

    def run(self, feeds: Mapping[str, NDArray[Any]], *, observe: Observe | None = None) -> dict[str, Any]:
        """The program's results by name: tensors, for a classifier its label and its dictionary of probabilities.

        `feeds` are arrays by the name of the input: a tensor in the program's shape; an image as uint8 pixels
        (1, height, width, channels), RGB whatever order the program wants. `observe` sees every result as it is
        computed. Raises `Unsupported` for a feed of another shape, and `BadArtifact` where a result has not the
        shape that the program says.
        """
        import torch

        values = dict(self._constants)
        values.update(self._taken(feeds))
        with torch.inference_mode():
            for index, operation in enumerate(self._steps):
                for name, result in self._results(operation, values).items():
                    values[name] = result
                    if observe is not None and isinstance(result, torch.Tensor):
                        observe(operation, name, result)
                for name in self._last_use.get(index, ()):
                    values.pop(name, None)
        return {name: values[name] for name in self.program.results}

    def _results(self, operation: Operation, values: Mapping[str, Any]) -> dict[str, Any]:
        arguments = {
            key: values[names[0]] if len(names) == 1 and key != "values" else tuple(values[name] for name in names)
            for key, names in operation.inputs.items()
        }
        try:
            answer = operators.table()[operation.kind](**arguments)
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
            raise BadArtifact(
                f"{self.program.path}: {_called(operation)} cannot be executed: {error}", AGAIN
            ) from error
        results = answer if isinstance(answer, tuple) and len(operation.outputs) > 1 else (answer,)
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
        if kind.dtype in FLOATS:
            half = self.rounding and kind.dtype == "float16"
            return result.half().float() if half else result.float()
        return result.to(getattr(torch, INTEGERS.get(kind.dtype, kind.dtype)))

    def _taken(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
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
    unknown = sorted({operation.kind for operation in operations if operation.kind not in known or operation.blocks})
    if unknown:
        raise ParityFailed(
            f"not proven: the reference executor does not know {', '.join(unknown)}",
            "nothing was checked; report the operator, or run the parity check on a Mac",
        )


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


def _last_uses(steps: list[Operation], *, keep: set[str]) -> dict[int, list[str]]:
    """For each step the values that nothing needs after it."""
    last: dict[str, int] = {}
    for index, operation in enumerate(steps):
        for name in (*operation.outputs, *(name for names in operation.inputs.values() for name in names)):
            last[name] = index
    uses: dict[int, list[str]] = {}
    for name, index in last.items():
        if name not in keep:
            uses.setdefault(index, []).append(name)
    return uses
