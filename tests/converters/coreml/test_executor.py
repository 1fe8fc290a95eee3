"""The reference executor as a whole: rounding, what is seen and kept on the way, and what is refused."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor
from evit_edge.converters.coreml.program import Operation
from evit_edge.models.errors import BadArtifact, ParityFailed, Unsupported

from . import mil
from .calling import float32, numbers
from .test_package import change

STEPS = 12


def executor(path: Path, *, rounding: bool = True) -> Executor:
    return Executor(programs.load(path), rounding=rounding)


def ran(path: Path, *, rounding: bool = True, **feeds: Any) -> Any:
    """The one result."""
    (result,) = executor(path, rounding=rounding).run(feeds).values()
    return result.numpy()


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """float16 within, float32 outside."""
    return mil.program(
        lambda mb, x: mb.mul(x=mb.add(x=x, y=np.float32(2048)), y=np.float32(0.1)),
        {"x": (4,)},
        "iOS15",
        "FLOAT16",
        tmp_path_factory.mktemp("halved"),
    )


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """One operator behind the other, of which the last reads the first too."""

    def function(mb: Any, x: Any) -> Any:
        first = y = mb.relu(x=x)
        for _ in range(STEPS):
            y = mb.sin(x=y)
        return mb.add(x=y, y=first)

    return mil.program(function, {"x": (1, 5)}, "iOS15", "FLOAT32", tmp_path)


def test_with_rounding_every_result_is_one_of_its_dtype(halved: Path) -> None:
    x = float32([1, 1 + 2**-13, 3, 1000.3])
    tenth = np.float16(0.1)
    found = ran(halved, x=x)
    np.testing.assert_array_equal(found, ((x.astype(np.float16) + np.float16(2048)) * tenth).astype(np.float32))
    # The constant is a float16 in the file, all else is exact.
    exact = ran(halved, x=x, rounding=False)
    np.testing.assert_allclose(exact, (x + 2048) * np.float32(tenth), rtol=1e-6)
    assert np.abs(found - exact).max() > 1e-2


def test_rounding_overflows_and_what_is_meant_does_not(halved: Path) -> None:
    x = float32([65000, 70000, -70000, 0])
    assert np.isinf(ran(halved, x=x)).tolist() == [True, True, True, False]
    np.testing.assert_allclose(ran(halved, x=x, rounding=False)[1], 72048 * np.float32(np.float16(0.1)), rtol=1e-6)


def test_what_is_no_number_goes_through(halved: Path) -> None:
    found = ran(halved, x=float32([np.nan, 1, np.inf, -np.inf]))
    assert np.isnan(found).tolist() == [True, False, False, False]
    assert (found[2], found[3]) == (np.inf, -np.inf)


def test_every_result_is_seen_in_order(chain: Path) -> None:
    program = programs.load(chain)
    seen: list[tuple[str, str]] = []

    def see(operation: Operation, name: str, values: torch.Tensor) -> None:
        assert values.shape == (1, 5)
        seen.append((operation.kind, name))

    results = Executor(program).run({"x": numbers((1, 5))}, observe=see)
    assert seen == [(operation.kind, name) for operation in program.operations for name in operation.outputs]
    assert [kind for kind, _ in seen] == ["relu", *["sin"] * STEPS, "add"]
    assert list(results) == [seen[-1][1]]


def test_no_more_is_kept_than_is_needed(chain: Path) -> None:
    alive: list[weakref.ref[torch.Tensor]] = []
    counts = []

    def see(operation: Operation, name: str, values: torch.Tensor) -> None:
        alive.append(weakref.ref(values))
        counts.append(sum(reference() is not None for reference in alive))

    gc.disable()
    try:
        results = executor(chain).run({"x": numbers((1, 5))}, observe=see)
    finally:
        gc.enable()
    # The first, the one that is read, the one that it gives.
    assert max(counts) == 3
    assert sum(reference() is not None for reference in alive) == len(results) == 1


def test_it_runs_any_number_of_times_and_leaves_its_input_alone(chain: Path) -> None:
    one, other = numbers((1, 5), 1), numbers((1, 5), 2)
    running, before = executor(chain), one.copy()
    first, _, again = (next(iter(running.run({"x": x}).values())).numpy().copy() for x in (one, other, one))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(one, before)


@pytest.mark.parametrize("shape", [(5,), (2, 5), (1, 4), (1, 5, 1)])
def test_a_feed_of_another_shape_is_refused(chain: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(Unsupported) as caught:
        ran(chain, x=np.zeros(shape, np.float32))
    assert str(caught.value) == f"x takes (1, 5), not {shape}"


def operations(model: Any) -> Any:
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    return [operation for operation in block.operations if operation.type != "const"]


def test_operators_that_are_not_known_are_all_named_and_nothing_is_called_proven(chain: Path) -> None:
    def edit(model: Any) -> None:
        operations(model)[0].type = "whirl"
        operations(model)[3].type = "twirl"

    change(chain, edit)
    with pytest.raises(ParityFailed, match="not proven: the reference executor does not know twirl, whirl") as caught:
        executor(chain)
    assert "nothing was checked" in caught.value.hint
    assert caught.value.exit_code == 5


def test_operators_within_a_block_have_to_be_known_too(tmp_path: Path) -> None:
    def function(mb: Any, x: Any) -> Any:
        positive = mb.greater(x=mb.reduce_sum(x=x), y=np.float32(0))
        return mb.cond(pred=positive, _true_fn=lambda: mb.relu(x=x), _false_fn=lambda: mb.sin(x=x))

    def edit(model: Any) -> None:
        (holder,) = (operation for operation in operations(model) if operation.type == "cond")
        inner = [operation for operation in holder.blocks[1].operations if operation.type == "sin"]
        inner[0].type = "whirl"

    path = mil.program(function, {"x": (3,)}, "iOS15", "FLOAT32", tmp_path)
    for x in (float32([3, -1, 1]), float32([-3, -1, 1])):
        np.testing.assert_allclose(ran(path, x=x), np.maximum(x, 0) if x.sum() > 0 else np.sin(x), rtol=1e-6)
    change(path, edit)
    with pytest.raises(ParityFailed, match="does not know whirl"):
        executor(path)


def test_a_result_of_another_shape_than_the_file_says_is_refused(chain: Path) -> None:
    def edit(model: Any) -> None:
        operations(model)[1].outputs[0].type.tensorType.dimensions[1].constant.size = 6

    change(chain, edit)
    with pytest.raises(BadArtifact, match=r"sin \S+ gives \(1, 5\), the program says \(1, 6\)") as caught:
        ran(chain, x=numbers((1, 5)))
    assert str(chain) in str(caught.value)


def test_an_operator_without_what_it_needs_is_refused(chain: Path) -> None:
    change(chain, lambda model: setattr(operations(model)[2], "type", "concat"))
    with pytest.raises(BadArtifact, match=r"concat \S+ cannot be executed: ") as caught:
        ran(chain, x=numbers((1, 5)))
    assert "\n" not in str(caught.value)


def test_integers_come_out_as_integers(tmp_path: Path) -> None:
    path = mil.program(lambda mb, x: mb.cast(x=x, dtype="int32"), {"x": (3,)}, "iOS15", "FLOAT32", tmp_path)
    found = ran(path, x=float32([1.9, -1.9, 7]))
    assert (found.dtype, found.tolist()) == (np.int32, [1, -1, 7])


@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
def test_an_input_may_be_float16_itself(tmp_path: Path, target: str) -> None:
    path = mil.program(lambda mb, x: mb.relu(x=x), {"x": (3,)}, target, "FLOAT16", tmp_path, dtypes={"x": "fp16"})
    assert programs.load(path).inputs[0].dtype == "float16"
    for dtype in (np.float32, np.float16):
        x = np.array([1 + 2**-13, -1, 3], dtype)
        assert ran(path, x=x).tolist() == [1, 0, 3]
    assert ran(path, x=float32([1 + 2**-13, -1, 3]), rounding=False).tolist() == [1 + 2**-13, 0, 3]


def pictured(folder: Path, color: str, weight: torch.Tensor) -> Path:
    """A convolution of an image whose channels come in the order of `color`."""
    module = nn.Conv2d(weight.shape[1], 2, 1, bias=False).eval()
    module.weight = nn.Parameter(weight, requires_grad=False)
    x = torch.rand(1, weight.shape[1], 4, 6)
    with mil.quiet():
        import coremltools as ct

        path = folder / "model.mlpackage"
        ct.convert(
            torch.jit.trace(module, x),
            inputs=[ct.ImageType(name="image", shape=tuple(x.shape), color_layout=getattr(ct.colorlayout, color))],
            outputs=[ct.TensorType(name="y")],
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        ).save(str(path))
    return path


@pytest.mark.parametrize(("color", "order"), [("RGB", [0, 1, 2]), ("BGR", [2, 1, 0]), ("GRAYSCALE", [0])])
def test_pixels_are_rgb_whatever_order_the_program_wants(tmp_path: Path, color: str, order: list[int]) -> None:
    weight = torch.from_numpy(numbers((2, len(order), 1, 1)))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 6, len(order)), np.uint8)
    found = ran(pictured(tmp_path, color, weight), image=pixels)
    wanted = np.einsum("bhwc,oc->bohw", pixels[..., order].astype(np.float32), weight[:, :, 0, 0].numpy())
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-3)


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    path = pictured(tmp_path, "RGB", torch.zeros(2, 3, 1, 1))
    with pytest.raises(Unsupported, match=r"image takes \(1, 3, 4, 6\), not \(1, 3, 6, 4\)"):
        ran(path, image=np.zeros((1, 6, 4, 3), np.uint8))
