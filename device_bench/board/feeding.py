"""In the place of `feeding.py` on a board: inputs were prepared by whoever asks, and come as the file takes them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ...models.errors import DeviceFailed
from .plain import Feeds, Runtime

PACKAGE = __package__.rpartition(".")[0]


def prepared(job: Any) -> tuple[Runtime, Any]:
    """The engine, imported already so that its import is charged to nobody, and the artifact, as far as it is here."""
    runtime = import_module(f"{PACKAGE}.run_{job.runtime}").RUNTIME
    for module in runtime.requires:
        try:
            import_module(module)
        except ImportError as error:
            name = module.replace("_", "-")
            raise DeviceFailed(
                f"the board's Python has no {name} that works: {error}", f"there: python3 -m pip install {name}"
            ) from error
    sides = {side: tuple(_record(each) for each in getattr(job.tensors, side)) for side in ("inputs", "outputs")}
    return runtime, SimpleNamespace(payload=Path(job.artifact), manifest=SimpleNamespace(**sides), inputs=job.inputs)


def fed(runtime: Runtime, artifact: Any, values: Feeds) -> Feeds:
    """They are as the engine takes them."""
    return values


def real_or_noise(artifact: Any, *, batch: int, seed: int) -> tuple[str, Feeds]:
    """What is fed, and whether it is images or noise."""
    return artifact.inputs.source, noise(artifact, batch=batch, seed=seed)


def noise(artifact: Any, *, batch: int, seed: int) -> Feeds:
    """What is fed."""
    import numpy as np

    with np.load(artifact.inputs.file, allow_pickle=False) as file:
        arrays = [file[name] for name in file.files]
    return {record.name: array for record, array in zip(artifact.manifest.inputs, arrays, strict=True)}


def _record(tensor: Any) -> Any:
    return SimpleNamespace(name=tensor.name, shape=tuple(tensor.shape), dtype=tensor.dtype)
