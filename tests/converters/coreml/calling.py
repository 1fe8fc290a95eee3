"""One operator of the table called as the executor calls it, and a saved program run as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from evit_edge.converters.coreml import operators
from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import INTEGERS, Executor

from . import mil

Array = np.ndarray[Any, np.dtype[Any]]


def given(value: Any) -> Any:
    """An argument as the executor has it: tensors, wider for integers that PyTorch lacks; strings and tuples stay."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return tuple(given(part) for part in value)
    array = np.asarray(value)
    if array.dtype == np.int64 and not isinstance(value, np.ndarray | np.generic):
        array = array.astype(np.int32)
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(array.astype(INTEGERS.get(array.dtype.name, array.dtype.name)))


def ours(name: str, **inputs: Any) -> Any:
    """Our operator's result on NumPy values, as NumPy."""
    result = operators.table()[name](**{key: given(value) for key, value in inputs.items()})
    if isinstance(result, tuple):
        return tuple(part.numpy() if isinstance(part, torch.Tensor) else part for part in result)
    return result.numpy() if isinstance(result, torch.Tensor) else result


def same(got: Any, want: Any, *, tolerance: float = 0) -> None:
    """The same values in the same shape, for one result or for several."""
    if isinstance(want, tuple):
        assert isinstance(got, tuple)
        assert len(got) == len(want)
        for left, right in zip(got, want, strict=True):
            same(left, right, tolerance=tolerance)
        return
    left, right = np.asarray(got), np.asarray(want)
    assert left.shape == right.shape
    assert (left.dtype.kind == "f") == (right.dtype.kind == "f")
    np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


def agree(name: str, opset: str = "iOS17", tolerance: float = 0, **inputs: Any) -> None:
    """Ours and coremltools' own value inference give the same."""
    want = mil.value(name, opset=opset, **inputs)
    assert want is not None
    same(ours(name, **inputs), want, tolerance=tolerance)


def saved(
    function: Callable[..., Any],
    feeds: Mapping[str, Array],
    target: str,
    folder: Path,
    *,
    precision: str = "FLOAT32",
) -> tuple[Any, ...]:
    """The results of a saved program on `feeds`, in order, as the executor gives them."""
    dtypes = {name: {"float32": "fp32"}.get(feed.dtype.name, feed.dtype.name) for name, feed in feeds.items()}
    shapes = {name: feed.shape for name, feed in feeds.items()}
    path = mil.program(function, shapes, target, precision, folder, dtypes=dtypes)
    results = Executor(programs.load(path)).run(feeds)
    return tuple(part.numpy() if isinstance(part, torch.Tensor) else part for part in results.values())


def int32(values: Any) -> Any:
    """An array, of one value its scalar, as coremltools wants constants."""
    return np.array(values, np.int32)[()]


def float32(values: Any) -> Any:
    """An array, of one value its scalar, as coremltools wants constants."""
    return np.array(values, np.float32)[()]


def numbers(shape: tuple[int, ...], seed: int = 0) -> Array:
    """Normally distributed float32, no two alike."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def integers(low: int, high: int, shape: tuple[int, ...], seed: int = 0) -> Array:
    """int32 in [low, high)."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.int32)


def shapes(least: int = 1, most: int = 4, side: int = 5) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of some rank without an empty axis."""
    return st.lists(st.integers(1, side), min_size=least, max_size=most).map(tuple)
