"""Compressed constants as coremltools' own compression writes them, equal to what it decompresses itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from evit_edge.converters.coreml import program as programs
from evit_edge.converters.coreml.executor import Executor

from . import mil
from .calling import Array, agree, float32, int32, integers, numbers, ours, same, saved

few = settings(max_examples=25, deadline=None)
Compress = Callable[[Any, Any], Any]


def quantized(**options: Any) -> Compress:
    def compress(cto: Any, model: Any, **more: Any) -> Any:
        config = cto.OpLinearQuantizerConfig(weight_threshold=1, **options)
        return cto.linear_quantize_weights(model, config=cto.OptimizationConfig(global_config=config), **more)

    return compress


def palettized(**options: Any) -> Compress:
    def compress(cto: Any, model: Any, **more: Any) -> Any:
        config = cto.OpPalettizerConfig(weight_threshold=1, **options)
        return cto.palettize_weights(model, config=cto.OptimizationConfig(global_config=config), **more)

    return compress


def pruned(cto: Any, model: Any) -> Any:
    config = cto.OpMagnitudePrunerConfig(target_sparsity=0.6, weight_threshold=1)
    return cto.prune_weights(model, config=cto.OptimizationConfig(global_config=config))


def pruned_and(then: Any) -> Compress:
    return lambda cto, model: then(cto, pruned(cto, model), joint_compression=True)


GROUPED = {"granularity": "per_grouped_channel", "group_size": 8}
WAYS: dict[str, tuple[str, Compress, str]] = {
    "int8 per channel": ("iOS16", quantized(), "affine_dequantize"),
    "int8 per tensor": ("iOS16", quantized(granularity="per_tensor"), "affine_dequantize"),
    "int8 asymmetric": ("iOS16", quantized(mode="linear"), "affine_dequantize"),
    "uint8 asymmetric": ("iOS16", quantized(mode="linear", dtype="uint8"), "affine_dequantize"),
    "palette of 8 bits": ("iOS16", palettized(mode="uniform", nbits=8), "lut_to_dense"),
    "palette of 6 bits": ("iOS16", palettized(mode="uniform", nbits=6), "lut_to_dense"),
    "palette of 4 bits": ("iOS16", palettized(mode="kmeans", nbits=4), "lut_to_dense"),
    "palette of 2 bits": ("iOS16", palettized(mode="uniform", nbits=2), "lut_to_dense"),
    "palette of 1 bit": ("iOS16", palettized(mode="kmeans", nbits=1), "lut_to_dense"),
    "pruned": ("iOS16", pruned, "sparse_to_dense"),
    "int8, iOS 18": ("iOS18", quantized(), "blockwise_shift_scale"),
    "int8 asymmetric, iOS 18": ("iOS18", quantized(mode="linear"), "blockwise_shift_scale"),
    "int4 per channel": ("iOS18", quantized(dtype="int4"), "blockwise_shift_scale"),
    "uint4 asymmetric": ("iOS18", quantized(dtype="uint4", mode="linear"), "blockwise_shift_scale"),
    "int4 per block": (
        "iOS18",
        quantized(dtype="int4", granularity="per_block", block_size=32),
        "blockwise_shift_scale",
    ),
    "int4 per block asymmetric": (
        "iOS18",
        quantized(dtype="int4", mode="linear", granularity="per_block", block_size=16),
        "blockwise_shift_scale",
    ),
    "palette of 3 bits": ("iOS18", palettized(mode="kmeans", nbits=3), "lut_to_dense"),
    "palette of 6 bits, iOS 18": ("iOS18", palettized(mode="uniform", nbits=6), "lut_to_dense"),
    "palette per group": ("iOS18", palettized(mode="kmeans", nbits=4, **GROUPED), "lut_to_dense"),
    "palette per group and scales": (
        "iOS18",
        palettized(mode="kmeans", nbits=2, enable_per_channel_scale=True, **GROUPED),
        "blockwise_shift_scale",
    ),
    "palette of vectors": ("iOS18", palettized(mode="kmeans", nbits=4, cluster_dim=2), "lut_to_dense"),
    "palettes of vectors": ("iOS18", palettized(mode="kmeans", nbits=2, cluster_dim=2, **GROUPED), "lut_to_dense"),
    "pruned, iOS 18": ("iOS18", pruned, "sparse_to_dense"),
    "pruned and int8": ("iOS18", pruned_and(quantized()), "sparse_blockwise_shift_scale"),
    "pruned and int4 asymmetric": (
        "iOS18",
        pruned_and(quantized(dtype="int4", mode="linear")),
        "sparse_blockwise_shift_scale",
    ),
    "pruned and a palette": ("iOS18", pruned_and(palettized(mode="kmeans", nbits=4)), "lut_to_sparse"),
}


@cache
def network(target: str, precision: str) -> Any:
    """A small model of coremltools with convolutions and a linear layer."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(32, 16, 1), nn.Conv2d(16, 32, 3, 2, 1), nn.Flatten(), nn.Linear(128, 32))
    x = torch.randn(1, 32, 4, 4)
    with mil.quiet():
        import coremltools as ct

        return ct.convert(
            torch.jit.trace(layers.eval(), x),
            inputs=[ct.TensorType(name="x", shape=tuple(x.shape))],
            minimum_deployment_target=getattr(ct.target, target),
            compute_precision=getattr(ct.precision, precision),
            skip_model_load=True,
        )


