"""A conversion: what is asked for, what a target can do, and what makes two conversions the same."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..models import errors
from ..models.errors import MissingDependency, Unsupported
from ..models.plugins import PluginKind
from . import artifact

if TYPE_CHECKING:
    from torch import nn

    from ..models.spec import ModelSpec
    from .artifact import Precision, TensorRecord

    Tensors = tuple[TensorRecord, ...]

CONVERTERS: Final = PluginKind(noun="target", package=__package__, prefix="to_", attribute="CONVERTER")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """One conversion, fully decided: `batch` None is dynamic, `options` are the target's own."""

    spec: ModelSpec
    target: str
    precision: Precision
    batch: int | None = 1
    images: int = 32
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder_name(self) -> str:
        """What the artifact's folder is called: two artifacts that differ in these words can stand side by side."""
        spec = self.spec
        batch = {None: "-bdynamic", 1: ""}.get(self.batch, f"-b{self.batch}")
        size = f"{spec.request.img_size}px"
        return f"{spec.name}-{spec.weights_name}-{size}-{self.target}-{self.precision}{batch}"

    @property
    def arguments(self) -> dict[str, Any]:
        """Everything that was asked for beside the model, as it stands in the manifest."""
        return {
            "target": self.target,
            "precision": self.precision,
            "batch": self.batch,
            "images": self.images,
            "seed": self.seed,
            **self.options,
        }

    @property
    def versions(self) -> dict[str, str]:
        """The packages that decide what is written, by name."""
        packages = sorted({"torch", "numpy", *CONVERTERS.load(self.target).requires})
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
    def requires(self) -> tuple[str, ...]:
        """Packages it needs; their versions are part of the artifact's key."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Its own options with their defaults."""

    def check(self, conversion: Conversion) -> None:
        """Raises `Unsupported` for options that cannot be met, before any work."""

    def convert(self, module: nn.Module, conversion: Conversion, out: Path) -> None:
        """Write `out` from the deploy graph; runs in a child process."""

    def precision_of(self, path: Path) -> str:
        """The precision found in the written file, by looking into it."""

    def tensors_of(self, conversion: Conversion, path: Path) -> tuple[Tensors, Tensors]:
        """The inputs and the outputs of the written file, in the model's order and under its names."""


def plan(
    spec: ModelSpec,
    target: str,
    *,
    precision: str | None = None,
    batch: int | None = 1,
    images: int = 32,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Conversion:
    """A conversion with every default filled in; raises `UnknownName`, `Unsupported` or `MissingDependency`."""
    converter: Converter = CONVERTERS.load(target)
    if precision is not None and precision not in converter.precisions:
        raise Unsupported(f"{target} has no precision {precision!r}", f"choose {', '.join(converter.precisions)}")
    if foreign := set(options or {}) - set(converter.options):
        raise Unsupported(f"target {target} has no option {', '.join(sorted(foreign))}")
    if batch is not None and batch < 1:
        raise Unsupported(f"a batch of {batch} is not possible", "choose 1 or more, or dynamic")
    if images < 1:
        raise Unsupported(f"parity cannot be checked on {images} images", "choose 1 or more")
    if seed < 0:
        raise Unsupported(f"a seed of {seed} is not possible", "choose 0 or more")
    for package in converter.requires:
        if importlib.util.find_spec(package) is None:
            raise MissingDependency(f"target {target} needs the package {package}", f"pip install {package}")
    chosen: Precision = precision or converter.default_precision
    conversion = Conversion(
        spec=spec,
        target=target,
        precision=chosen,
        batch=batch,
        images=images,
        seed=seed,
        options={**converter.options, **(options or {})},
    )
    converter.check(conversion)
    return conversion


def _code_digest() -> str:
    # A developer's edit must never be answered from the cache.
    files = sorted(file for module in (errors, artifact) for file in Path(str(module.__file__)).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
