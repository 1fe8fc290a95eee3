"""Core ML itself, which predicts on a Mac alone: one session for all choices of its compute units."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from ..converters.coreml.toolkit import coremltools
from ..models.errors import BadArtifact, MissingDependency

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ..converters.artifact import Artifact
    from .session import Feeds

ONLY_ON: Final = "darwin"


class CoremlSession:
    """An `MLModel` that can predict."""

    def __init__(self, engine: Any, artifact: Artifact) -> None:
        self._engine = engine
        self._manifest = artifact.manifest

    def run(self, feeds: Feeds) -> list[NDArray[Any]]:
        """The outputs, in the manifest's order; of a classifier its probabilities, in the order of the labels."""
        records = {record.name: record for record in self._manifest.inputs}
        taken = {name: _picture(array) if records[name].normalisation else array for name, array in feeds.items()}
        try:
            answers: Mapping[str, Any] = self._engine.predict(taken)
        except Exception as error:
            # Core ML's own errors come as RuntimeError, with Apple's text.
            raise _refused("run", error) from error
        return [self._output(record.name, answers, softmax=record.softmax) for record in self._manifest.outputs]

    def close(self) -> None:
        """Give back the engine's memory."""
        self._engine = None

    def _output(self, name: str, answers: Mapping[str, Any], *, softmax: bool) -> NDArray[Any]:
        import numpy as np

        if not softmax:
            return np.asarray(answers[name], np.float32)
        # The one output that is a dictionary.
        (shares,) = (answer for answer in answers.values() if isinstance(answer, dict))
        return np.asarray([[shares[label] for label in self._manifest.model.labels or ()]], np.float32)


class CoremlRuntime:
    """Opens `coreml` artifacts with one choice of compute units, a name of `coremltools.ComputeUnit`."""

    requires: tuple[str, ...] = ("coremltools",)
    original = False
    timed = True

    def __init__(self, units: str, *, label: str) -> None:
        self.label = label
        self._units = units

    def opens(self, target: str) -> bool:
        """Whether `target` is coreml."""
        return target == "coreml"

    def lacks(self) -> str:
        """macOS."""
        return "" if sys.platform == ONLY_ON else "Core ML predicts on macOS alone"

    def open(self, artifact: Artifact, *, threads: int) -> CoremlSession:
        """Compile and load the package; Core ML chooses its own number of threads.

        Raises `MissingDependency` where there is no Core ML.
        """
        if lacking := self.lacks():
            raise MissingDependency(lacking, "measure on a Mac; here --runtime coreml-reference checks the file")
        ct = coremltools()
        try:
            engine = ct.models.MLModel(str(artifact.payload), compute_units=ct.ComputeUnit[self._units])
        except Exception as error:
            raise _refused(f"open {artifact.payload}", error) from error
        return CoremlSession(engine, artifact)


def _picture(pixels: NDArray[Any]) -> Any:
    from PIL import Image

    return Image.fromarray(pixels[0])


def _refused(what: str, error: Exception) -> BadArtifact:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return BadArtifact(f"Core ML does not {what}: {reason}", "convert again")
