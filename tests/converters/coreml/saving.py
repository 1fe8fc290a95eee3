"""A module written, saved and read back as a stranger reads it, and its answers beside PyTorch's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from evit_edge.converters.coreml import metadata, writer
from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor
from evit_edge.converters.coreml.program import Program
from evit_edge.converters.coreml.toolkit import quiet
from evit_edge.converters.coreml.writer import Form

from ..tflite.engines import expected

Arrays = Sequence[NDArray[Any]]


def form(module: nn.Module, x: NDArray[Any], target: str, *, half: bool = True, **options: Any) -> Form:
    """The form of a module of one tensor: the input `x`, the outputs `y0` and so on."""
    names = [f"y{index}" for index in range(len(expected(module, x[:1])))]
    return Form(target=target, shape=x.shape[1:], inputs=["x"], outputs=names, half=half, **options)


def written(module: nn.Module, of: Form, *, keep_float32: frozenset[str] = frozenset()) -> Any:
    """The model."""
    with quiet():
        return writer.write(module, of, keep_float32=keep_float32)


def saved(model: Any, folder: Path) -> Program:
    path = folder / "model.mlpackage"
    metadata.save(model, path)
    return programs.load(path)


def feeds(x: NDArray[Any]) -> Iterator[Mapping[str, NDArray[Any]]]:
    """One by one."""
    return ({"x": part[None]} for part in x)


def run(program: Program, given: Iterable[Mapping[str, NDArray[Any]]], *, rounding: bool = True) -> list[NDArray[Any]]:
    """The results in the order of their names, all feeds together."""
    executor = Executor(program, rounding=rounding)
    answers = [executor.run(feed) for feed in given]
    return [np.concatenate([answer[name].numpy() for answer in answers]) for name in sorted(program.results)]


def cosine(found: Arrays, wanted: Arrays) -> float:
    """The least over all samples and outputs; -1 where something is not finite."""
    least = 1.0
    for left, right in zip(found, wanted, strict=True):
        assert left.shape == right.shape
        if not np.isfinite(left).all():
            return -1
        one, other = (part.reshape(len(part), -1).astype(np.float64) for part in (left, right))
        norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        least = min(least, float(((one * other).sum(1) / norms).min()))
    return least


def largest_error(found: Arrays, wanted: Arrays) -> float:
    """The largest over all outputs, relative to the largest of the output."""
    pairs = zip(found, wanted, strict=True)
    return max(float(np.abs(left - right).max() / np.abs(right).max()) for left, right in pairs)
