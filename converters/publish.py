"""Folders that appear complete or not at all: written under a temporary name beside their place, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..models.errors import FileProblem
from .artifact import MANIFEST, Artifact, read


@contextlib.contextmanager
def staged(destination: Path) -> Iterator[Path]:
    """A folder beside `destination` that is gone afterwards, whatever happens; an OSError becomes `FileProblem`."""
    staging = None
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        if destination.exists() and not (destination / MANIFEST).exists():
            raise FileProblem(f"{destination} exists and is not an artifact", "move it away, or choose another --out")
        staging = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
        yield staging
    except OSError as error:
        raise FileProblem(
            f"{destination.parent} cannot be written: {error.strerror or error}",
            "free some space or choose another --out",
        ) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def publish(staging: Path, destination: Path) -> Artifact:
    """Put the finished folder in its place; an earlier artifact leaves only once the new one is complete."""
    staging.chmod(0o777 & ~_umask())
    if destination.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
        destination.rename(old / "old")
        staging.rename(destination)
        shutil.rmtree(old, ignore_errors=True)
    else:
        staging.rename(destination)
    return read(destination)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def keep_aside(staging: Path, destination: Path) -> Path:
    """Move a failed artifact to `<destination>.failed`, in place of an earlier one there; returns that path."""
    aside = destination.with_name(destination.name + ".failed")
    shutil.rmtree(aside, ignore_errors=True)
    staging.rename(aside)
    return aside
