"""A converted file that describes itself, away from the folder that `convert` wrote it into."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ..converters import artifact
from ..converters.artifact import Artifact, Manifest
from ..converters.conversion import CONVERTERS, Converter
from ..models.errors import BadArtifact, FileProblem


@contextmanager
def opened(path: Path) -> Iterator[Artifact]:
    """The artifact in the folder `path`; or for a converted file, until the block ends, one made from its card.

    The latter has no golden outputs and no verdict. Raises `BadArtifact` for a path that is neither, and for a file
    without our card.
    """
    if not path.exists():
        raise BadArtifact(f"there is no {path}", "make one with: evit-edge convert MODEL --target tflite")
    converters: dict[str, Converter] = {name: CONVERTERS.load(name) for name in CONVERTERS.names()}
    target = next((name for name, each in converters.items() if path.suffix.lower() == f".{each.suffix}"), None)
    if target is None and path.is_dir():
        yield artifact.read(path)
        return
    if target is None:
        raise BadArtifact(f"{path} is neither an artifact nor a converted file", "give one that we wrote")
    with tempfile.TemporaryDirectory(prefix="evit-edge-") as scratch:
        yield _unfolded(path, Path(scratch), target=target, converter=converters[target])


def _unfolded(path: Path, folder: Path, *, target: str, converter: Converter) -> Artifact:
    card = converter.card_of(path)
    payload = folder / f"model.{converter.suffix}"
    try:
        # An .mlpackage is a folder.
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, payload)
        manifest = Manifest(
            key=card.extra.get("manifest_key", ""),
            model=card.model,
            target=target,
            precision=card.precision,
            precision_found=card.precision,
            options={},
            inputs=card.inputs,
            outputs=card.outputs,
            payload=payload.name,
            files=artifact.digests_of(folder),
            versions={},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        artifact.write_manifest(folder, manifest)
    except OSError as error:
        raise FileProblem(f"{folder} cannot be written: {error.strerror or error}", "set TMPDIR") from error
    return artifact.read(folder)
