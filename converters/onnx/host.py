"""What integer arithmetic of ONNX Runtime the CPU does exactly, measured, and which integers suit it.

Without VNNI an x86 CPU multiplies unsigned activations by signed weights in pairs whose sum must fit into 16 bits, and
cuts off what does not; ONNX Runtime also brings signed activations to that form. Unsigned weights take another path.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Final, Literal

from ...models.errors import PrecisionNotMet

if TYPE_CHECKING:
    import onnx

    from ..inspection import Layer

Host = Literal["x86-avx2", "x86-vnni", "arm64"]

HOSTS: Final[tuple[Host, ...]] = ("x86-avx2", "x86-vnni", "arm64")
# Weights of these are uint8 with 128 for zero, of the others int8; activations are uint8 for all.
UNSIGNED: Final = ("x86-avx2",)
FLOATS: Final = ("float32", "float16")
WIDTH: Final = 64


@cache
def measured_host() -> Host:
    """The kind of CPU that this is, by what it makes of the worst products that 8 bits can hold."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm64"
    return "x86-vnni" if is_exact(signed=True) else "x86-avx2"


def is_exact_for(host: Host) -> bool:
    """Whether this machine computes what a file for `host` says, as far as was measured."""
    return host in UNSIGNED or measured_host() not in UNSIGNED


def check(layers: Iterable[Layer], host: Host) -> None:
    """Raises `PrecisionNotMet` for a layer whose integers are not those that suit `host`; float ones suit any."""
    wanted = "uint8" if host in UNSIGNED else "int8"
    for layer in layers:
        # Weights on the left of a product are to its kernel what activations are.
        allowed = {wanted} if layer.kind == "Conv" else {wanted, "uint8"}
        fits = layer.arithmetic == "uint8" and (not layer.weights or layer.weight_dtype in allowed)
        if not fits and layer.arithmetic not in FLOATS:
            raise PrecisionNotMet(
                f"{layer.name} has weights {layer.weight_dtype or 'none'}, activations {layer.arithmetic}: "
                f"{host} needs weights {wanted}, activations uint8",
                "this is a fault of the converter: take another --host, and report it",
            )


def is_exact(*, signed: bool) -> bool:
    """Whether uint8 activations times int8 (`signed`) or uint8 weights give what integers do, at their largest."""
    import numpy as np

    from .engine import session

    # Every column is a worst case: the largest weights, the least, and half of each.
    largest, least = (127, -128) if signed else (255, 0)
    columns = [[largest] * WIDTH, [least] * WIDTH, [largest] * (WIDTH // 2) + [least] * (WIDTH // 2)]
    weights = np.array(columns, np.int8 if signed else np.uint8).T
    pixels = np.full((WIDTH, WIDTH), 255, np.uint8)
    wanted = pixels.astype(np.int64) @ weights.astype(np.int64)
    (found,) = session(_product(weights).SerializeToString()).run(None, {"x": pixels.astype(np.float32)})
    return bool(np.array_equal(found, wanted))


def _product(weights: object) -> onnx.ModelProto:
    """A product between QuantizeLinear and DequantizeLinear, with 1 as every scale and 0 as every zero."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    array = np.asarray(weights)
    constants = {"one": np.float32(1), "zero": np.uint8(0), "w_zero": array.dtype.type(0), "w": array}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["x_quantized"]),
        helper.make_node("DequantizeLinear", ["x_quantized", "one", "zero"], ["x_again"]),
        helper.make_node("DequantizeLinear", ["w", "one", "w_zero"], ["weights"]),
        helper.make_node("MatMul", ["x_again", "weights"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [WIDTH, size])
        for name, size in (("x", WIDTH), ("y", array.shape[1]))
    ]
    graph = helper.make_graph(
        nodes,
        "saturation",
        ends[:1],
        ends[1:],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model
