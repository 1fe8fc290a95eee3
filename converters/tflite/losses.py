"""What each operator of a quantized TFLite file loses: each alone, in float, rounded as the file says.

The file's own kernels give what is propagated. They do not give what is isolated: they take the scale of a bias to be
that of its products, so a wrong scale of an activation would be charged to whoever reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...models.errors import Unsupported
from .. import tensors
from ..losses import Grid, Operator, Run, Values
from .aligned import Aligned, Step
from .cut import cut
from .flatbuffer import unpack
from .inspection import inspect
from .writer import DESCRIPTION, write

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..artifact import TensorRecord
    from .graph import Graph


def read(path: Path) -> bytes:
    """The file; raises `BadArtifact`, and `Unsupported` for one that the direct writer did not write."""
    inspect(path)
    content = path.read_bytes()
    if unpack(content).description != DESCRIPTION:
        raise Unsupported(
            f"{path} went by way of onnx2tf, whose tensors have no counterparts in the model",
            "convert with --via direct",
        )
    return content


class TfliteProbe:
    """A file of the direct writer and the float graph that it came from."""

    def __init__(
        self, content: bytes, floating: Graph, inputs: Sequence[TensorRecord], given: Sequence[TensorRecord]
    ) -> None:
        """Raises `Unsupported` where the operators are not those of the float graph."""
        (self._taken,), self._given = inputs, given
        self._file = file = Aligned(content, floating)
        self._steps = file.steps()
        self.operators: Sequence[Operator] = [file.operator(step) for step in self._steps]
        self.left_out: Sequence[str] = ()
        self._content = content
        alone = cut(file, self._steps)
        self._fed, self._alone = alone.taken, _Opened(alone.content)
        names = [tensor.name for tensor in floating.inputs], [f"y{i}" for i in range(len(floating.outputs))]
        # Writing gives the outputs these names, so it comes last.
        self._meant = _Opened(write(floating, inputs=names[0], outputs=names[1]))
        self._place = {id(tensor): place for place, tensor in enumerate(floating.tensors())}

    @cached_property
    def _whole(self) -> _Opened | str:
        """The file, or why TFLite refuses it."""
        try:
            return _Opened(self._content)
        except (RuntimeError, ValueError) as error:
            return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")

    @property
    def notes(self) -> Sequence[str]:
        """See `losses.Probe`."""
        whole = self._whole
        return [f"TFLite refuses the file, so nothing is propagated: {whole}"] if isinstance(whole, str) else []

    def run(self, feed: NDArray[Any]) -> Run:
        """See `losses.Probe`."""
        alone, whole = self.alone(feed), self._whole
        if isinstance(whole, str):
            return Run(values=alone, outputs=None)
        outputs = whole.run([tensors.to_file(self._taken, self._repeated(feed))])
        return Run(
            values=[
                replace(values, found=_real(whole.tensor(step.output), self._file.grid(step.output)))
                for step, values in zip(self._steps, alone, strict=True)
            ],
            outputs=[tensors.to_model(record, part[:1]) for record, part in zip(self._given, outputs, strict=True)],
        )

    def alone(self, feed: NDArray[Any]) -> list[Values]:
        """See `losses.Probe`."""
        plain = self._taken.model_copy(update={"dtype": "float32", "quantization": None})
        self._meant.run([tensors.to_file(plain, self._repeated(feed))])
        meant = {index: self._meant.tensor(self._place[id(tensor)]) for index, tensor in self._file.floats.items()}
        results = iter(self._alone.run([meant[index] for index in self._fed]))
        return [
            self._values(step, meant, next(results) if step.computes else meant[step.source]) for step in self._steps
        ]

    def _repeated(self, feed: NDArray[Any]) -> NDArray[Any]:
        """As often as a fixed batch wants it."""
        return feed.repeat(self._taken.shape[0] or 1, axis=0)

    def _values(self, step: Step, meant: dict[int, NDArray[Any]], result: NDArray[Any]) -> Values:
        grid = self._file.grid(step.output)
        return Values(meant=meant[step.output], isolated=result if grid is None else _rounded(result, grid))


class _Opened:
    """A file in TFLite's builtin kernels, since a delegate would keep the inner tensors to itself."""

    def __init__(self, content: bytes) -> None:
        """Raises `ValueError` or `RuntimeError` for what the kernels refuse."""
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter = Interpreter(
            model_content=content,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        self._interpreter.allocate_tensors()
        self._inputs, self._outputs = (
            [detail["index"] for detail in details]
            for details in (self._interpreter.get_input_details(), self._interpreter.get_output_details())
        )

    def run(self, feeds: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        for index, feed in zip(self._inputs, feeds, strict=True):
            self._interpreter.set_tensor(index, feed)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]

    def tensor(self, index: int) -> NDArray[Any]:
        """What a tensor of the file was in the last run."""
        values: NDArray[Any] = self._interpreter.get_tensor(index)
        return values


def _rounded(values: NDArray[Any], grid: Grid) -> NDArray[Any]:
    import numpy as np

    steps: NDArray[Any] = np.round((values.astype(np.float64) - grid.low) / grid.step)
    return steps.clip(0, round((grid.high - grid.low) / grid.step)) * grid.step + grid.low


def _real(values: NDArray[Any], grid: Grid | None) -> NDArray[Any]:
    """What integers stand for; floats as they are."""
    import numpy as np

    if grid is None:
        return values
    shifted: NDArray[Any] = values.astype(np.float64) - np.iinfo(grid.dtype).min
    return shifted * grid.step + grid.low
