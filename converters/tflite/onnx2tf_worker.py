"""What runs in the child process of `by_onnx2tf`: ONNX to Keras by onnx2tf, and on to TFLite by TensorFlow.

onnx2tf's own way on is not taken: it converts twice before it is asked to, turns failed quantizations into warnings,
and names what comes out `output_0`.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from ...models.errors import ConversionFailed
from .. import child
from .flatbuffer import SIGNATURE
from .rewrite import rewrite

ANSI: Final = re.compile(r"\x1b\[\d+m")


def work(job: dict[str, Any]) -> None:
    """Write `model.tflite` into the job's folder from its `model.onnx`, and `calibration.f32` where there is one.

    With a reduced precision `float.tflite` stands beside it, for the proof that onnx2tf did its part.
    """
    folder = Path(job["folder"])
    _limit_memory(job["memory_bytes"])
    # Whatever these packages drop, and wherever they think it belongs, goes away with the folder.
    os.chdir(folder)
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    try:
        model = _to_keras(job, folder / "model.onnx")
        _check_inputs(model, job)
        _save(model, folder / "saved_model", job)
        flatbuffer = _to_tflite(folder / "saved_model", job)
        if job["precision"] != "fp32":
            floats = _to_tflite(folder / "saved_model", {**job, "precision": "fp32"})
            (folder / "float.tflite").write_bytes(rewrite(floats, inputs=job["inputs"], outputs=job["outputs"]))
    except MemoryError as error:
        raise ConversionFailed(f"needs more than {job['memory_bytes'] / 2**30:g} GiB of memory") from error
    named = rewrite(flatbuffer, inputs=job["inputs"], outputs=job["outputs"])
    (folder / "model.tflite").write_bytes(named)


def _limit_memory(size_bytes: int) -> None:
    import resource

    # Not the address space: TensorFlow reserves much that it never touches. Systems without this limit go without.
    with contextlib.suppress(ValueError, OSError):
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        allowed = size_bytes if most == resource.RLIM_INFINITY else min(size_bytes, most)
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, most))


def _to_keras(job: dict[str, Any], onnx_file: Path) -> Any:
    from onnx2tf import onnx2tf

    # It would download pictures, even for a float model and even when it does not use them.
    onnx2tf.download_test_image_data = _pictures
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            model = onnx2tf.convert(
                input_onnx_file_path=str(onnx_file),
                output_folder_path=str(onnx_file.parent / "onnx2tf"),
                keep_ncw_or_nchw_or_ncdhw_input_names=job["inputs"] if job["nchw"] else None,
                custom_input_op_name_np_data_path=_probes(job),
                output_signaturedefs=True,
                disable_model_save=True,
                non_verbose=True,
            )
    except SystemExit as error:
        raise ConversionFailed(f"gave up: {_complaint(said.getvalue())}") from error
    except MemoryError:
        raise
    except Exception as error:
        raise ConversionFailed(f"cannot convert {_operator(error, onnx_file)}: {_line(error)}") from error
    if model is None:
        raise ConversionFailed("ended without an error and without a model")
    return model


def _pictures() -> Any:
    import numpy as np

    return np.zeros((20, 128, 128, 3), np.float32)


def _probes(job: dict[str, Any]) -> list[list[str]]:
    """One batch of noise for each input, by which onnx2tf tells apart axes of equal size.

    Left alone it takes ones where the batch is dynamic or the channels come first, and then cannot tell. More than one
    batch it cannot feed to ONNX Runtime, and then does not even try. (With a dynamic batch it still leaves a Reshape
    untried: what comes of it is for the parity gate to find.)
    """
    import numpy as np

    rng = np.random.default_rng(0)
    probes = []
    for index, (name, shape) in enumerate(zip(job["inputs"], job["shapes"], strict=True)):
        file = Path(job["folder"], f"probe_{index}.npy")
        np.save(file, rng.standard_normal((job["batch"] or 1, *shape), dtype=np.float32))
        probes.append([name, str(file)])
    return probes


def _complaint(said: str) -> str:
    """The first error that onnx2tf printed; what follows is advice."""
    lines = [line.strip() for line in ANSI.sub("", said).splitlines()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return next(iter(errors or reversed(lines)), "") or "it printed nothing"


def _operator(error: Exception, onnx_file: Path) -> str:
    """Which operator of the ONNX file onnx2tf was at, as far as it says."""
    import onnx

    name = getattr(error, "onnx_op_name", None)
    kinds = {node.name: node.op_type for node in onnx.load(onnx_file).graph.node}
    if name in kinds:
        return f"the ONNX operator {kinds[name]} ({name})"
    return f"the ONNX operator {name}" if name else "the model"


def _check_inputs(model: Any, job: dict[str, Any]) -> None:
    wanted = [(job["batch"], *shape) for shape in job["shapes"]]
    given = [tuple(tensor.shape) for tensor in model.inputs]
    if given != wanted:
        raise ConversionFailed(f"made a model that takes {given} where {wanted} was asked for")
    if len(model.outputs) != len(job["outputs"]):
        raise ConversionFailed(f"made a model with {len(model.outputs)} outputs instead of {len(job['outputs'])}")


def _save(model: Any, folder: Path, job: dict[str, Any]) -> None:
    """As a SavedModel whose names sort in the model's order: TensorFlow sorts them, and takes not every name."""
    import tensorflow as tf
    from tf_keras.export import ExportArchive

    def answer(*images: Any) -> dict[str, Any]:
        outputs = model(list(images) if len(images) > 1 else images[0])
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        return {f"output_{index:03}": output for index, output in enumerate(outputs)}

    signature = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=f"input_{index:03}") for index, tensor in enumerate(model.inputs)
    ]
    # tf.saved_model.save refuses models whose constants became resources that no layer owns.
    archive = ExportArchive()
    archive.add_endpoint(SIGNATURE, answer, input_signature=signature)
    archive.write_out(str(folder))


