"""Sums whose terms coremltools scales: with the scales that they had before, a program answers as before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from evit_edge.converters.coreml import int8
from evit_edge.converters.coreml.executor import Executor
from evit_edge.converters.coreml.program import Program
from evit_edge.converters.coreml.ranges import measure
from evit_edge.converters.coreml.sums import restored

from ..tflite.networks import SIZE
from ..tflite.photographs import photographs
from .networks import network
from .saving import cosine, feeds, form, run, saved, written


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Program, Program]:
    """MobileNetV2, which has sums of integers, in float16 and in int8."""
    module, images = network("MobileNetV2"), photographs(4, SIZE)
    model = written(module, form(module, images, "iOS17"))
    floating = saved(model, tmp_path_factory.mktemp("float"))
    ranges = measure(floating, feeds(images), rounding=False)
    return floating, saved(int8.quantize(model, floating, ranges), tmp_path_factory.mktemp("int8"))


def largest(program: Program, name: str) -> float:
    """Of the magnitudes of a value, on a photograph."""
    found: dict[str, float] = {}
    (feed,) = feeds(photographs(1, SIZE))
    Executor(program).run(feed, observe=lambda _, key, values: found.update({key: float(values.abs().max())}))
    return found[name]


def test_sums_get_back_the_values_that_they_have_in_the_float_program(programs: tuple[Program, Program]) -> None:
    floating, quantized = programs
    sums = [operation for operation in floating.operations if operation.kind == "add"]
    names = [name for operation in sums for name in operation.outputs]
    scaled = [name for name in names if not 0.5 < largest(quantized, name) / largest(floating, name) < 2]
    assert scaled
    again = restored(quantized)
    for name in names:
        assert largest(again, name) == pytest.approx(largest(floating, name), rel=0.1)


def test_the_answers_stay_the_same_but_for_a_few_roundings(programs: tuple[Program, Program]) -> None:
    floating, quantized = programs
    images = list(feeds(photographs(4, SIZE)))
    answers = run(quantized, images)
    assert cosine(run(restored(quantized), images), answers) > max(0.995, cosine(run(floating, images), answers))


def changed(program: Program, edit: Callable[[np.ndarray], np.ndarray]) -> Program:  # type: ignore[type-arg]
    """One term of the first sum on another scale."""
    makers = {name: operation for operation in program.operations for name in operation.outputs}
    total = next(operation for operation in program.operations if operation.kind == "add")
    (name,) = makers[total.inputs["x"][0]].inputs["scale"]
    constant = program.constants[name]
    return replace(
        program, constants={**program.constants, name: replace(constant, value=edit(np.asarray(constant.value)))}
    )


def test_a_sum_of_terms_with_different_factors_is_left_as_it_is(programs: tuple[Program, Program]) -> None:
    wrong = changed(programs[1], lambda scale: (scale * 16).astype(scale.dtype))
    total = next(operation for operation in wrong.operations if operation.kind == "add")
    name = next(iter(total.outputs))
    assert largest(restored(wrong), name) == largest(wrong, name)


def test_a_program_without_such_sums_is_what_it_was(programs: tuple[Program, Program]) -> None:
    floating, quantized = programs
    assert restored(floating) == floating
    assert restored(restored(quantized)) == restored(quantized)
