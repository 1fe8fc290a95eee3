"""ONNX Runtime, on the CPU."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ..models.errors import BadArtifact
from .record import OperatorTime
from .session import Runtime

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..converters.artifact import Artifact
    from .session import Feeds

ERRORS_ONLY: Final = 3
# What a node's event in a profile ends with; there are others, of the time around the kernel.
KERNEL: Final = "_kernel_time"


class OnnxRuntimeSession:
    """An `onnxruntime.InferenceSession` and the outputs to ask it for."""

    def __init__(self, engine: Any, outputs: list[str]) -> None:
        self._engine = engine
        self._outputs = outputs

    def run(self, feeds: Feeds) -> list[NDArray[Any]]:
        """The outputs, in the manifest's order; raises `BadArtifact` if the engine refuses."""
        try:
            answers: list[NDArray[Any]] = self._engine.run(self._outputs, feeds)
        except Exception as error:
            raise _refused("run", error) from error
        return answers

    def close(self) -> None:
        """Give back the engine's memory."""
        self._engine = None


class OnnxRuntime:
    """Opens `onnx` artifacts; `level` is a name of `onnxruntime.GraphOptimizationLevel`."""

    requires: tuple[str, ...] = ("onnxruntime",)
    label = "onnxruntime {version}"
    original = False
    timed = True
    level: ClassVar[str] = "ORT_ENABLE_ALL"

    def opens(self, target: str) -> bool:
        """Whether `target` is onnx."""
        return target == "onnx"

    def open(self, artifact: Artifact, *, threads: int) -> OnnxRuntimeSession:
        """Load the model for `threads` threads inside an operator, and one operator at a time."""
        return OnnxRuntimeSession(self._engine(artifact, threads=threads), _outputs(artifact))

    def profile(self, artifact: Artifact, feeds: Feeds, *, threads: int, runs: int) -> list[OperatorTime]:
        """Every node that runs, after the engine's own optimisation of the graph; the first tenth does not count."""
        unseen = max(1, runs // 10)
        with tempfile.TemporaryDirectory(prefix="evit-edge-") as folder:
            engine = self._engine(artifact, threads=threads, profile=Path(folder, "profile"))
            for _ in range(unseen + runs):
                engine.run(_outputs(artifact), feeds)
            events = json.loads(Path(engine.end_profiling()).read_bytes())
        times: dict[tuple[str, str], list[int]] = {}
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
                operator = (event["name"].removesuffix(KERNEL), event["args"]["op_name"])
                times.setdefault(operator, []).append(1000 * event["dur"])
        return [OperatorTime(name=name, kind=kind, ns=median(found[unseen:])) for (name, kind), found in times.items()]

    def _engine(self, artifact: Artifact, *, threads: int, profile: Path | None = None) -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, self.level)
        options.log_severity_level = ERRORS_ONLY
        if profile:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        try:
            return ort.InferenceSession(artifact.payload, sess_options=options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise _refused(f"open {artifact.payload}", error) from error


def _outputs(artifact: Artifact) -> list[str]:
    return [tensor.name for tensor in artifact.manifest.outputs]


def _refused(what: str, error: Exception) -> BadArtifact:
    # The engine's own exceptions share no base class but Exception.
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return BadArtifact(f"onnxruntime does not {what}: {reason}", "convert again")


RUNTIME: Final[Runtime] = OnnxRuntime()