def decompressed(model: Any) -> dict[str, Array]:
    """What coremltools makes of every compressed constant itself, by the name of its value."""
    from coremltools.converters.mil.frontend.milproto import load

    version = model._spec.specificationVersion
    program = load.load(model._spec, specification_version=version, file_weights_dir=model.weights_dir)
    values: dict[str, Array] = {}
    for op in program.functions["main"].operations:
        if op.op_type.startswith("constexpr_"):
            if op.op_type == "constexpr_lut_to_dense" and op.lut.val is None:
                # coremltools does not follow a table that is compressed itself.
                made = op.decompress(op.indices.val, values[op.lut.name], None)
            else:
                made = op.materialized_val_inference()
            for output, value in zip(op.outputs, made if isinstance(made, tuple) else (made,), strict=True):
                values[output.name] = value
    return values


def check(way: str, precision: str, folder: Path) -> None:
    target, compress, kind = WAYS[way]
    path = folder / "model.mlpackage"
    with mil.quiet():
        import coremltools.optimize.coreml as cto

        model = compress(cto, network(target, precision))
        model.save(str(path))
        want = decompressed(model)
        dense = cto.decompress_weights(model)
        dense.save(str(folder / "dense.mlpackage"))
    executor = Executor(programs.load(path))
    kinds = {operation.kind for operation in executor.program.operations}
    assert f"constexpr_{kind}" in kinds
    assert len(want) >= 2
    for name, value in want.items():
        same(executor._constants[name].numpy(), value.astype(np.float32) if value.dtype.kind == "f" else value)
    x = numbers((1, 32, 4, 4))
    plain = Executor(programs.load(folder / "dense.mlpackage"))
    assert not any(operation.kind.startswith("constexpr_") for operation in plain.program.operations)
    got, expected = (next(iter(one.run({"x": x}).values())).numpy() for one in (executor, plain))
    same(got, expected)


@pytest.mark.parametrize("way", WAYS)
def test_compressed_weights(way: str, tmp_path: Path) -> None:
    check(way, "FLOAT16", tmp_path)


@pytest.mark.parametrize("way", ["int8 asymmetric", "palette of 6 bits", "pruned", "int4 per block asymmetric"])
def test_compressed_weights_in_float32(way: str, tmp_path: Path) -> None:
    check(way, "FLOAT32", tmp_path)


def test_unique_values_become_a_palette(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).choice(float32([-1.5, 0.25, 2.0]), (16, 32, 1, 1))

    def function(mb: Any, x: Any) -> Any:
        return mb.conv(x=x, weight=weights)

    path = mil.program(function, {"x": (1, 32, 4, 4)}, "iOS16", "FLOAT32", tmp_path)
    with mil.quiet():
        import coremltools as ct
        import coremltools.optimize.coreml as cto

        model = palettized(mode="unique")(cto, ct.models.MLModel(str(path), skip_model_load=True))
        model.save(str(tmp_path / "unique.mlpackage"))
    executor = Executor(programs.load(tmp_path / "unique.mlpackage"))
    (packed,) = [op for op in executor.program.operations if op.kind == "constexpr_lut_to_dense"]
    same(executor._constants[next(iter(packed.outputs))].numpy(), weights)


def packed_bits(values: list[int], width: int) -> Array:
    """Bytes whose bits, from the lowest up, are the values', from their lowest up."""
    row = [value >> bit & 1 for value in values for bit in range(width)]
    row += [0] * (-len(row) % 8)
    return np.array([sum(row[i + bit] << bit for bit in range(8)) for i in range(0, len(row), 8)], np.uint8)


@few
@given(st.sampled_from([1, 2, 4, 6, 8]), st.integers(1, 3), st.integers(1, 7))
def test_a_packed_palette(width: int, rows: int, columns: int) -> None:
    lut = numbers((2**width,))
    indices = integers(0, 2**width, (rows, columns))
    packed = packed_bits(indices.flatten().tolist(), width)
    shape = np.uint32([rows, columns])  # type: ignore[arg-type]
    same(ours("constexpr_lut_to_dense", indices=packed, lut=lut, shape=shape), lut[indices])
    mask = integers(0, 2, (rows, columns))
    kept = numbers((int(mask.sum()),), 1)
    want = np.zeros((rows, columns), np.float32)
    want[mask != 0] = kept
    bits = packed_bits(mask.flatten().tolist(), 1)
    same(ours("constexpr_sparse_to_dense", nonzero_data=kept, mask=bits, shape=shape), want)
    same(ours("constexpr_sparse_to_dense", nonzero_data=kept, mask=mask.astype(np.uint8)), want)


