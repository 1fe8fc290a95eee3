"""A conversion: what is asked for, what a target can do, and what makes two conversions the same."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..models import errors
from ..models.errors import MissingDependency, Unsupported
from ..models.plugins import PluginKind
from . import artifact
from .calibration import Calibration, choose

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from ..models.spec import ModelSpec
    from .artifact import Precision, TensorRecord
    from .card import Card
    from .image_cache import Images
    from .inspection import Inspection
    from .losses import Probe

    Tensors = tuple[TensorRecord, ...]

TINT: Final = (1.0, 0.7, 0.4)
CONVERTERS: Final = PluginKind(noun="target", package=__package__, prefix="to_", attribute="CONVERTER")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """One conversion, fully decided: `batch` None is dynamic, `options` are the target's own, settled for this machine.

    `asked` are those that were asked for and differ from the defaults; `calibration` are the images for a precision
    that needs some.
    """

    spec: ModelSpec
    target: str
    precision: Precision
    batch: int | None = 1
    images: int = 32
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None

    @property
    def folder_name(self) -> str:
        """What the artifact's folder is called: two artifacts that differ in these words can stand side by side."""
        spec = self.spec
        batch = {None: "-bdynamic", 1: ""}.get(self.batch, f"-b{self.batch}")
        size = f"{spec.request.img_size}px"
        own = "".join(f"-{name}-{value}" for name, value in self.asked.items())
        return f"{spec.name}-{spec.weights_name}-{size}-{self.target}-{self.precision}{batch}{own}"

    @property
    def arguments(self) -> dict[str, Any]:
        """Everything that was asked for beside the model, as it stands in the manifest."""
        return {
            "target": self.target,
            "precision": self.precision,
            "batch": self.batch,
            "images": self.images,
            "seed": self.seed,
            "calibration": self.calibration and self.calibration.identity,
            **self.options,
        }

    def proof_feeds(self, count: int) -> Iterator[NDArray[np.float32]]:
        """`count` of the model's own images as its inputs: on noise a good model can be chaotic.

        Every other one is tinted, since grey ones, such as scans, hide a swap of colours.
        """
        import numpy as np

        for index, pixels in enumerate(self.spec.calibration_pixels(count)):
            tinted = (pixels * np.asarray(TINT)).astype(np.uint8) if index % 2 else pixels
            yield self.spec.preprocess.normalise(tinted[None])

    def calibration_feeds(self) -> Iterator[NDArray[np.float32]]:
        """The model's inputs to calibrate with, one by one: float32 (1, channels, height, width)."""
        if self.calibration is None:
            raise Unsupported(f"{self.precision} needs images to calibrate with")
        return self.calibration.feeds(self.spec)

    @property
    def versions(self) -> dict[str, str]:
        """The packages that decide what is written, by name."""
        converter: Converter = CONVERTERS.load(self.target)
        there = {name for name in converter.may_use if importlib.util.find_spec(name) is not None}
        packages = sorted({"torch", "numpy", *converter.requires, *there})
        return {name: importlib.metadata.version(name) for name in ["evit-edge", *packages]}

    @property
    def key(self) -> str:
        """sha256 over the model, the arguments, the versions and evit-edge's own code, hexadecimal."""
        known = {
            "model": self.spec.digest,
            "arguments": self.arguments,
            "versions": self.versions,
            "code": _code_digest(),
        }
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


