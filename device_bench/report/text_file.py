"""A text on disk, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from ...models.errors import FileProblem


def write(text: str, file: Path) -> None:
    """Put `text` into `file`, in the place of an earlier one; raises `FileProblem`."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise FileProblem(f"{file} cannot be written: {error.strerror or error}", "name another file") from error
