"""The reference executor: runs a saved Core ML program on any CPU, to check it. Not Apple hardware, and never timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ..converters.coreml.executor import LABEL, Executor
from ..converters.coreml.program import load
from .session import Runtime

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..converters.artifact import Artifact
    from ..converters.coreml.trace import Step
    from .session import Feeds


class ReferenceSession:
    """An executor that rounds every result to its dtype, as hardware would."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def run(self, feeds: Feeds) -> list[NDArray[Any]]:
        """The outputs, in the manifest's order; of a classifier its probabilities, in the order of its labels."""
        import numpy as np

        answers = self._executor.run(feeds)
        program = self._executor.program
        if program.probabilities:
            return [np.asarray([list(answers[program.probabilities].values())], np.float32)]
        return [answers[feature.name].numpy() for feature in program.outputs]

    def close(self) -> None:
        """Nothing is held that Python would not give back."""


class ReferenceRuntime:
    """Opens `coreml` artifacts."""

    # Of coremltools it needs no more than the messages of its format, and `load` says so where they are missing.
    requires: tuple[str, ...] = ("torch",)
    label = LABEL
    original = False
    timed = False

    def opens(self, target: str) -> bool:
        """Whether `target` is coreml."""
        return target == "coreml"

    def open(self, artifact: Artifact, *, threads: int) -> ReferenceSession:
        """Read the package; raises `BadArtifact`, or `ParityFailed` naming an operator that is not known."""
        import torch

        torch.set_num_threads(threads)
        return ReferenceSession(Executor(load(artifact.payload)))

    def trace(self, artifact: Artifact, feeds: Feeds) -> Sequence[Step]:
        """What rounding does at each operator; raises as `open` does."""
        from ..converters.coreml.trace import trace
        from ..converters.tensors import to_file

        (record,) = artifact.manifest.inputs
        samples = (feeds[record.name][index : index + 1] for index in range(len(feeds[record.name])))
        repeats = record.shape[0] or 1
        taken = ({record.name: to_file(record, sample.repeat(repeats, axis=0))} for sample in samples)
        return trace(load(artifact.payload), taken)


RUNTIME: Final[Runtime] = ReferenceRuntime()
