"""PyTorch, running the original eager model that an artifact was made from: what the others are compared with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ..converters.artifact import original
from .record import OperatorTime
from .session import Runtime

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from ..converters.artifact import Artifact
    from .session import Feeds


class TorchSession:
    """A module in eval mode, and the order of its inputs."""

    def __init__(self, module: nn.Module, inputs: list[str]) -> None:
        self._module: nn.Module | None = module
        self._inputs = inputs

    def run(self, feeds: Feeds) -> list[NDArray[Any]]:
        """The outputs, in the order that the model gives them."""
        import numpy as np
        import torch

        assert self._module is not None, "the session is closed"
        with torch.inference_mode():
            # from_numpy shares memory, and warns about an array that cannot be written.
            tensors = [torch.from_numpy(np.require(feeds[name], requirements=["C", "W"])) for name in self._inputs]
            answers = self._module(*tensors)
        if isinstance(answers, torch.Tensor):
            answers = (answers,)
        return [answer.numpy() for answer in answers]

    def replaced(self, change: Callable[[nn.Module], Any]) -> TorchSession:
        """A session of what `change` makes of the module."""
        assert self._module is not None, "the session is closed"
        return TorchSession(change(self._module), self._inputs)

    def close(self) -> None:
        """Give back the module's memory."""
        self._module = None


class TorchRuntime:
    """Rebuilds the model, so it opens artifacts of every target."""

    requires: tuple[str, ...] = ("torch",)
    label = "torch {version}"
    original = True
    timed = True

    def opens(self, target: str) -> bool:
        """True: the artifact's file is not what runs."""
        return True

    def open(self, artifact: Artifact, *, threads: int) -> TorchSession:
        """Build the model for `threads` threads; raises `BadArtifact` if it is not the artifact's any more."""
        import torch

        torch.set_num_threads(threads)
        # Allowed once in a process, and before its first parallel work.
        with suppress(RuntimeError):
            torch.set_num_interop_threads(1)
        return TorchSession(original(artifact).build().eval(), [t.name for t in artifact.manifest.inputs])

    def profile(self, artifact: Artifact, feeds: Feeds, *, threads: int, runs: int) -> list[OperatorTime]:
        """Every call of an ATen operator by its own time, without what it calls; the mean of its kind, and no names."""
        from torch.profiler import ProfilerActivity, profile

        session = self.open(artifact, threads=threads)
        for _ in range(max(1, runs // 10)):
            session.run(feeds)
        with profile(activities=[ProfilerActivity.CPU]) as found:
            for _ in range(runs):
                session.run(feeds)
        return [
            OperatorTime(name="", kind=event.key, ns=1000 * event.self_cpu_time_total / event.count)
            for event in found.key_averages()
            for _ in range(event.count // runs)
        ]


RUNTIME: Final[Runtime] = TorchRuntime()
