"""coremltools as an independent judge: its own value inference of one operator, and small programs that it saves."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evit_edge.converters.coreml.operators import table

Shape = tuple[int, ...]


@contextmanager
def quiet() -> Iterator[None]:
    """coremltools warns of versions and dtypes, and would load TensorFlow wherever that is installed."""
    hidden = "tensorflow" not in sys.modules and "coremltools" not in sys.modules
    if hidden:
        sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            import coremltools.converters.mil  # noqa: F401

            yield
    finally:
        if hidden:
            del sys.modules["tensorflow"]


def value(op_name: str, opset: str = "iOS17", **inputs: Any) -> Any:
    """What coremltools infers for one operator on constants: an array, a tuple for several outputs, None if nothing."""
    with quiet():
        import coremltools as ct
        from coremltools.converters.mil import Builder as mb  # noqa: N813
        from coremltools.converters.mil.mil import Function

        with Function({}, opset_version=getattr(ct.target, opset)):
            result = getattr(mb, op_name)(**inputs)
    if isinstance(result, (tuple, list)):
        return tuple(output.val for output in result)
    return result.val


def program(
    function: Callable[..., Any],
    inputs: Mapping[str, Shape],
    target: str,
    precision: str,
    folder: Path,
    *,
    dtypes: Mapping[str, str] | None = None,
) -> Path:
    """A saved package of `function(mb, *inputs)`; `precision` is FLOAT32 or FLOAT16, inputs float32 or as `dtypes`."""
    with quiet():
        import coremltools as ct
        from coremltools.converters.mil import Builder as mb  # noqa: N813
        from coremltools.converters.mil.mil import Function, Program, types

        names = {name: types.string_to_builtin((dtypes or {}).get(name, "fp32")) for name in inputs}
        given = {name: mb.TensorSpec(shape=shape, dtype=names[name]) for name, shape in inputs.items()}
        with Function(given, getattr(ct.target, target)) as main:
            outputs = function(mb, *(main.inputs[name] for name in inputs))
            main.set_outputs(list(outputs) if isinstance(outputs, (tuple, list)) else [outputs])
        whole = Program()
        whole.add_function("main", main)
        model = ct.convert(
            whole,
            convert_to="mlprogram",
            compute_precision=getattr(ct.precision, precision),
            minimum_deployment_target=getattr(ct.target, target),
            skip_model_load=True,
        )
        path = folder / "model.mlpackage"
        model.save(str(path))
    return path


def ours(op_name: str, **inputs: Any) -> Any:
    """The same operator of the reference executor, on the same inputs, as arrays."""
    result = table()[op_name](**{name: _tensor(given) for name, given in inputs.items()})
    return tuple(map(np.asarray, result)) if isinstance(result, tuple) else np.asarray(result)


def agree(op_name: str, opset: str = "iOS17", *, rtol: float = 1e-5, atol: float = 1e-6, **inputs: Any) -> None:
    """The reference executor's operator gives what coremltools infers: its shape, and its values up to rounding."""
    got = ours(op_name, **inputs)
    # Some of coremltools' inferences write into their input.
    copies = {name: given.copy() if isinstance(given, np.ndarray) else given for name, given in inputs.items()}
    want = np.asarray(value(op_name, opset, **copies))
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


def numbers(*shape: int, seed: int = 0, dtype: str = "float32", scale: float = 1.0) -> NDArray[Any]:
    """Normally distributed numbers, the same ones for the same arguments; integers from -9 to 9."""
    generator = np.random.default_rng((seed, *shape))
    if dtype.startswith("int"):
        return generator.integers(-9, 10, shape).astype(dtype)
    return (scale * generator.standard_normal(shape)).astype(dtype)


def at(*parts: Any) -> Any:
    """An index of several parts."""
    return parts


def floats(values: Any) -> NDArray[np.float32]:
    """A float32 array."""
    return np.array(values, dtype=np.float32)


def integers(values: Any) -> NDArray[np.int32]:
    """An int32 array."""
    return np.array(values, dtype=np.int32)


def _tensor(given: Any) -> Any:
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, (tuple, list)) and given and isinstance(given[0], np.ndarray):
        return tuple(map(_tensor, given))
    array = np.asarray(given)
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(array if array.dtype.kind == "b" or array.dtype.itemsize < 4 else array.astype(np.int32))
