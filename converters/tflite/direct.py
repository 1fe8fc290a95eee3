"""The direct writer: from a PyTorch module to a TFLite file through `torch.export`, without TensorFlow or ONNX."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from . import int8, ranges, weights
from .graph import Graph
from .lowering import NotLowered, lower, missing
from .mixing import TfliteMixable
from .proof import prove
from .rules import RULES
from .simplify import separate_splits, simplify
from .writer import write

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from ..mixed import Mixable

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
    trials: Sequence[NDArray[Any]] = (),
    choose: Callable[[Mixable], Collection[str]] = lambda form: (),
    keep: Callable[[Graph], None] = lambda graph: None,
) -> Graph:
    """The graph of a float32 module that takes one tensor of `shape`, whose None is a free batch.

    With `channels_last` 4-D inputs and outputs have their channels last. `int8` needs `feeds`, float32 arrays
    (1, …) in the module's own layout, which `method` takes the ranges from, and `edge` is then the dtype of inputs and
    outputs. `mixed` leaves float what `choose` names of a form that answers for `trials`, more such arrays; `keep` is
    given the float graph that has become integers. Below fp32 that graph must first agree with `reference`, the module
    itself if not given, on the first feeds, or on noise without any.
    Raises `NotLowered` with the operator and the module's path where there is no rule, and `ParityFailed`.
    """
    graph = simplify(separate_splits(lower(exported(module, shape), RULES, channels_last=channels_last)))
    graph.name_apart()
    if precision == "fp32":
        return graph
    names = [tensor.name for tensor in graph.inputs], [f"y{i}" for i in range(len(graph.outputs))]
    written = write(graph, inputs=names[0], outputs=names[1])
    first = None if feeds is None else feeds()
    prove(written, module if reference is None else reference, shape, channels_last=channels_last, feeds=first)
    if precision in ("fp16", "w8"):
        return weights.compress(graph, precision)  # type: ignore[arg-type]
    assert feeds is not None
    fit = partial(_laid_out, batch=shape[0] or 1, channels_last=channels_last)
    found = ranges.measure(graph, map(fit, feeds()), method)
    kept = choose(TfliteMixable(graph, found, edge, [*map(fit, trials)])) if precision == "mixed" else ()
    keep(graph.copy())
    return weights.compress(int8.quantize(graph, found, edge=edge, kept=kept), "w8", kept=kept)


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


def _laid_out(feed: NDArray[Any], *, batch: int, channels_last: bool) -> NDArray[Any]:
    """As often as a fixed batch wants it, since the graph takes no other."""
    import numpy as np

    repeated = feed.repeat(batch, axis=0)
    return np.ascontiguousarray(repeated.transpose(0, 2, 3, 1)) if channels_last and feed.ndim == 4 else repeated
