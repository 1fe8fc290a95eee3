"""What `evit-edge eval --json` printed, read back: whose accuracy is whose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ...models.errors import FileProblem
from ..accuracy import Share, wilson
from ..record import Count
from ..result import Result


class _Count(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    right: Annotated[int, Field(ge=0)]
    count: Count

    @model_validator(mode="after")
    def _a_share(self) -> Self:
        if self.right > self.count:
            raise ValueError("more right answers than images")
        return self


class _Answered(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    digest: str | None
    model_digest: str
    runtime: str | None = None
    top1: _Count | None


class _Printed(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    rows: tuple[_Answered, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracies:
    """Top-1 by the file (the artifact's digest, or the original's) and the runtime; no runtime is any."""

    shares: dict[tuple[str, str | None], Share]

    def of(self, result: Result) -> Share | None:
        """The top-1 of what `result` measured, None where nobody counted it."""
        digest = result.model_digest if result.target is None else result.artifact_digest
        if digest is None:
            return None
        return self.shares.get((digest, result.runtime)) or self.shares.get((digest, None))


def read(path: Path) -> Accuracies:
    """The accuracies in `path`; raises `FileProblem` for a file that `eval --json` did not print."""
    try:
        printed = _Printed.model_validate_json(path.read_bytes())
    except OSError as error:
        raise FileProblem(
            f"{path} cannot be read: {error.strerror or error}", "make one with: evit-edge eval ARTIFACT --json"
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise FileProblem(
            f"{path} is not what eval prints: {field or 'the file'}: {first['msg']}",
            "make one with: evit-edge eval ARTIFACT --json",
        ) from error
    counted = [(row, row.top1) for row in printed.rows if row.top1]
    return Accuracies(
        shares={(row.digest or row.model_digest, row.runtime): wilson(top1.right, top1.count) for row, top1 in counted}
    )
