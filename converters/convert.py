"""The way from a model to an artifact: a child process converts, the gate checks, a rename makes it count."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..models import errors
from ..models.download import cache_folder
from ..models.errors import (
    BadArtifact,
    ConversionFailed,
    FileProblem,
    MissingDependency,
    ParityFailed,
    PrecisionNotMet,
    Unsupported,
)
from ..models.plugins import PluginKind
from . import child, golden, parity
from .artifact import (
    Artifact,
    Manifest,
    ModelRecord,
    ParityRecord,
    Precision,
    PreprocessRecord,
    TensorRecord,
    digests_of,
    read,
    write_manifest,
)
from .publish import keep_aside, publish, staged

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from ..models.spec import ModelSpec

CONVERTERS: Final = PluginKind(noun="target", package=__package__, prefix="to_", attribute="CONVERTER")
WORKER: Final = f"{__package__}.worker"

Execute = Callable[[Path, Mapping[str, "NDArray[Any]"]], Sequence["NDArray[Any]"]]
"""Runs the artifact in a folder on inputs by name (n, …) and gives its outputs (n, …), in the manifest's order."""


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


def convert(
    conversion: Conversion,
    out: Path,
    *,
    execute: Execute,
    engine: str,
    timeout_s: float = 900,
    on_step: Callable[[str], None] = lambda step: None,
) -> Artifact:
    """Make the artifact in a folder of `out`, and return it once `execute` (called `engine`) proved it.

    The folder appears complete or not at all, and replaces an earlier one of the same name only then. The same
    model, arguments and versions are converted once: a second call copies the first result from the user's
    cache. Raises `ConversionFailed`, `PrecisionNotMet`, `ParityFailed` (the failing artifact is then kept beside,
    named `….failed`), or `FileProblem` where `out` cannot be written.
    """
    key = key_of(conversion)
    destination = out / conversion.folder_name
    cached = cache_folder() / "artifacts" / key
    if (found := _same(destination, key)) is not None:
        on_step("already there")
        return found
    if _same(cached, key) is not None:
        on_step("copying from the cache")
        with staged(destination) as staging:
            shutil.copytree(cached, staging, dirs_exist_ok=True)
            return publish(staging, destination)
    with staged(destination) as staging:
        on_step("converting")
        _write(conversion, staging, key, timeout_s=timeout_s)
        on_step(f"checking parity in {engine}")
        verdict = check(read(staging), execute=execute, engine=engine)
        _record(staging, verdict)
        if not verdict.passed:
            kept = keep_aside(staging, destination)
            raise ParityFailed(
                f"{conversion.folder_name} does not compute what the model computes: "
                f"{parity.complaint(verdict, conversion.precision)}",
                f"nothing was written under its name; the failing artifact is kept in {kept}",
            )
        artifact = publish(staging, destination)
    _remember(artifact, cached)
    return artifact


def check(artifact: Artifact, *, execute: Execute, engine: str, against: Artifact | None = None) -> ParityRecord:
    """Run the artifact on its golden inputs and compare with the original's answers; says, does not raise.

    With `against`, that artifact's answers to the same inputs take the original's place.
    """
    feeds = golden.feeds(artifact)
    actual = {group: execute(artifact.folder, feed) for group, feed in feeds.items()}
    if against is None:
        expected: Mapping[str, Sequence[NDArray[Any]]] = golden.outputs(artifact)
    else:
        expected = {group: execute(against.folder, feed) for group, feed in feeds.items()}
    return parity.judge(expected, actual, precision=artifact.manifest.precision, engine=engine)


def key_of(conversion: Conversion) -> str:
    """sha256 over the model, the arguments, the versions of the packages and evit-edge's own code, hexadecimal."""
    known = {
        "model": conversion.spec.digest,
        "arguments": _arguments(conversion),
        "versions": _versions(conversion.target),
        "code": _code_digest(),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _arguments(conversion: Conversion) -> dict[str, Any]:
    return {
        "target": conversion.target,
        "precision": conversion.precision,
        "batch": conversion.batch,
        "images": conversion.images,
        "seed": conversion.seed,
        **conversion.options,
    }


def _versions(target: str) -> dict[str, str]:
    packages = sorted({"torch", "numpy", *CONVERTERS.load(target).requires})
    return {name: importlib.metadata.version(name) for name in ["evit-edge", *packages]}


def _code_digest() -> str:
    # A developer's edit must never be answered from the cache.
    files = sorted(file for module in (errors, parity) for file in Path(str(module.__file__)).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _same(folder: Path, key: str) -> Artifact | None:
    """The artifact in `folder` if it is whole, proven and of this key."""
    try:
        artifact = read(folder)
    except BadArtifact:
        return None
    proven = artifact.manifest.parity is not None and artifact.manifest.parity.passed
    return artifact if proven and artifact.manifest.key == key else None


def _write(conversion: Conversion, staging: Path, key: str, *, timeout_s: float) -> None:
    """The payload, `golden.npz` and a manifest without a verdict."""
    spec = conversion.spec
    job = {
        "request": asdict(spec.request),
        "digest": spec.digest,
        "target": conversion.target,
        "precision": conversion.precision,
        "batch": conversion.batch,
        "images": conversion.images,
        "seed": conversion.seed,
        "options": dict(conversion.options),
        "out": str(staging.resolve()),
    }
    try:
        answer = child.call(WORKER, job, timeout_s=timeout_s)
    except child.ChildCrashed as error:
        raise ConversionFailed(f"{conversion.folder_name}: the converter {error.message}") from error
    if answer["precision_found"] != conversion.precision:
        raise PrecisionNotMet(
            f"{conversion.folder_name}: asked for {conversion.precision}, the file holds {answer['precision_found']}"
        )
    request = spec.request
    manifest = Manifest(
        key=key,
        model=ModelRecord(
            name=spec.name,
            weights=str(request.weights),
            img_size=int(request.img_size or 0),
            num_classes=int(request.num_classes or 0),
            weights_sha256=spec.weights_sha256,
            digest=spec.digest,
            labels=spec.labels,
            preprocess=PreprocessRecord(**asdict(spec.preprocess)),
            licence=spec.licence,
        ),
        target=conversion.target,
        precision=conversion.precision,
        precision_found=answer["precision_found"],
        options=_arguments(conversion),
        inputs=tuple(_tensors(spec.inputs, conversion.batch)),
        outputs=tuple(_tensors(spec.outputs, conversion.batch)),
        payload=answer["payload"],
        files=digests_of(staging),
        versions=_versions(conversion.target),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_manifest(staging, manifest)


def _tensors(tensors: Sequence[Any], batch: int | None) -> Iterator[TensorRecord]:
    for tensor in tensors:
        yield TensorRecord(name=tensor.name, shape=(batch, *tensor.shape[1:]), dtype=tensor.dtype)


def _record(folder: Path, verdict: ParityRecord) -> None:
    write_manifest(folder, read(folder).manifest.model_copy(update={"parity": verdict}))


def _remember(artifact: Artifact, cached: Path) -> None:
    # A cache that cannot be written costs time later, and nothing now.
    with contextlib.suppress(FileProblem), staged(cached) as staging:
        shutil.copytree(artifact.folder, staging, dirs_exist_ok=True)
        publish(staging, cached)
