"""The direct writer: from a PyTorch module to a TFLite file through `torch.export`, without TensorFlow or ONNX."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

from . import int8, ranges, weights
from .graph import Graph
from .lowering import NotLowered, lower, missing
from .proof import prove
from .rules import RULES
from .simplify import separate_splits, simplify
from .writer import write

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

PRECISIONS: Final = ("fp32", "fp16", "w8", "int8")
EXAMPLE_BATCH: Final = 2

Feeds = Callable[[], Iterable["NDArray[Any]"]]


def graph_of(
    module: nn.Module,
    shape: tuple[int | None, ...],
    *,
    precision: str = "fp32",
    channels_last: bool = True,
    edge: Literal["float", "int8", "uint8"] = "float",
    feeds: Feeds | None = None,
    method: str = "minmax",
    reference: nn.Module | None = None,
) -> Graph:
    """The graph of a float32 module that takes one tensor of `shape`, whose None is a free batch.

    With `channels_last` 4-D inputs and outputs have their channels last. `int8` needs `feeds`, float32 arrays
    (1, …) in the module's own layout, which `method` takes the ranges from, and `edge` is then the dtype of inputs and
    outputs. Below fp32 the float graph must first agree with `reference`, the module itself if not given, on the first
    feeds, or on noise without any.
    Raises `NotLowered` with the operator and the module's path where there is no rule, and `ParityFailed`.
    """
    graph = simplify(separate_splits(lower(exported(module, shape), RULES, channels_last=channels_last)))
    if precision == "fp32":
        return graph
    prove(
        write(
            graph, inputs=[tensor.name for tensor in graph.inputs], outputs=[f"y{i}" for i in range(len(graph.outputs))]
        ),
        module if reference is None else reference,
        shape,
        channels_last=channels_last,
        feeds=None if feeds is None else feeds(),
    )
    if precision in ("fp16", "w8"):
        return weights.compress(graph, precision)  # type: ignore[arg-type]
    assert feeds is not None
    # A graph for a fixed batch takes no other.
    repeated = (feed.repeat(shape[0] or 1, axis=0) for feed in feeds())
    found = ranges.measure(graph, (_laid_out(feed, channels_last=channels_last) for feed in repeated), method)
    return weights.compress(int8.quantize(graph, found, edge=edge), "w8")


def exported(module: nn.Module, shape: tuple[int | None, ...]) -> torch.export.ExportedProgram:
    """The program of `module`; operators without a rule are taken apart, if `torch` can, and then refused."""
    import torch

    example = torch.rand([EXAMPLE_BATCH if side is None else side for side in shape])
    free = {0: torch.export.Dim("batch", min=1)} if shape[0] is None else None
    with warnings.catch_warnings(), torch.no_grad(), _no_collection():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (example,), dynamic_shapes=(free,) if free else None)
        if missing(program, RULES):
            table = torch.export.default_decompositions()
            for overload in list(table):
                if str(overload) in RULES:
                    table.pop(overload)
            program = program.run_decompositions(table)
    if lacking := missing(program, RULES):
        raise NotLowered(f"the direct writer has no rule for {lacking[0]}")
    return program


@contextmanager
def _no_collection() -> Iterator[None]:
    """Tracing makes objects that stay; looking for garbage among them took a sixth of its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _laid_out(feed: NDArray[Any], *, channels_last: bool) -> NDArray[Any]:
    import numpy as np

    return np.ascontiguousarray(feed.transpose(0, 2, 3, 1)) if channels_last and feed.ndim == 4 else feed
