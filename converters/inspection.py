"""What a converted file really holds: operators, layers, dtypes, and the precision that follows; for every target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..models.errors import BadArtifact
from . import artifact
from .conversion import CONVERTERS

if TYPE_CHECKING:
    from .artifact import TensorRecord
    from .conversion import Converter

# What is left may be in another precision: a classifier, a stem's few weights.
NEARLY_ALL: Final = 0.95
MOST: Final = 0.5
NAMED: Final = 5
INTEGERS: Final = ("int8", "uint8")
FLOATS: Final = ("float32", "float16")

# By the dtype of the weights and that of the arithmetic.
PRECISIONS: Final[Mapping[tuple[str | None, str | None], str]] = {
    ("float32", "float32"): "fp32",
    ("float16", "float32"): "fp16",
    ("float16", "float16"): "fp16",
    ("int8", "float32"): "w8",
    ("int8", "float16"): "w8",
    ("int8", "int8"): "int8",
    ("int8", "uint8"): "int8",
    ("uint8", "uint8"): "int8",
    ("int8", "int16"): "w8a16",
    ("lut8", "float16"): "pal8",
    ("lut6", "float16"): "pal6",
    ("lut4", "float16"): "pal4",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """An operator that multiplies: by constant weights, or two activations (`weights` 0, `weight_dtype` empty).

    `weights` counts elements; their dtype is the stored one (`lut8`, `lut6`, `lut4` for a palette of 2^n values).
    `weight_bytes` are those in the file, scales and palettes included, biases not; 0 if an earlier layer has the
    same weights. `arithmetic` is the dtype of the arithmetic; `macs` are at batch 1, 0 where the file tells no shapes.
    """

    name: str
    kind: str
    weights: int
    weight_dtype: str
    weight_bytes: int
    arithmetic: str
    macs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """All layers of one arithmetic and one dtype of weights."""

    arithmetic: str
    weight_dtype: str
    layers: int
    macs: int
    weight_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What was found in a file; `operators` says how often each stands in it, under the file format's own names.

    `excepted` names layers that the file itself declares to be in another dtype, where its own would have overflowed.
    """

    operators: Mapping[str, int]
    layers: tuple[Layer, ...]
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]
    excepted: frozenset[str] = frozenset()

    @property
    def macs(self) -> int:
        """Multiply-accumulates at batch 1."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all layers' weights in the file."""
        return sum(layer.weight_bytes for layer in self.layers)

    @property
    def int8_share(self) -> float:
        """The part of all MACs that is in integers of 8 bits, from 0 to 1."""
        integer = sum(layer.macs for layer in self.layers if layer.arithmetic in INTEGERS)
        return integer / self.macs if self.macs else 0.0

    @property
    def shares(self) -> tuple[Share, ...]:
        """The layers by arithmetic and dtype of the weights, most MACs first."""
        groups: dict[tuple[str, str], list[Layer]] = {}
        for layer in self.layers:
            groups.setdefault((layer.arithmetic, layer.weight_dtype), []).append(layer)
        shares = (
            Share(
                arithmetic=arithmetic,
                weight_dtype=weight_dtype,
                layers=len(group),
                macs=sum(layer.macs for layer in group),
                weight_bytes=sum(layer.weight_bytes for layer in group),
            )
            for (arithmetic, weight_dtype), group in groups.items()
        )
        return tuple(sorted(shares, key=lambda share: share.macs, reverse=True))

    @property
    def precision(self) -> str:
        """One of `artifact.Precision` if nearly all of the file is; else its shares, or `no weights`.

        It is `mixed` if the most of the arithmetic is int8, and all the rest float. Weights count by number, the
        arithmetic by MACs, both in the layers with weights alone that are not excepted.
        """
        weights, arithmetic = Counter[str](), Counter[str]()
        for layer in self.layers:
            if layer.weights and layer.name not in self.excepted:
                weights[layer.weight_dtype] += layer.weights
                # Where the shapes are unknown: every weight is multiplied once at least.
                arithmetic[layer.arithmetic] += layer.macs or layer.weights
        if not weights:
            return "no weights"
        name = PRECISIONS.get((_dominant(weights), _dominant(arithmetic))) or _mixed(arithmetic)
        return name or f"weights {_percentages(weights)}, arithmetic {_percentages(arithmetic)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """The file or package that was looked into; `asked` is the precision that an artifact's manifest records."""

    payload: Path
    size_bytes: int
    target: str
    asked: str | None
    inspection: Inspection


def look(path: Path) -> Inspected:
    """Look into a file or package with a target's suffix, whoever wrote it, or into an artifact's payload.

    Raises `BadArtifact` for a path that is neither, or whose content is damaged.
    """
    if not path.exists():
        raise BadArtifact(f"there is no {path}", "make one with: evit-edge convert MODEL --target onnx")
    suffixes = {CONVERTERS.load(target).suffix: target for target in CONVERTERS.names()}
    target = suffixes.get(path.suffix.removeprefix(".").lower())
    if target is None and path.is_file():
        known = ", ".join(f".{suffix}" for suffix in sorted(suffixes))
        raise BadArtifact(f"{path} is not a file that can be inspected", f"known: {known}, and artifact folders")
    payload, asked = path, None
    if target is None:
        whole = artifact.read(path)
        payload, target, asked = whole.payload, whole.manifest.target, whole.manifest.precision
    converter: Converter = CONVERTERS.load(target)
    return Inspected(
        payload=payload,
        size_bytes=_size_bytes(payload),
        target=target,
        asked=asked,
        inspection=converter.inspect(payload),
    )


def left_in_float(found: Inspection) -> list[str]:
    """For people, of a file with integers: which layers have none, if any, and why."""
    floats = [layer for layer in found.layers if layer.arithmetic in FLOATS]
    if not floats:
        return []
    more = f" and {len(floats) - NAMED} more" if len(floats) > NAMED else ""
    names = ", ".join(layer.name for layer in floats[:NAMED])
    share = f"{1 - found.int8_share:.1%} of the MACs"
    return [
        f"in float: {len(floats)} of {len(found.layers)} layers, {share} ({names}{more}), "
        "where errors would reach every later sum, or cost most; softmax, means and residual sums are float too"
    ]


def images_in(inputs: Sequence[TensorRecord], outputs: Sequence[TensorRecord]) -> int:
    """The fixed batch that a file's MACs are to be divided by: the first size if all its tensors share it, else 1."""
    firsts = {tensor.shape[:1] for tensor in (*inputs, *outputs)}
    first = firsts.pop() if len(firsts) == 1 else ()
    return next((size for size in first if size), 1)


def _size_bytes(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _dominant(counter: Counter[str]) -> str | None:
    (name, count), *_ = counter.most_common(1)
    return name if count >= NEARLY_ALL * counter.total() else None


def _mixed(arithmetic: Counter[str]) -> str | None:
    integer, floating = (sum(arithmetic[dtype] for dtype in dtypes) for dtypes in (INTEGERS, FLOATS))
    whole = integer + floating == arithmetic.total()
    return "mixed" if whole and floating and integer >= MOST * arithmetic.total() else None


def is_met(asked: str, found: str) -> bool:
    """Whether a file that holds `found` is what was asked for: `mixed` may be int8 throughout."""
    return found == asked or (asked, found) == ("mixed", "int8")


def _percentages(counter: Counter[str]) -> str:
    return " + ".join(f"{count / counter.total():.1%} {name}" for name, count in counter.most_common())
