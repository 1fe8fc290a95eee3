"""What float16 cannot hold: found before the file is written, kept in float32 by name, named by a trace."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from evit_edge.converters.coreml import overflow
from evit_edge.converters.coreml.trace import trace
from evit_edge.converters.to_coreml import TARGETS

from ..tflite.engines import expected
from ..tflite.networks import SIZE
from ..tflite.photographs import photographs
from .networks import OVERFLOWING, network
from .saving import cosine, feeds, form, run, saved, written

CASES = [
    pytest.param(
        name, target, marks=() if target == "iOS15" or (name == "middle" and target == "iOS18") else pytest.mark.slow
    )
    for name in OVERFLOWING
    for target in TARGETS
]


@pytest.mark.parametrize(("name", "target"), CASES)
def test_what_overflows_is_kept_in_float32(name: str, target: str, tmp_path: Path) -> None:
    module, images = network(name), photographs(6, SIZE)
    wanted, of = expected(module, images), form(module, images, target)
    plain = saved(written(module, of), tmp_path / "plain")
    assert cosine(run(plain, feeds(images)), wanted) == -1
    large = overflow.find(plain, feeds(images))
    assert large
    kept = saved(written(module, of, keep_float32=large), tmp_path / "kept")
    assert cosine(run(kept, feeds(images)), wanted) >= 0.9995
    assert overflow.find(kept, feeds(images)) == frozenset()
    assert all(step.finite for step in trace(kept, feeds(images)))
    # All else is as small as before.
    assert (
        sum(kind is not None and kind.dtype == "float16" for op in kept.operations for kind in op.outputs.values()) > 5
    )


def test_a_trace_names_where_it_overflows(tmp_path: Path) -> None:
    module, images = network("middle"), photographs(2, SIZE)
    program = saved(written(module, form(module, images, "iOS15")), tmp_path)
    steps = trace(program, feeds(images))
    first = next(step for step in steps if not step.finite)
    before = steps[: steps.index(first)]
    assert (first.kind, first.dtype) == ("mul", "float16")
    assert first.name.removesuffix(overflow.HALF) in overflow.find(program, feeds(images))
    assert first.largest > overflow.LARGEST > max(step.largest for step in before)
    assert (first.sqnr_db, first.lost_db) == (-math.inf, math.inf)
    assert min(step.sqnr_db for step in before) > 50


def test_nothing_is_found_where_nothing_overflows(tmp_path: Path) -> None:
    module, images = network("ResNet"), photographs(2, SIZE)
    program = saved(written(module, form(module, images, "iOS15")), tmp_path)
    assert overflow.find(program, feeds(images)) == frozenset()
    # Images that are so much brighter.
    assert overflow.find(program, feeds(images * np.float32(1e4)))
