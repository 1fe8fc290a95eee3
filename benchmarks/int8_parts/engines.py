"""What runs the files, whoever wrote them: one thread; fed first, so that `invoke` can be timed alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

ERRORS_ONLY = 3


class Engine(Protocol):
    """An opened file with one input and one output."""

    def feed(self, images: NDArray[np.float32]) -> None:
        """Take the model's inputs, float32 (n, 3, height, width); n is 1 for files of a fixed batch."""

    def invoke(self) -> None:
        """Run once on what was fed."""

    def answer(self) -> NDArray[np.float32]:
        """The logits of the last run: (n, classes)."""


class OnnxEngine:
    """ONNX Runtime with its defaults, but for one thread."""

    def __init__(self, path: Path) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        self._session = ort.InferenceSession(path, sess_options=options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name

    def feed(self, images: NDArray[np.float32]) -> None:
        """See `Engine`."""
        self._feeds = {self._name: images}

    def invoke(self) -> None:
        """See `Engine`."""
        self._answers = self._session.run(None, self._feeds)

    def answer(self) -> NDArray[np.float32]:
        """See `Engine`."""
        found: NDArray[np.float32] = self._answers[0]
        return found


class LitertEngine:
    """LiteRT with XNNPACK, for files with channels last and floats at their edges."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._engine = Interpreter(model_path=str(path), num_threads=1)
        self._engine.allocate_tensors()

    def feed(self, images: NDArray[np.float32]) -> None:
        """See `Engine`."""
        self._engine.set_tensor(self._engine.get_input_details()[0]["index"], images.transpose(0, 2, 3, 1))

    def invoke(self) -> None:
        """See `Engine`."""
        self._engine.invoke()

    def answer(self) -> NDArray[np.float32]:
        """See `Engine`."""
        found: NDArray[np.float32] = self._engine.get_tensor(self._engine.get_output_details()[0]["index"])
        return found


class CoremlEngine:
    """The reference executor, rounding every result to its dtype: it is never timed."""

    def __init__(self, path: Path) -> None:
        from evit_edge.converters.coreml.executor import Executor
        from evit_edge.converters.coreml.program import load

        program = load(path)
        self._executor = Executor(program)
        self._input, self._output = program.inputs[0].name, program.outputs[0].name

    def feed(self, images: NDArray[np.float32]) -> None:
        """See `Engine`."""
        self._feeds = {self._input: images}

    def invoke(self) -> None:
        """See `Engine`."""
        self._answers = self._executor.run(self._feeds)

    def answer(self) -> NDArray[np.float32]:
        """See `Engine`."""
        found: NDArray[np.float32] = self._answers[self._output].float().numpy()
        return found


class EagerEngine:
    """The original, in PyTorch."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def feed(self, images: NDArray[np.float32]) -> None:
        """See `Engine`."""
        import torch

        self._images = torch.from_numpy(images)

    def invoke(self) -> None:
        """See `Engine`."""
        import torch

        with torch.inference_mode():
            self._answers = self._module(self._images)

    def answer(self) -> NDArray[np.float32]:
        """See `Engine`."""
        found: NDArray[np.float32] = self._answers.numpy()
        return found


ENGINES: dict[str, Any] = {".onnx": OnnxEngine, ".tflite": LitertEngine, ".mlpackage": CoremlEngine}


def opened(path: Path) -> Engine:
    """The engine for the file's suffix."""
    found: Engine = ENGINES[path.suffix](path)
    return found