class Converter(Protocol):
    """A target: the plug-in `CONVERTER` of a file `to_*.py`."""

    @property
    def suffix(self) -> str:
        """Of the payload, without the dot."""

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What it can write."""

    @property
    def default_precision(self) -> Precision:
        """What it writes unless asked otherwise."""

    @property
    def calibrated(self) -> tuple[Precision, ...]:
        """The precisions that need images to calibrate with."""

    @property
    def requires(self) -> tuple[str, ...]:
        """Packages it needs; their versions are part of the artifact's key."""

    @property
    def may_use(self) -> tuple[str, ...]:
        """Packages that decide what is written where they are installed; their versions count likewise."""

    @property
    def usage(self) -> tuple[str, ...]:
        """How a file of its kind is used, in lines for people."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Its own options with their defaults."""

    def check(self, conversion: Conversion) -> Mapping[str, Any]:
        """Its options, with what the machine decides measured; raises `Unsupported` where they cannot be met."""

    def convert(self, model: nn.Module, conversion: Conversion, out: Path) -> Sequence[str]:
        """Write `out` from the eager model, and say in lines what was not as expected; runs in a child process."""

    def inspect(self, path: Path) -> Inspection:
        """What is found in a file of its kind, whoever wrote it; raises `BadArtifact` for one that is damaged."""

    def card_of(self, path: Path) -> Card:
        """What a file says of itself; raises `BadArtifact` for one that was not written here, or is damaged."""

    def tensors_of(self, conversion: Conversion, path: Path) -> tuple[Tensors, Tensors]:
        """The inputs and the outputs of the written file, in the model's order and under its names."""

    def probe(self, model: nn.Module, conversion: Conversion, path: Path) -> Probe:
        """The file `path` of that conversion beside its float form, made anew; raises `Unsupported`, `BadArtifact`."""


def plan(
    spec: ModelSpec,
    target: str,
    *,
    precision: str | None = None,
    batch: int | None = 1,
    images: int = 32,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    calibrate: Path | Images | None = None,
    calibration_images: int = 128,
    calibration_method: str = "minmax",
) -> Conversion:
    """A conversion with every default filled in.

    `calibrate` is a folder, an `.npz`, or any iterable of images in RGB, uint8 (height, width, 3) or PIL, of any sizes.
    An iterable is read here, once and one by one, up to `calibration_images`; they are kept in the user's cache. None
    takes the model's own samples. Raises `UnknownName`, `Unsupported`, `MissingDependency`, or `FileProblem` for images
    that cannot be read or kept.
    """
    converter: Converter = CONVERTERS.load(target)
    _check_names(target, precision, options or {})
    _check_numbers(batch=batch, images=images, seed=seed)
    chosen: Precision = precision or converter.default_precision  # type: ignore[assignment]
    own = {**converter.options, **(options or {})}
    needed = chosen in converter.calibrated
    if calibrate is not None and not needed:
        raise Unsupported(f"{target} {chosen} needs no images to calibrate with", "leave --calibrate out")
    conversion = Conversion(
        spec=spec,
        target=target,
        precision=chosen,
        batch=batch,
        images=images,
        seed=seed,
        options=own,
        asked={name: value for name, value in own.items() if value != converter.options[name]},
        calibration=choose(calibrate, calibration_images, calibration_method) if needed else None,
    )
    return replace(conversion, options=converter.check(conversion))


def _check_names(target: str, precision: str | None, options: Mapping[str, Any]) -> None:
    converter: Converter = CONVERTERS.load(target)
    if precision is not None and precision not in converter.precisions:
        raise Unsupported(f"{target} has no precision {precision!r}", f"choose {', '.join(converter.precisions)}")
    if foreign := set(options) - set(converter.options):
        raise Unsupported(f"target {target} has no option {', '.join(sorted(foreign))}")
    for package in converter.requires:
        if importlib.util.find_spec(package) is None:
            raise MissingDependency(f"target {target} needs the package {package}", f"pip install {package}")


def _check_numbers(*, batch: int | None, images: int, seed: int) -> None:
    if batch is not None and batch < 1:
        raise Unsupported(f"a batch of {batch} is not possible", "choose 1 or more, or dynamic")
    if images < 1:
        raise Unsupported(f"parity cannot be checked on {images} images", "choose 1 or more")
    if seed < 0:
        raise Unsupported(f"a seed of {seed} is not possible", "choose 0 or more")


def options_of(targets: Sequence[str], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What each target gets of the options that are given (not None); raises `Unsupported` for one that none has."""
    known: dict[str, Mapping[str, Any]] = {target: CONVERTERS.load(target).options for target in targets}
    chosen = {name: value for name, value in given.items() if value is not None}
    for name in chosen:
        if not any(name in options for options in known.values()):
            raise Unsupported(f"--{name} means nothing to {', '.join(targets)}")
    return {
        target: {name: value for name, value in chosen.items() if name in options} for target, options in known.items()
    }


def _code_digest() -> str:
    # A developer's edit must never be answered from the cache.
    files = sorted(file for module in (errors, artifact) for file in Path(str(module.__file__)).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
