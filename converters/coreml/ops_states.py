"""MIL's states: tensors that outlive a run, and that are changed in their place."""

from __future__ import annotations

from torch import Tensor

from .operators import operator


@operator
def read_state(input: Tensor) -> Tensor:
    """A copy, which later writing leaves alone."""
    return input.clone()


@operator
def write_state(input: Tensor, data: Tensor) -> tuple[()]:
    """Has no result: the file has coremltools' `coreml_update_state` as this and a `read_state`."""
    input.copy_(data)
    return ()
