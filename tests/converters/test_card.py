"""What a file says of itself, whatever kind of file it is."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.converters import card
from evit_edge.converters.artifact import ModelRecord, Normalisation, Quantization, TensorRecord
from evit_edge.converters.card import Card
from evit_edge.models.errors import BadArtifact

from .coreml import tiny

IMAGE = TensorRecord(
    name="image",
    shape=(None, 16, 16, 3),
    dtype="uint8",
    layout="nhwc",
    normalisation=Normalisation(mean=tiny.PREPROCESS.mean, std=tiny.PREPROCESS.std),
)
LOGITS = TensorRecord(
    name="logits", shape=(None, 5), dtype="int8", quantization=Quantization(scale=0.1, zero_point=-3), softmax=True
)


def made(**extra: str) -> Card:
    return card.make(tiny.spec(), "w8", [IMAGE], [LOGITS], extra)


def damaged(**changes: Any) -> str:
    return json.dumps({**json.loads(made().text), **changes})


@given(st.dictionaries(st.text(), st.text()))
def test_it_comes_back_from_its_text(extra: dict[str, str]) -> None:
    whole = made(**extra)
    for text in (whole.text, whole.text.encode()):
        assert card.parse(text, "here") == whole
    assert whole.extra == extra


def test_it_says_what_the_spec_says_and_never_where_the_weights_lie() -> None:
    whole = made(manifest_key="1")
    assert whole.model == ModelRecord.of(tiny.spec()).model_copy(update={"weights": "small"})
    assert (whole.precision, whole.inputs, whole.outputs) == ("w8", (IMAGE,), (LOGITS,))
    assert "somebody" not in whole.text


def test_its_text_is_json_for_anyone_to_read() -> None:
    text = made().text
    assert text.endswith("}\n")
    read = json.loads(text)
    assert read["schema"] == 1
    assert read["model"]["labels"] == list(tiny.LABELS)
    assert read["inputs"][0]["normalisation"] == {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.3, 0.1]}
    assert "Äpfel" in text


def test_a_number_that_json_does_not_have_comes_back() -> None:
    endless = LOGITS.model_copy(update={"quantization": Quantization(scale=math.inf, zero_point=0)})
    whole = made().model_copy(update={"outputs": (endless,)})
    assert card.parse(whole.text, "here") == whole


def test_labels_may_stand_elsewhere() -> None:
    whole = made()
    without = whole.with_labels(None)
    assert without.model.labels is None
    assert without.with_labels(list(tiny.LABELS)) == whole
    assert card.parse(without.text, "here") == without


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it: Invalid JSON"),
        ("[]", "it: "),
        ("{}", "model: Field required"),
        ("null", "it: "),
        (made().text[:-10], "it: Invalid JSON"),
        (damaged(schema=2), "schema: "),
        (damaged(precision="fp12"), "precision: "),
        (damaged(more=1), "more: "),
        (damaged(inputs=[{"name": "image"}]), "inputs.0.shape: Field required"),
        (damaged(extra={"key": 1}), "extra.key: "),
    ],
)
def test_what_is_none_is_told_in_one_line_with_its_place(text: str, says: str) -> None:
    with pytest.raises(BadArtifact) as caught:
        card.parse(text, "over there")
    assert str(caught.value).startswith(f"over there is not a card: {says}")
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_none() -> None:
    with pytest.raises(BadArtifact, match="over there is not a card"):
        card.parse(b"\xff\xfe{", "over there")
