"""What a package says of itself: the fields that Xcode shows, and the card that `predict` needs."""

from __future__ import annotations

import importlib.metadata
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...models.errors import BadArtifact
from .. import card
from ..card import Card
from .program import load

if TYPE_CHECKING:
    from ...models.spec import ModelSpec

CARD: Final = "evit-edge.card"
FLOAT32: Final = "evit-edge.float32"
DATE: Final = "com.github.apple.coremltools.conversion_date"


def describe(model: Any, made: Card, spec: ModelSpec, *, float32: Sequence[str]) -> None:
    """Fill in the fields of an `MLModel` from its card; `float32` names what is kept in that dtype."""
    pre = spec.preprocess
    model.author = spec.author
    model.license = spec.licence
    # Weights have no other version than their own content.
    model.version = spec.weights_sha256[:12]
    model.short_description = f"{spec.name}, weights {spec.weights_name}, {pre.size} px, {made.precision}"
    ours = {
        CARD: made.text,
        "evit-edge.version": importlib.metadata.version("evit-edge"),
        "evit-edge.preprocess": (
            f"RGB; shorter side to {pre.resize} px ({pre.interpolation}), centre crop of {pre.size} px; "
            f"(x / 255 - mean) / std, mean {pre.mean}, std {pre.std}"
        ),
        FLOAT32: " ".join(float32),
    }
    model.user_defined_metadata.update(ours)
    # The same model converted on another day is the same model.
    model.user_defined_metadata.pop(DATE, None)
    known = made.inputs[0]
    model.input_description[known.name] = (
        "An RGB picture; the model normalises it."
        if known.normalisation
        else "RGB, normalised: see evit-edge.preprocess."
    )


def save(model: Any, out: Path) -> None:
    """Write the package: the same model gives the same bytes, readable by all."""
    model.save(str(out))
    manifest = json.loads((out / "Manifest.json").read_text())
    items = {_identifier(item): item for item in manifest["itemInfoEntries"].values()}
    root = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
    manifest |= {"itemInfoEntries": items, "rootModelIdentifier": _identifier(root)}
    (out / "Manifest.json").write_text(f"{json.dumps(manifest, indent=4, sort_keys=True)}\n")
    for file in out.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)


def _identifier(item: dict[str, str]) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, item["path"]))


def read(path: Path) -> Card:
    """The card of a package; raises `BadArtifact` for one that has none or is damaged."""
    properties = load(path).properties
    if CARD not in properties:
        raise BadArtifact(f"{path} has no {CARD}: it was not written here", "give a package that we wrote")
    return card.parse(properties[CARD], f"{path}: {CARD}")
