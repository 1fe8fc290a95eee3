"""What is done to a float module before a quantizer sees it, the same for all targets, and only where it helps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import bias_correction, child, equalisation, proof

if TYPE_CHECKING:
    from torch import nn

    from .conversion import Conversion


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjusted:
    """The float module to convert, the one that its float form must agree with, and what was done, in lines."""

    module: nn.Module
    reference: nn.Module
    notes: Sequence[str]


def adjust(module: nn.Module, model: nn.Module, conversion: Conversion) -> Adjusted:
    """The deploy form `module` of `model`: with corrected biases for `int8`, for `mixed` equalised before that.

    Corrected biases make another function of it, whose float form cannot be compared with `model` any more: then the
    deploy form is, here and on real images. Raises `ParityFailed`.
    """
    notes = []
    if conversion.precision == "mixed":
        child.say("trying to equalise channels")
        module, note = equalisation.equalised(module, conversion.calibration_feeds)
        notes.append(note)
    if conversion.precision not in ("int8", "mixed"):
        return Adjusted(module=module, reference=model, notes=notes)
    child.say("trying to correct biases")
    corrected, note = bias_correction.corrected(module, conversion.calibration_feeds)
    notes.append(note)
    if corrected is module:
        return Adjusted(module=module, reference=model, notes=notes)
    proof.prove(
        ((proof.answers(model, feed), proof.answers(module, feed)) for feed in conversion.proof_feeds(proof.COUNT)),
        precision="fp32",
        form="the deploy form of the model",
        hint="this is a fault of the deploy form: take --precision fp32, and report it",
    )
    return Adjusted(module=corrected, reference=corrected, notes=notes)


def is_equalised(notes: Iterable[str]) -> bool:
    """Whether the notes of an artifact say so: its inner tensors are then not those of the model."""
    return any(note.startswith(equalisation.DONE) for note in notes)
