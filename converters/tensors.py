"""From the model's tensors, float32 with channels second, to those that a file takes and gives, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .artifact import TensorRecord


def model_shape(record: TensorRecord) -> tuple[int | None, ...]:
    """The shape that the model's own tensor has: (n, channels, height, width) where the file has channels last."""
    if record.layout == "nhwc" and len(record.shape) == 4:
        batch, height, width, channels = record.shape
        return (batch, channels, height, width)
    return record.shape


def to_file(record: TensorRecord, values: NDArray[Any]) -> NDArray[Any]:
    """The model's float (n, …) in the layout and dtype of the file; integers are rounded to even and saturate.

    NaN has no integer, and becomes zero.
    """
    import numpy as np

    if record.layout == "nhwc" and values.ndim == 4:
        values = values.transpose(0, 2, 3, 1)
    if record.quantization is not None:
        limits = np.iinfo(record.dtype)
        steps = np.round(values.astype(np.float64) / record.quantization.scale) + record.quantization.zero_point
        values = np.nan_to_num(steps, nan=record.quantization.zero_point).clip(limits.min, limits.max)
    return np.ascontiguousarray(values, dtype=record.dtype)


def to_model(record: TensorRecord, values: NDArray[Any]) -> NDArray[np.float32]:
    """The file's tensor (n, …) as the model's float32."""
    import numpy as np

    if record.quantization is not None:
        values = (values.astype(np.float64) - record.quantization.zero_point) * record.quantization.scale
    if record.layout == "nhwc" and values.ndim == 4:
        values = values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values, dtype=np.float32)
