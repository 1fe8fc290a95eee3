"""TensorFlow Lite's interpreter, from whichever package has it, for artifacts of the target `tflite`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ..models.errors import BadArtifact
from .tflite_placement import placement
from .tflite_tensors import Place, places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..converters.artifact import Artifact
    from .record import Placement
    from .session import Feeds

XNNPACK: Final = "XNNPACK"
LONGEST_REASON: Final = 300


class TfliteSession:
    """An allocated `Interpreter` of `package`, and where its inputs and outputs are."""

    def __init__(
        self, engine: Any, *, package: str, inputs: Sequence[Place], outputs: Sequence[Place], delegate: str | None
    ) -> None:
        self._engine = engine
        self._package = package
        self._inputs = tuple(inputs)
        self._outputs = tuple(place.index for place in outputs)
        self._delegate = delegate
        self._shapes = tuple(place.shape for place in inputs)

    def run(self, feeds: Feeds) -> list[NDArray[Any]]:
        """The outputs, copied; a batch other than the last one allocates anew. Raises `BadArtifact`."""
        arrays = [feeds[place.name] for place in self._inputs]
        shapes = tuple(array.shape for array in arrays)
        if shapes != self._shapes:
            self._resize(shapes)
        engine = self._engine
        try:
            for place, array in zip(self._inputs, arrays, strict=True):
                engine.set_tensor(place.index, array)
            engine.invoke()
            return [engine.get_tensor(index) for index in self._outputs]
        except (ValueError, RuntimeError) as error:
            raise _refused(self._package, "run this", error) from error

    def placement(self) -> Placement | None:
        """What the delegate runs of the file as it is allocated now; None if this engine does not tell."""
        return placement(self._engine, delegate=self._delegate)

    def close(self) -> None:
        """Give back the engine's memory."""
        self._engine = None

    def _resize(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        for place, shape in zip(self._inputs, shapes, strict=True):
            place.require(shape)
        # What the engine holds after a failure is unknown: the next run has to allocate again.
        self._shapes = ()
        try:
            for place, shape in zip(self._inputs, shapes, strict=True):
                # Not strict, a file of a fixed batch would take any, and answer whatever its reshapes make of it.
                self._engine.resize_tensor_input(place.index, shape, strict=True)
            self._engine.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise _refused(self._package, f"take inputs of {', '.join(map(str, shapes))}", error) from error
        self._shapes = shapes


class TfliteRuntime:
    """Opens `tflite` artifacts with the `Interpreter` of `package`, with or without its default delegate."""

    original = False
    timed = True

    def __init__(self, package: str, *, label: str, xnnpack: bool) -> None:
        self.requires: tuple[str, ...] = (package,)
        self.label = label
        self._package = package
        self._xnnpack = xnnpack

    def opens(self, target: str) -> bool:
        """Whether `target` is tflite."""
        return target == "tflite"

    def open(self, artifact: Artifact, *, threads: int) -> TfliteSession:
        """Map the file into memory and allocate for the batch that it names, on `threads` threads."""
        tflite = import_module(f"{self._package}.interpreter")
        resolvers = tflite.OpResolverType
        try:
            engine = tflite.Interpreter(
                model_path=str(artifact.payload),
                num_threads=threads,
                experimental_op_resolver_type=(
                    resolvers.BUILTIN if self._xnnpack else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
                ),
            )
            engine.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise _refused(self._package, f"open {artifact.payload}", error) from error
        inputs, outputs = places(engine, artifact)
        delegate = XNNPACK if self._xnnpack else None
        return TfliteSession(engine, package=self._package, inputs=inputs, outputs=outputs, delegate=delegate)


def _refused(package: str, what: str, error: Exception) -> BadArtifact:
    printable = "".join(letter if letter.isprintable() else " " for letter in str(error))
    # The engine runs its messages together, and the last one is the cause.
    reason = " ".join(printable.split())[-LONGEST_REASON:] or type(error).__name__
    return BadArtifact(f"{package} does not {what}: {reason}", "convert again")
