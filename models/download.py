"""Files from the network, kept in the user's cache: resumable, and verified at every use."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Final, Literal
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import FileProblem, ModelUnavailable

Progress = Callable[[int, int | None], None]

# A context variable, because a download happens deep inside `spec.find`, which not every model source needs.
PROGRESS: Final[ContextVar[Progress | None]] = ContextVar("PROGRESS", default=None)

CHUNK_BYTES: Final = 1 << 16
STALL_TIMEOUT_S: Final = 30.0
HINT: Final = "--weights FILE takes a file that you already have"


class DownloadRecord(BaseModel):
    """`<name>.json` beside a downloaded file: what its first complete download was."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal[1] = Field(default=1, alias="schema")
    url: str
    size_bytes: int
    sha256: str


def cache_folder() -> Path:
    """Where downloads and other things that can be made again are kept: $EVIT_EDGE_CACHE, or the user's cache."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("EVIT_EDGE_CACHE") or user_cache_dir("evit-edge"))


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of one file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(url: str, folder: Path, *, progress: Progress | None = None) -> Path:
    """The file at `url`, in `folder`: downloaded once, its size and sha256 verified at every later call.

    An interrupted download continues where it stopped. `progress` is called with the bytes done, and the bytes
    in all or None. Raises `ModelUnavailable` for the network and for a file that changed, `FileProblem` for
    the disk.
    """
    target = folder / url.rsplit("/", 1)[-1]
    record_file, part = _beside(target, ".json"), _beside(target, ".part")
    try:
        if target.exists():
            if not _is_recorded(target, record_file):
                raise ModelUnavailable(
                    f"{target} is not the file that was downloaded", f"delete {target} to download it again"
                )
            return target
        folder.mkdir(parents=True, exist_ok=True)
        _complete(url, part, progress)
        if not record_file.exists():
            record = DownloadRecord(schema=1, url=url, size_bytes=part.stat().st_size, sha256=sha256_of(part))
            record_file.write_text(record.model_dump_json(by_alias=True, indent=2) + "\n")
        elif not _is_recorded(part, record_file):
            part.unlink()
            raise ModelUnavailable(
                f"{url} is no longer the file that was first downloaded",
                f"delete {record_file} if that was to be expected",
            )
        part.replace(target)
    except OSError as error:
        raise FileProblem(f"{folder} cannot be used: {error.strerror or error}", "set EVIT_EDGE_CACHE") from error
    return target


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def _is_recorded(file: Path, record_file: Path) -> bool:
    try:
        record = DownloadRecord.model_validate_json(record_file.read_text())
    except (FileNotFoundError, ValidationError):
        return False
    return file.stat().st_size == record.size_bytes and sha256_of(file) == record.sha256


def _complete(url: str, part: Path, progress: Progress | None) -> None:
    """Make `part` the whole file; what it holds already is kept if the server still has that same version."""
    version_file = _beside(part, ".version")
    version = version_file.read_text() if part.exists() and version_file.exists() else ""
    with _opened(url, start=part.stat().st_size if version else 0, version=version) as response:
        resumed = response.status == HTTPStatus.PARTIAL_CONTENT
        version_file.write_text(response.headers.get("ETag") or response.headers.get("Last-Modified") or "")
        with part.open("ab" if resumed else "wb") as file:
            done = file.tell()
            length = response.headers.get("Content-Length")
            total = done + int(length) if length else None
            for chunk in _chunks(response, url):
                file.write(chunk)
                done += len(chunk)
                if progress:
                    progress(done, total)
    if total is not None and done != total:
        raise _unavailable(url, f"the connection ended after {done} of {total} bytes; the next try continues there")
    version_file.unlink()


def _opened(url: str, *, start: int, version: str) -> HTTPResponse:
    # If-Range: a file that was replaced in the meantime comes whole, instead of a mixture of the two.
    headers = {"Range": f"bytes={start}-", "If-Range": version} if start else {}
    try:
        return urlopen(Request(url, headers=headers), timeout=STALL_TIMEOUT_S)  # type: ignore[no-any-return]
    except HTTPError as error:
        error.close()
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            return _opened(url, start=0, version="")
        raise _unavailable(url, f"the server answers {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise _unavailable(url, _reason(error)) from error


def _chunks(response: HTTPResponse, url: str) -> Iterator[bytes]:
    try:
        while chunk := response.read(CHUNK_BYTES):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _unavailable(url, _reason(error)) from error


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"nothing came for {STALL_TIMEOUT_S:g} s"
    return str(getattr(cause, "strerror", None) or cause) or type(cause).__name__


def _unavailable(url: str, reason: str) -> ModelUnavailable:
    return ModelUnavailable(f"{url} cannot be downloaded: {reason}", HINT)
