"""The way from a model to an artifact: a child process converts, the gate checks, a rename makes it count."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..models.download import cache_folder
from ..models.errors import (
    BadArtifact,
    ConversionFailed,
    FileProblem,
    ParityFailed,
    PrecisionNotMet,
)
from . import child, parity
from .artifact import (
    Artifact,
    Manifest,
    ModelRecord,
    ParityRecord,
    digests_of,
    read,
    write_manifest,
)
from .conversion import Conversion
from .inspection import is_met
from .publish import keep_aside, publish, staged

if TYPE_CHECKING:
    pass

WORKER: Final = f"{__package__}.worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCheck:
    """An engine that does a file's own arithmetic, and what to do where the file passes there and not in the gate's."""

    engine: str
    advice: str


def convert(
    conversion: Conversion,
    out: Path,
    *,
    execute: parity.Execute,
    engine: str,
    self_check: SelfCheck | None = None,
    timeout_s: float = 900,
    on_step: Callable[[str], None] = lambda step: None,
) -> Artifact:
    """Make the artifact in a folder of `out`, and return it once `execute` (called `engine`) proved it.

    The folder appears complete or not at all, and replaces an earlier one of the same name only then. The same
    model, arguments and versions are converted once: a second call copies the first result from the user's cache.
    Raises `ConversionFailed`, `PrecisionNotMet`, `ParityFailed` (the failing artifact is kept beside as `….failed`, and
    `self_check` says whether the file is wrong or this machine), or `FileProblem` where `out` cannot be written.
    """
    key = conversion.key
    destination = out / conversion.folder_name
    cached = cache_folder() / "artifacts" / key
    if (found := _same(destination, key)) is not None:
        on_step("already there")
        return found
    if _same(cached, key) is not None:
        on_step("copying from the cache")
        return _copied(cached, destination, conversion)
    with staged(destination) as staging:
        on_step("converting")
        _write(conversion, staging, key, timeout_s=timeout_s, on_step=on_step)
        on_step(f"checking parity in {engine}")
        verdict = parity.check(read(staging), execute=execute, engine=engine)
        _record(staging, parity=verdict)
        if not verdict.passed:
            right = self_check and parity.check(read(staging), execute=execute, engine=self_check.engine).passed
            aside = keep_aside(staging, destination)
            raise _refused(conversion, verdict, kept=aside, right_in=self_check if right else None)
        artifact = publish(staging, destination)
    _remember(artifact, cached)
    return artifact


def _copied(cached: Path, destination: Path, conversion: Conversion) -> Artifact:
    with staged(destination) as staging:
        shutil.copytree(cached, staging, dirs_exist_ok=True)
        # The same weights may lie elsewhere by now.
        _record(staging, model=ModelRecord.of(conversion.spec))
        return publish(staging, destination)


def _refused(conversion: Conversion, verdict: ParityRecord, *, kept: Path, right_in: SelfCheck | None) -> ParityFailed:
    name, complaint = conversion.folder_name, parity.complaint(verdict)
    hint = f"nothing was written under its name; the failing artifact is kept in {kept}"
    if right_in is None:
        return ParityFailed(f"{name} does not compute what the model computes: {complaint}", hint)
    advice = f"{right_in.advice}; " if right_in.advice else ""
    return ParityFailed(
        f"{name}: the file is right, it passes in {right_in.engine}; this machine runs it wrongly: {complaint}",
        f"{advice}{hint}",
    )


def _same(folder: Path, key: str) -> Artifact | None:
    """The artifact in `folder` if it is whole, proven and of this key."""
    try:
        artifact = read(folder)
    except BadArtifact:
        return None
    proven = artifact.manifest.parity is not None and artifact.manifest.parity.passed
    return artifact if proven and artifact.manifest.key == key else None


def _write(
    conversion: Conversion, staging: Path, key: str, *, timeout_s: float, on_step: Callable[[str], None]
) -> None:
    """The payload, `golden.npz` and a manifest without a verdict."""
    spec = conversion.spec
    answer = _ask_worker(conversion, staging, timeout_s=timeout_s, on_step=on_step)
    if not is_met(conversion.precision, answer["precision_found"]):
        raise PrecisionNotMet(
            f"{conversion.folder_name}: asked for {conversion.precision}, the file holds {answer['precision_found']}"
        )
    manifest = Manifest(
        key=key,
        model=ModelRecord.of(spec),
        target=conversion.target,
        precision=conversion.precision,
        precision_found=answer["precision_found"],
        options=conversion.arguments,
        inputs=answer["inputs"],
        outputs=answer["outputs"],
        notes=answer["notes"],
        payload=answer["payload"],
        files=digests_of(staging),
        versions=conversion.versions,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_manifest(staging, manifest)


def _ask_worker(
    conversion: Conversion, staging: Path, *, timeout_s: float, on_step: Callable[[str], None]
) -> dict[str, Any]:
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
        "asked": dict(conversion.asked),
        "calibration": conversion.calibration and asdict(conversion.calibration),
        "out": str(staging.resolve()),
    }
    try:
        answer: dict[str, Any] = child.call(WORKER, job, timeout_s=timeout_s, on_step=on_step)
    except child.ChildCrashed as error:
        raise ConversionFailed(f"{conversion.folder_name}: the converter {error.message}") from error
    return answer


def _record(folder: Path, **changes: ModelRecord | ParityRecord) -> None:
    write_manifest(folder, read(folder).manifest.model_copy(update=changes))


def _remember(artifact: Artifact, cached: Path) -> None:
    # A cache that cannot be written costs time later, and nothing now.
    with contextlib.suppress(FileProblem), staged(cached) as staging:
        shutil.copytree(artifact.folder, staging, dirs_exist_ok=True)
        publish(staging, cached)
