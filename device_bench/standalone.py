"""A converted file that describes itself, away from the folder that `convert` wrote it into."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ..converters import artifact
from ..converters.artifact import Artifact, Manifest
from ..converters.tflite import metadata
from ..models.errors import BadArtifact, FileProblem

TARGET: Final = "tflite"


@contextmanager
def opened(path: Path) -> Iterator[Artifact]:
    """The artifact in the folder `path`; or for a .tflite file, until the block ends, one made from its metadata.

    The latter has no golden outputs and no verdict. Raises `BadArtifact` for a path that is neither, and for a file
    without our metadata.
    """
    if not path.exists():
        raise BadArtifact(f"there is no {path}", "make one with: evit-edge convert MODEL --target tflite")
    if path.is_dir():
        yield artifact.read(path)
        return
    with tempfile.TemporaryDirectory(prefix="evit-edge-") as scratch:
        yield _unfolded(path, Path(scratch))


def _unfolded(path: Path, folder: Path) -> Artifact:
    card = metadata.read(path)
    payload = folder / f"model.{TARGET}"
    try:
        shutil.copyfile(path, payload)
        manifest = Manifest(
            key=card.extra.get("manifest_key", ""),
            model=card.model,
            target=TARGET,
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
