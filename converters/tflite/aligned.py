"""A TFLite file that the direct writer wrote beside the float graph that it came from: the same operators in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ...models.errors import Unsupported
from ..loss_marks import of_bias
from ..losses import Factor, Grid, Operator
from .flatbuffer import unpack
from .graph import Graph, Tensor
from .graph import Operator as Floating
from .inspection import LAYERS, dtype, kinds
from .int8 import MOVING
from .scales import FIXED

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDING: Final = ("QUANTIZE", "DEQUANTIZE")
INTEGERS: Final = ("int8", "uint8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A result of an operator of the file: the place of the operator, and indices of the file's tensors.

    An input in integers, which whoever calls the file rounds, counts as one without a place.
    """

    place: int | None
    kind: str
    source: int
    output: int
    floating: Floating | None = None

    @property
    def computes(self) -> bool:
        """Whether more is done than to round."""
        return self.place is not None and self.kind not in ROUNDING


class Aligned:
    """A file's first subgraph: `floats` are the tensors of the float graph by index of the file's own."""

    def __init__(self, content: bytes, floating: Graph) -> None:
        """Raises `Unsupported` where the operators are not those of the float graph."""
        self.model = unpack(content)
        self.graph = self.model.subgraphs[0]
        names = kinds(self.model)
        self.kinds = [names[operator.opcodeIndex] for operator in self.graph.operators]
        self.floats: dict[int, Tensor] = dict(zip(self.graph.inputs, floating.inputs, strict=True))
        self._folded: dict[int, int] = {}
        self._counterparts = self._aligned(floating.operators)

    def _aligned(self, operators: Sequence[Floating]) -> dict[int, Floating]:
        """The float operator of each of the file's, by place; what only rounds has none."""
        pending, found = list(operators)[::-1], dict[int, Floating]()
        for place, operator in enumerate(self.graph.operators):
            kind, (source, *_), (output, *_) = self.kinds[place], operator.inputs, operator.outputs
            if kind in ROUNDING and not self._is_relu(output, pending[-1] if pending else None):
                if self.data(source) is not None:
                    self._folded[output] = source
                else:
                    self.floats[output] = self._float_of(source)
                continue
            if not pending or (pending[-1].kind != kind and kind not in ROUNDING):
                raise _strange(kind)
            found[place] = pending.pop()
            self.floats.update(zip(operator.outputs, found[place].outputs, strict=True))
        if pending:
            raise _strange(pending[-1].kind)
        return found

    def _float_of(self, index: int) -> Tensor:
        if index not in self.floats:
            raise _strange(self.name(index))
        return self.floats[index]

    def _is_relu(self, output: int, floating: Floating | None) -> bool:
        """The writer has QUANTIZE for a RELU whose lowest step is zero."""
        return floating is not None and floating.kind == "RELU" and self.name(output) == floating.output.name

    def name(self, index: int) -> str:
        """Without the number that the writer gives to further tensors of a name."""
        return self.full_name(index).partition("#")[0]

    def full_name(self, index: int) -> str:
        """As it stands in the file."""
        name: bytes = self.graph.tensors[index].name
        return name.decode(errors="replace")

    def dtype(self, index: int) -> str:
        """Of a tensor, in lower case."""
        return dtype(self.graph.tensors[index])

    def data(self, index: int) -> NDArray[Any] | None:
        """A constant as it is stored."""
        tensor = self.graph.tensors[index]
        content = self.model.buffers[tensor.buffer].data
        if tensor.buffer == 0 or content is None:
            return None
        shape = [] if tensor.shape is None else tensor.shape
        return content.view(self.dtype(index)).reshape(shape)  # type: ignore[no-any-return]

    def scales(self, index: int) -> tuple[NDArray[Any], NDArray[Any], int] | None:
        """Scales, zero points and their axis."""
        import numpy as np

        held = self.graph.tensors[index].quantization
        if held is None or held.scale is None or not len(held.scale):
            return None
        zeros = np.zeros(len(held.scale)) if held.zeroPoint is None else np.asarray(held.zeroPoint)
        return np.asarray(held.scale, np.float64), zeros, held.quantizedDimension

    def constant(self, index: int) -> NDArray[Any] | None:
        """A constant as the operators are to see it: float32 for what has scales or is float16."""
        import numpy as np

        index = self._folded.get(index, index)
        data, scales = self.data(index), self.scales(index)
        if data is None or (scales is None and data.dtype != np.float16):
            return data
        if scales is None:
            return data.astype(np.float32)
        scale, zeros, axis = scales
        spread = [-1 if place == axis else 1 for place in range(data.ndim)]
        return ((data - zeros.reshape(spread)) * scale.reshape(spread)).astype(np.float32)  # type: ignore[no-any-return]

    def grid(self, index: int) -> Grid | None:
        """The numbers that an activation can hold, None for one that is float."""
        import numpy as np

        scales, dtype = self.scales(index), self.dtype(index)
        if scales is None or dtype not in INTEGERS:
            return None
        step, point, limits = float(scales[0][0]), int(scales[1][0]), np.iinfo(dtype)
        return Grid(dtype=dtype, low=(limits.min - point) * step, high=(limits.max - point) * step, step=step)

    def steps(self) -> list[Step]:
        """Every result but those of DEQUANTIZE, which lose nothing, and integers that stand for no real numbers."""
        inputs = [
            Step(place=None, kind="INPUT", source=index, output=index)
            for index in self.graph.inputs
            if self.grid(index) is not None
        ]
        results = [
            Step(
                place=place,
                kind=self.kinds[place],
                source=operator.inputs[0],
                output=output,
                floating=self._counterparts.get(place),
            )
            for place, operator in enumerate(self.graph.operators)
            for output in operator.outputs
            if self.kinds[place] != "DEQUANTIZE" and self.floats[output].dtype == "float32"
        ]
        return inputs + results

    def operator(self, step: Step) -> Operator:
        """What the report says of it."""
        grid = self.grid(step.output)
        taken = [self.grid(index) for index in self._inputs(step) if self.is_computed(index)]
        return Operator(
            name=self.full_name(step.output),
            kind=step.kind,
            arithmetic="float32" if grid is None else grid.dtype,
            grid=grid,
            factor=self._factor(step),
            moves=step.kind in MOVING and grid is not None and all(each == grid for each in taken),
            fixed=self._is_fixed(step.output),
            remark=self._remark(step),
        )

    def _inputs(self, step: Step) -> list[int]:
        return [] if step.place is None else list(self.graph.operators[step.place].inputs)

    def _is_fixed(self, index: int) -> bool:
        scales = self.scales(index)
        return scales is not None and (float(scales[0][0]), int(scales[1][0])) in FIXED.values()

    def is_computed(self, index: int) -> bool:
        """Whether an operator's input is there, and no constant."""
        return index >= 0 and self.constant(index) is None

    def _factor(self, step: Step) -> Factor | None:
        """The weights of a layer that are stored small."""
        if step.floating is None or step.kind not in LAYERS:
            return None
        index, wanted = self._inputs(step)[1], step.floating.inputs[1]
        found, stored = self.constant(index), self._folded.get(index, index)
        if wanted is None or wanted.data is None or found is None or self.dtype(stored) == "float32":
            return None
        scales = self.scales(stored)
        axis = scales[2] if scales else 3 if step.kind == "DEPTHWISE_CONV_2D" else 0
        name, dtype = self.full_name(stored), self.dtype(stored)
        return Factor(name=name, dtype=dtype, meant=wanted.data, found=found, axis=axis)

    def _remark(self, step: Step) -> str:
        """Of a scale that the kernels take for another: one that is fixed, or a bias that has not its products'."""
        inputs, grid = self._inputs(step), self.grid(step.output)
        if step.kind in FIXED and grid is not None and not self._is_fixed(step.output):
            return f"its steps are {grid.step:.4g} and not {FIXED[step.kind][0]:.4g}, which the format fixes"
        if step.kind not in LAYERS or len(inputs) < 3 or inputs[2] < 0:
            return ""
        x, weight, bias = (self.scales(index) for index in inputs[:3])
        if x is None or weight is None or bias is None:
            return ""
        return of_bias(x[0], weight[0], bias[0])


def _strange(what: str) -> Unsupported:
    return Unsupported(
        f"{what} of the file is not what the direct writer makes of its model now",
        "convert again; a file by way of onnx2tf has no float form to be compared with",
    )
