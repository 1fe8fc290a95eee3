"""The four engines that every written file has to run in, and a module beside its file."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from evit_edge.converters.tflite import direct
from evit_edge.converters.tflite.graph import Graph
from evit_edge.converters.tflite.writer import write
from evit_edge.device_bench.tflite_placement import placement

ENGINES = {
    "LiteRT": ("ai_edge_litert", True),
    "LiteRT without XNNPACK": ("ai_edge_litert", False),
    "TFLite": ("tflite_runtime", True),
    "TFLite without XNNPACK": ("tflite_runtime", False),
}
CLOSE = 1e-5


class Do(nn.Module):
    """A function of one tensor as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


def interpreter(content: bytes, engine: str, **options: Any) -> Any:
    package, delegated = ENGINES[engine]
    module = importlib.import_module(f"{package}.interpreter")
    if not delegated:
        options["experimental_op_resolver_type"] = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return module.Interpreter(model_content=content, num_threads=1, **options)


class File:
    """A file opened in an engine; `run` takes and gives what lies in the file, whatever the batch."""

    def __init__(self, content: bytes, engine: str) -> None:
        self.engine = interpreter(content, engine)
        self.engine.allocate_tensors()

    def run(self, x: NDArray[Any]) -> list[NDArray[Any]]:
        (given,) = self.engine.get_input_details()
        if tuple(given["shape"]) != x.shape:
            self.engine.resize_tensor_input(given["index"], x.shape)
            self.engine.allocate_tensors()
        self.engine.set_tensor(given["index"], np.ascontiguousarray(x))
        self.engine.invoke()
        return [self.engine.get_tensor(detail["index"]) for detail in self.engine.get_output_details()]


def written(graph: Graph) -> bytes:
    return write(graph, inputs=["x"], outputs=[f"y{index}" for index in range(len(graph.outputs))])


def to_file(x: NDArray[Any]) -> NDArray[Any]:
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def from_file(y: NDArray[Any]) -> NDArray[Any]:
    return y.transpose(0, 3, 1, 2) if y.ndim == 4 else y


def expected(module: nn.Module, x: NDArray[Any]) -> list[NDArray[Any]]:
    with torch.no_grad():
        # A module may change what it is given.
        y = module(torch.from_numpy(x.copy()))
    return [part.numpy() for part in (y if isinstance(y, list | tuple) else [y])]


def distance(y: NDArray[Any], reference: NDArray[Any]) -> float:
    """Relative, by the Euclidean norm."""
    return float(np.linalg.norm(y - reference) / max(float(np.linalg.norm(reference)), 1e-30))


def cosines(y: NDArray[Any], reference: NDArray[Any]) -> NDArray[Any]:
    """One a row."""
    y, reference = y.reshape(len(y), -1).astype(np.float64), reference.reshape(len(y), -1).astype(np.float64)
    norms = np.linalg.norm(y, axis=1) * np.linalg.norm(reference, axis=1)
    result: NDArray[Any] = (y * reference).sum(1) / norms
    return result


def agree(module: nn.Module, *shape: int, free: bool = False, scale: float = 2.0) -> list[str]:
    """Fail unless the module's file gives, in every engine, what the module does; the kinds of its operators."""
    module.eval()
    x = (scale * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    graph = direct.graph_of(module, (None, *shape[1:]) if free else shape)
    content, wanted = written(graph), expected(module, x)
    for engine in ENGINES:
        found = [from_file(y) for y in File(content, engine).run(to_file(x))]
        assert [y.shape for y in found] == [y.shape for y in wanted], engine
        for y, reference in zip(found, wanted, strict=True):
            assert distance(y, reference) <= CLOSE, engine
    return [operator.kind for operator in graph.operators]


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """With statistics and scales that are not those of the first step of a training."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d | nn.LayerNorm | nn.BatchNorm1d):
            for name, low, high in (
                ("weight", 0.5, 1.5),
                ("bias", -0.5, 0.5),
                ("running_mean", -0.5, 0.5),
                ("running_var", 0.5, 1.5),
            ):
                tensor = getattr(part, name, None)
                if tensor is not None:
                    tensor.data.uniform_(low, high, generator=generator)
    return module.eval().requires_grad_(False)


def is_one_partition(content: bytes) -> bool:
    """Whether XNNPACK of LiteRT takes all of a file, at once."""
    engine = interpreter(content, "LiteRT")
    engine.allocate_tensors()
    found = placement(engine, delegate="XNNPACK")
    return found is not None and found.partitions == 1 and found.nodes_taken == found.nodes


def kinds(graph: Graph) -> list[str]:
    return [operator.kind for operator in graph.operators]
