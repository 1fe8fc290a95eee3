"""Engines that open artifacts. `Session.run` is the only thing that is ever timed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from ..converters.artifact import read
from ..models.errors import FileProblem, MissingDependency, UnknownName, Unsupported
from ..models.plugins import PluginKind
from .device import Device, connect
from .job import Done, OutputsJob, ask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..converters.artifact import Artifact
    from ..converters.coreml.trace import Step
    from .record import OperatorTime, Placement

Feeds = Mapping[str, "NDArray[Any]"]


class Session(Protocol):
    """An opened artifact."""

    def run(self, feeds: Feeds) -> list[NDArray[Any]]:
        """Inputs by name and outputs in the manifest's order, all in the manifest's dtypes and layouts."""

    def close(self) -> None:
        """Give back what the engine holds."""


@runtime_checkable
class Delegating(Protocol):
    """A session that may hand part of the model to a delegate."""

    def placement(self) -> Placement | None:
        """What the delegate took, None if the engine does not tell; slow, so asked outside of what is timed."""


@runtime_checkable
class Tracing(Protocol):
    """A runtime that can tell what each operator does to the result."""

    def trace(self, artifact: Artifact, feeds: Feeds) -> Sequence[Step]:
        """Every float result of the program, in its order, on samples of the model's own inputs (n, …)."""


@runtime_checkable
class Profiling(Protocol):
    """A runtime that can tell how long each operator takes."""

    def profile(self, artifact: Artifact, feeds: Feeds, *, threads: int, runs: int) -> Sequence[OperatorTime]:
        """Every operator in the order of a run; its time is the median over `runs`, after some that do not count."""


@runtime_checkable
class Bound(Protocol):
    """A plug-in that works on some machines alone."""

    def lacks(self) -> str:
        """What this machine lacks for it, in one line; empty where it works."""


@runtime_checkable
class Elsewhere(Protocol):
    """A plug-in that stands for an engine of other machines alone: of those whose addresses begin with `only_on`."""

    only_on: str


class Runtime(Protocol):
    """An engine: the plug-in `RUNTIME` of a file `run_*.py`.

    `requires` are the modules that it imports, its own package first. `label` is what tables call it, with
    `{version}` in the place of that package's version. `original` says that it runs the model that the artifact was
    made from instead of the artifact: what the artifact is compared with. `timed` is False for an engine that checks
    artifacts and whose speed says nothing about any device.
    """

    requires: tuple[str, ...]
    label: str
    original: bool
    timed: bool

    def opens(self, target: str) -> bool:
        """Whether this engine runs artifacts of `target`."""

    def open(self, artifact: Artifact, *, threads: int) -> Session:
        """Load the artifact for `threads` threads; raises `BadArtifact` or `MissingDependency`."""


RUNTIMES: Final = PluginKind(noun="runtime", package=__package__, prefix="run_", attribute="RUNTIME")


def default_runtime(target: str, *, timed: bool = False) -> str:
    """The first runtime, by name, that runs artifacts of `target` themselves; raises `Unsupported`.

    One that works on every machine comes first, and before one that only checks, which is never `timed`.
    """
    runtimes: dict[str, Runtime] = {name: RUNTIMES.load(name) for name in RUNTIMES.names()}
    opening = {name: runtime for name, runtime in runtimes.items() if runtime.opens(target) and not runtime.original}
    for name in sorted(opening, key=lambda name: (isinstance(opening[name], Bound), not opening[name].timed)):
        if opening[name].timed or not timed:
            return name
    raise Unsupported(f"no runtime here opens {target} artifacts", f"runtimes: {', '.join(RUNTIMES.names())}")


def original_runtime() -> str:
    """The first runtime, by name, that runs the model that an artifact was made from, on every machine."""
    runtimes: dict[str, Runtime] = {name: RUNTIMES.load(name) for name in RUNTIMES.names()}
    return next(name for name, each in runtimes.items() if each.original and not isinstance(each, Bound))


def called(name: str) -> str:
    """What people call the runtime `name`, without its version; the name itself where there is no such plug-in here."""
    try:
        runtime: Runtime = RUNTIMES.load(name)
    except (UnknownName, MissingDependency):
        return name
    return runtime.label.replace(" {version}", "")


def execute(
    folder: Path,
    feeds: Feeds,
    *,
    runtime: str | None = None,
    threads: int = 1,
    timeout_s: float = 600,
    device: Device | None = None,
) -> list[NDArray[Any]]:
    """Run the artifact in `folder` on any number of samples, in a process of its own, on `device` or this machine.

    Each feed is the model's own input, float32 (n, …) with channels second, whatever layout, dtype and batch the
    file has; outputs are the model's, float32 (n, …), in the manifest's order.
    `runtime` None is the target's default. Raises the child's own error, `BadArtifact`, or `DeviceFailed` if the
    engine crashes or takes over `timeout_s` seconds.
    """
    import numpy as np

    artifact = read(folder)
    with tempfile.TemporaryDirectory(prefix="evit-edge-") as scratch:
        inputs, outputs = Path(scratch, "inputs.npz"), Path(scratch, "outputs.npz")
        try:
            # By position: a tensor's name may be no good as a file's.
            np.savez(inputs, *(feeds[tensor.name] for tensor in artifact.manifest.inputs))
        except OSError as error:
            raise FileProblem(f"{inputs} cannot be written: {error.strerror or error}", "set TMPDIR") from error
        job = OutputsJob(
            artifact=str(folder.resolve()),
            runtime=runtime or default_runtime(artifact.manifest.target),
            threads=threads,
            inputs=str(inputs.resolve()),
            outputs=str(outputs),
        )
        ask(device or connect("local"), job, answer=Done, timeout_s=timeout_s)
        with np.load(outputs, allow_pickle=False) as file:
            return [file[name] for name in file.files]
