"""PyTorch with `torch.compile`, running the original model as code that is generated for this machine."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from .run_torch import TorchRuntime, TorchSession
from .session import Runtime

if TYPE_CHECKING:
    from ..converters.artifact import Artifact

COMPILERS: Final = ("g++", "clang++", "c++")


class CompiledTorchRuntime(TorchRuntime):
    """Compiles at the first inference, which therefore takes a minute; later processes find the code in a cache."""

    label = "torch {version} compiled"

    def lacks(self) -> str:
        """Whether there is a C++ compiler, which TorchInductor writes its code for."""
        return "" if any(map(shutil.which, COMPILERS)) else "a C++ compiler (such as g++)"

    def open(self, artifact: Artifact, *, threads: int) -> TorchSession:
        """Build the model for `threads` threads; it is compiled for the shapes that it is first run on."""
        import torch

        return super().open(artifact, threads=threads).replaced(torch.compile)


RUNTIME: Final[Runtime] = CompiledTorchRuntime()
