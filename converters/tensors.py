"""From the model's tensors, float32 with channels second, to those that a file takes and gives, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .artifact import Normalisation, TensorRecord

# How far float32 may take a whole pixel on its way to a normalised value and back.
WHOLE: Final = 1e-2


def model_shape(record: TensorRecord) -> tuple[int | None, ...]:
    """The shape that the model's own tensor has: (n, channels, height, width) where the file has channels last."""
    if record.layout == "nhwc" and len(record.shape) == 4:
        batch, height, width, channels = record.shape
        return (batch, channels, height, width)
    return record.shape


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities over the last axis."""
    import numpy as np

    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
    return shares


def holds(record: TensorRecord, values: NDArray[Any]) -> bool:
    """Whether a file can be given the model's float (n, …) at all: an image has pixels from 0 to 255 and no others."""
    import numpy as np

    if record.normalisation is None:
        return True
    pixels = _pixels(record.normalisation, values)
    # What is not finite is outside too, and has no distance to a whole number.
    return bool((np.abs(pixels - 127.5) < 128).all() and (np.abs(pixels - np.round(pixels)) < WHOLE).all())


def to_file(record: TensorRecord, values: NDArray[Any]) -> NDArray[Any]:
    """The model's float (n, …) in the layout and dtype of the file; integers are rounded to even and saturate.

    NaN has no integer, and becomes zero.
    """
    import numpy as np

    if record.normalisation is not None:
        values = np.nan_to_num(np.round(_pixels(record.normalisation, values))).clip(0, 255)
    if record.layout == "nhwc" and values.ndim == 4:
        values = values.transpose(0, 2, 3, 1)
    if record.quantization is not None:
        limits = np.iinfo(record.dtype)
        steps = np.round(values.astype(np.float64) / record.quantization.scale) + record.quantization.zero_point
        values = np.nan_to_num(steps, nan=record.quantization.zero_point).clip(limits.min, limits.max)
    return np.ascontiguousarray(values, dtype=record.dtype)


def to_model(record: TensorRecord, values: NDArray[Any]) -> NDArray[np.float32]:
    """The file's tensor (n, …) as the model's float32; from probabilities, logits up to a constant."""
    import numpy as np

    if record.softmax:
        values = np.log(np.maximum(values, np.finfo(np.float32).tiny))

    if record.quantization is not None:
        values = (values.astype(np.float64) - record.quantization.zero_point) * record.quantization.scale
    if record.layout == "nhwc" and values.ndim == 4:
        values = values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values, dtype=np.float32)


def _pixels(normalisation: Normalisation, values: NDArray[Any]) -> NDArray[np.float64]:
    """Normalised (n, 3, height, width) as pixels, not yet rounded."""
    import numpy as np

    mean, std = (np.asarray(part).reshape(1, 3, 1, 1) for part in (normalisation.mean, normalisation.std))
    pixels: NDArray[np.float64] = (values.astype(np.float64) * std + mean) * 255
    return pixels