@few
@given(st.integers(1, 2), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.integers(1, 3), st.data())
def test_tables_of_vectors(groups: int, each: int, others: int, width: int, size: int, data: st.DataObject) -> None:
    """Each index is replaced by its vector of the table of its block, along any axis."""
    axis = data.draw(st.integers(-2, 1))
    indices = integers(0, 2**width, (groups * each, others * 2)).astype(np.uint8)
    lut = numbers((groups, others, 2**width, size))
    want = np.zeros([count * (size if i == axis % 2 else 1) for i, count in enumerate(indices.shape)], np.float32)
    for i, j in np.ndindex(*indices.shape):
        for k in range(size):
            place = [i, j]
            place[axis] = place[axis] * size + k
            want[tuple(place)] = lut[i // each, j // 2, indices[i, j], k]
    same(ours("constexpr_lut_to_dense", indices=indices, lut=lut, vector_axis=int32(axis)), want)
    mask = integers(0, 2, indices.shape, 1).astype(np.uint8)
    kept, values = ours(
        "constexpr_lut_to_sparse",
        indices_mask=mask,
        indices_nonzero_data=indices[mask != 0],
        lut=lut,
        vector_axis=int32(axis),
    )
    same(kept, np.repeat(mask, size, axis))
    same(values, want[kept != 0])


@few
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.data(), st.booleans())
def test_scales_of_blocks(blocks: list[int], data: st.DataObject, shifted: bool) -> None:
    sizes = [count * data.draw(st.integers(1, 3)) for count in blocks]
    values = integers(-8, 8, tuple(sizes)).astype(np.int8)
    scale = numbers(tuple(blocks))
    offset = integers(-8, 8, tuple(blocks), 1).astype(np.int8)
    want = np.zeros(sizes, np.float32)
    for place in np.ndindex(*sizes):
        block = tuple(i * count // size for i, count, size in zip(place, blocks, sizes, strict=True))
        want[place] = scale[block] * (int(values[place]) - (int(offset[block]) if shifted else 0))
    options = {"scale": scale, **({"offset": offset} if shifted else {})}
    same(ours("constexpr_blockwise_shift_scale", data=values, **options), want)
    mask = integers(0, 2, tuple(sizes), 2).astype(np.uint8)
    kept, sparse = ours(
        "constexpr_sparse_blockwise_shift_scale", data_mask=mask, nonzero_data=values[mask != 0], **options
    )
    same(kept, mask)
    same(sparse, want[mask != 0])


@few
@given(st.integers(1, 3), st.integers(1, 4), st.integers(-2, 1), st.sampled_from(["int8", "uint8"]), st.booleans())
def test_quantize_and_dequantize(rows: int, columns: int, axis: int, dtype: str, per_axis: bool) -> None:
    x = numbers((rows, columns)) * 3
    count = (rows, columns)[axis]
    whole = int32(axis) if per_axis else None
    scale = np.abs(numbers((count,), 1)) / 20 + 0.01 if per_axis else float32(0.03)
    zero = integers(-100, 100, (count,)) + (28 if dtype == "uint8" else 0)
    point = np.clip(zero, 0, 127).astype(dtype) if per_axis else np.array(7, dtype)[()]
    options: dict[str, Any] = {"scale": scale, **({"axis": whole} if per_axis else {})}
    agree("quantize", input=x, **options, zero_point=point, output_dtype=dtype)
    agree("quantize", input=x, **options, output_dtype=dtype)
    q = ours("quantize", input=x, **options, zero_point=point, output_dtype=dtype)
    assert q.dtype == dtype
    spread = (np.expand_dims(v, 1 - axis % 2) if per_axis else v for v in (scale, point.astype(np.float32)))
    factor, shift = spread
    same(ours("dequantize", input=q, **options, zero_point=point), factor * (q.astype(np.float32) - shift))
    same(ours("dequantize", input=q, **options), factor * q.astype(np.float32))


def test_quantize_rounds_halves_to_even_before_the_zero_point_and_saturates() -> None:
    x = float32([0.5, 1.5, 2.5, -0.5, -1.5, 300, -300])
    want = np.array([1, 3, 3, 1, -1, 127, -128], np.int8)
    same(ours("quantize", input=x, scale=float32(1), zero_point=np.int8(1), output_dtype="int8"), want)


def test_quantization_in_a_saved_program(tmp_path: Path) -> None:
    def whole(mb: Any, x: Any) -> Any:
        q = mb.quantize(input=x, scale=np.float32(0.05), zero_point=np.int8(3), output_dtype="int8")
        return mb.dequantize(input=q, scale=np.float32(0.05), zero_point=np.int8(3))

    x = numbers((2, 5)) * 4
    (got,) = saved(whole, {"x": x}, "iOS17", tmp_path)
    want = (np.clip(np.round(x / np.float32(0.05)) + 3, -128, 127) - 3) * np.float32(0.05)
    same(got, want.astype(np.float32), tolerance=1e-6)


def test_a_cast_is_to_float32() -> None:
    same(ours("constexpr_cast", source_val=float32([1.5]), output_dtype="fp32"), float32([1.5]))
    with pytest.raises(ValueError, match="int8"):
        ours("constexpr_cast", source_val=float32([1.5]), output_dtype="int8")
