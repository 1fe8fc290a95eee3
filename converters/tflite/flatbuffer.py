"""TFLite files as the schema's objects (`schema_py_generated.ModelT` of ai-edge-litert), and back to bytes."""

from __future__ import annotations

import struct
from typing import Any, Final

from ...models.errors import BadArtifact, ConversionFailed

IDENTIFIER: Final = b"TFL3"
SIGNATURE: Final = "serving_default"  # the name of the one signature that our files have, as TensorFlow calls its own
ALIGNMENT: Final = 16  # bytes: `force_align` of Buffer.data in the schema, which the generated Python code forgets

# What the generated readers raise on bytes that are no FlatBuffer: they check nothing themselves.
_MALFORMED: Final = (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)


def pack(model: Any) -> bytes:
    """The file's bytes; the data of every buffer (uint8 array or bytes) starts at a multiple of 16.

    Raises `ConversionFailed` for more than 2 GB, the most a FlatBuffer's offsets reach.
    """
    import numpy as np
    from flatbuffers.builder import BuilderSizeError

    for buffer in model.buffers:
        if isinstance(buffer.data, (bytes, bytearray)):
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    size_bytes = sum(len(buffer.data) + ALIGNMENT for buffer in model.buffers if buffer.data is not None)
    try:
        builder = _aligning_builder(size_bytes + (1 << 16))
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())
    except BuilderSizeError as error:
        raise ConversionFailed(f"a TFLite file of {size_bytes:,} bytes is not possible", "2 GB is the most") from error


def _aligning_builder(size_bytes: int) -> Any:
    from flatbuffers import Builder

    class AligningBuilder(Builder):  # type: ignore[misc]  # flatbuffers has no types
        def StartVector(self, size: int, count: int, alignment: int) -> Any:  # noqa: N802
            # Finish() pads the whole to the largest alignment seen, so offsets from the file's start hold too.
            return super().StartVector(size, count, ALIGNMENT if size == 1 else alignment)

    return AligningBuilder(size_bytes)


def unpack(data: bytes) -> Any:
    """The model in `data`, its buffers as views of it; what follows the FlatBuffer (a ZIP) is left out.

    Raises `BadArtifact` for bytes that are no TFLite model, or whose buffers lie outside of the FlatBuffer.
    """
    from ai_edge_litert.schema_py_generated import ModelT

    if data[4:8] != IDENTIFIER:
        raise BadArtifact("not a TFLite file: it does not have the identifier TFL3")
    try:
        model = ModelT.InitFromPackedBuf(data)
    except _MALFORMED as error:
        raise BadArtifact("the TFLite file is damaged: it ends early, or its offsets lead nowhere") from error
    if not model.subgraphs or not model.buffers:
        raise BadArtifact("the TFLite file is damaged: it has no graph")
    if any(buffer.offset > 1 for buffer in model.buffers):
        raise BadArtifact("the TFLite file keeps weights behind its FlatBuffer, which is not supported")
    return model