def _to_tflite(saved_model: Path, job: dict[str, Any]) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[SIGNATURE])
    if job["precision"] != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    match job["precision"]:
        case "fp16":
            converter.target_spec.supported_types = [tf.float16]
        case "int8":
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            # XNNPACK of ai-edge-litert 2.1 gets an int8 BATCH_MATMUL wrong unless the zero point of its second
            # operand is 0, and FULLY_CONNECTED right (and faster); a batch that is not known cannot be taken apart.
            converter.unfold_batchmatmul = job["batch"] is not None
            dtypes = {"float": tf.float32, "int8": tf.int8, "uint8": tf.uint8}
            converter.inference_input_type = converter.inference_output_type = dtypes[job["io_dtype"]]
        case "w8a16":
            int16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            converter.target_spec.supported_ops = [int16]
    if job["precision"] in ("int8", "w8a16"):
        file = saved_model.parent / "calibration.f32"
        converter.representative_dataset = _batches(file, job["shapes"][0], job["batch"] or 1)
    try:
        flatbuffer: bytes = converter.convert()
    except MemoryError:
        raise
    except Exception as error:
        raise ConversionFailed(f"made a model that TFLite cannot hold: {_reason(error)}") from error
    return flatbuffer


def _batches(file: Path, shape: Sequence[int], batch: int) -> Callable[[], Iterator[dict[str, Any]]]:
    """The images, `batch` at a time; the last are followed by the first where a batch would not be full."""
    import numpy as np

    size = 4 * math.prod(shape)

    def batches() -> Iterator[dict[str, Any]]:
        count = file.stat().st_size // size
        for start in range(0, count, batch):
            # Mapped anew for each batch, so that no more than one counts as this process's memory.
            images = np.memmap(file, np.float32, mode="r", shape=(count, *shape))
            yield {"input_000": images.take(range(start, start + batch), axis=0, mode="wrap")}

    return batches


def _reason(error: Exception) -> str:
    """TensorFlow's one line among hundreds that names the operators, or else the first."""
    if found := re.search(r"(?:TF Select|Custom) ops: (.+)", str(error)):
        return f"it has no operator for {found[1]}"
    return _line(error)


def _line(error: Exception) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return f"{type(error).__name__}: {next(filter(None, lines), 'no message')}"


if __name__ == "__main__":
    child.serve(work)
