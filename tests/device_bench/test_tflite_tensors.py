"""The manifest's names find the file's tensors, or the file is refused."""

from typing import Any

import numpy as np
import pytest

from evit_edge.models.errors import BadArtifact

from .conftest import MakeArtifact
from .tflite_models import (
    ANSWERS,
    CROSSED,
    CROSSED_NAMES,
    NAMES,
    ONES,
    OWN_NAMES,
    PAIR,
    SIGNATURE,
    STRANGERS,
    TENS,
    fixed,
    opened,
    pair,
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "content",
    [pair(signature=SIGNATURE), pair(OWN_NAMES), pair(CROSSED_NAMES, signature=CROSSED)],
    ids=["signature", "tensors", "signature before tensors"],
)
def test_names_find_their_tensors_whatever_the_files_order(
    make_tflite: MakeArtifact, name: str, content: bytes
) -> None:
    session = opened(make_tflite(content, inputs=PAIR[::-1], outputs=ANSWERS[::-1]), name)
    total, difference = session.run({"left": TENS, "right": ONES})
    np.testing.assert_array_equal(difference, TENS - ONES)
    np.testing.assert_array_equal(total, TENS + ONES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("signature", [None, STRANGERS], ids=["none", "others"])
def test_without_any_known_name_the_order_counts(make_tflite: MakeArtifact, name: str, signature: Any) -> None:
    session = opened(make_tflite(pair(signature=signature), inputs=PAIR, outputs=ANSWERS), name)
    difference, total = session.run({"right": ONES, "left": TENS})
    np.testing.assert_array_equal(difference, TENS - ONES)
    np.testing.assert_array_equal(total, TENS + ONES)


@pytest.mark.parametrize(
    ("content", "changes", "says"),
    [
        (pair(), {"inputs": PAIR[:1]}, "takes 2 inputs, and not 1"),
        (pair(), {"outputs": ANSWERS[:1]}, "has the outputs t2, t3, and not difference"),
        (pair(("t0", "left", "t2", "t3")), {}, "has the inputs t0, left, and not left, right"),
        (pair(signature=(SIGNATURE[0], STRANGERS[1])), {"outputs": ANSWERS[:1]}, "outputs w, z, and not difference"),
        (pair(), {"inputs": fixed(PAIR, 2)}, r"'left' is float32 \(1, 4\), and float32 \(2, 4\) in the manifest"),
        (pair(), {"outputs": [a.model_copy(update={"shape": (1, 2, 2)}) for a in ANSWERS]}, r"and float32 \(1, 2, 2\)"),
        (pair(), {"inputs": [t.model_copy(update={"dtype": "int8"}) for t in PAIR]}, r"and int8 \(1, 4\)"),
    ],
    ids=["inputs", "outputs", "a name", "signature", "batch", "rank", "dtype"],
)
def test_a_file_that_is_not_as_its_manifest_says_is_refused(
    make_tflite: MakeArtifact, content: bytes, changes: dict[str, Any], says: str
) -> None:
    artifact = make_tflite(content, **{"inputs": PAIR, "outputs": ANSWERS} | changes)
    with pytest.raises(BadArtifact, match=says) as caught:
        opened(artifact, "litert")
    assert "\n" not in str(caught.value)
