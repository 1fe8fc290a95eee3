"""What a converted file says of itself, so that it can be used away from its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..models.errors import BadArtifact
from .artifact import ModelRecord, Precision, TensorRecord

if TYPE_CHECKING:
    from ..models.spec import ModelSpec


class Card(BaseModel):
    """The model and the file's tensors; `model.weights` is a name and never a path, `extra` is the converter's own."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    schema_: Literal[1] = Field(default=1, alias="schema")
    model: ModelRecord
    precision: Precision
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    extra: dict[str, str]

    @property
    def text(self) -> str:
        """The card as it stands in a file."""
        return f"{self.model_dump_json(by_alias=True, indent=2)}\n"

    def with_labels(self, labels: Sequence[str] | None) -> Card:
        """The same card with the model's labels."""
        known = None if labels is None else tuple(labels)
        return self.model_copy(update={"model": self.model.model_copy(update={"labels": known})})


def make(
    spec: ModelSpec,
    precision: Precision,
    inputs: Sequence[TensorRecord],
    outputs: Sequence[TensorRecord],
    extra: Mapping[str, str],
) -> Card:
    """The card of a file of `spec`."""
    model = ModelRecord.of(spec).model_copy(update={"weights": spec.weights_name})
    return Card(model=model, precision=precision, inputs=tuple(inputs), outputs=tuple(outputs), extra=dict(extra))


def parse(text: str | bytes, where: str) -> Card:
    """The card in `text`, which stands at `where`; raises `BadArtifact`."""
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "it"
        raise BadArtifact(f"{where} is not a card: {field}: {first['msg']}", "convert again") from error
