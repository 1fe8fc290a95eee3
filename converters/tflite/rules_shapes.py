"""Rules for what moves numbers and computes none: reshapes, permutations, splits, slices, padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from .graph import BATCH, Tensor
from .lowering import Lowering, Rule, Value, identity, inverse


def reshape(low: Lowering, x: Value, shape: Sequence[int]) -> Value:
    """Any reshape; without a TRANSPOSE where it merges or splits only axes that lie side by side in the file."""
    shape = _complete(low, shape, math.prod(x.shape))
    order = _order_after(x, shape)
    if order is None:
        return Value(low.reshaped(low.arranged(x, identity(len(x.order))), shape), identity(len(shape)))
    return Value(low.reshaped(x.tensor, [shape[axis] for axis in order]), order)


def _complete(low: Lowering, shape: Sequence[int], count: int) -> tuple[int, ...]:
    known = math.prod(size for size in shape if size != -1)
    complete = tuple(count // known if size == -1 else size for size in shape)
    if math.prod(complete) != count:
        raise low.refusal(f"a reshape to {list(shape)} that only some batches allow")
    return complete


def _order_after(x: Value, shape: Sequence[int]) -> tuple[int, ...] | None:
    """The order in which the file holds the result's axes; None if one of them would be torn apart."""
    places: list[tuple[int, list[int]]] = []
    for before, after in _groups(x.shape, shape):
        wide = [x.order.index(axis) for axis in before if x.shape[axis] != 1]
        if wide != list(range(wide[0], wide[0] + len(wide))) if wide else False:
            gap = [place for place in range(wide[0], wide[-1]) if place not in wide]
            if wide != sorted(wide) or any(x.tensor.shape[place] != 1 for place in gap):
                return None
        # Axes of one element can stand anywhere: they stay beside those that they come from, or come after.
        beside = places[-1][0] if places else -1
        places.append((wide[0] if wide else min((x.order.index(axis) for axis in before), default=beside), after))
    return tuple(axis for _, after in sorted(places, key=lambda place: place[0]) for axis in after)


def _groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest runs of axes of both shapes with the same number of elements, from left to right."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        left, right = [i] if i < len(before) else [], [j] if j < len(after) else []
        i, j = i + len(left), j + len(right)
        while (a := math.prod(before[k] for k in left)) != (b := math.prod(after[k] for k in right)):
            if a < b:
                left.append(i)
                i += 1
            else:
                right.append(j)
                j += 1
        groups.append((left, right))
    return groups


def permute(low: Lowering, x: Value, axes: Sequence[int]) -> Value:
    """New names for the axes: nothing is written."""
    named = inverse([axis % len(axes) for axis in axes])
    return Value(x.tensor, tuple(named[axis] for axis in x.order))


def transpose(low: Lowering, x: Value, first: int, second: int) -> Value:
    """Two axes change their names."""
    axes = list(identity(len(x.order)))
    axes[first], axes[second] = axes[second], axes[first]
    return permute(low, x, axes)


def matrix_transpose(low: Lowering, x: Value) -> Value:
    """`t()`."""
    return x if len(x.order) < 2 else transpose(low, x, 0, 1)


def unsqueeze(low: Lowering, x: Value, axis: int) -> Value:
    """An axis of one element more."""
    axis %= len(x.order) + 1
    return reshape(low, x, [*x.shape[:axis], 1, *x.shape[axis:]])


def squeeze(low: Lowering, x: Value, axes: int | Sequence[int]) -> Value:
    """Without these axes, where they have one element."""
    gone = {axis % len(x.order) for axis in ([axes] if isinstance(axes, int) else axes)}
    return reshape(low, x, [size for axis, size in enumerate(x.shape) if axis not in gone or size != 1])


def flatten(low: Lowering, x: Value, first: int = 0, last: int = -1) -> Value:
    """Axes `first` to `last` as one."""
    rank = len(x.order)
    first, last = first % rank, last % rank
    return reshape(low, x, [*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :]])


def expand(low: Lowering, x: Value, shape: Sequence[int], *, implicit: bool = False) -> Value:
    """Axes of one element repeated."""
    import numpy as np

    rank = len(shape)
    x = reshape(low, x, [1] * (rank - len(x.order)) + list(x.shape))
    target = [own if wanted == -1 else wanted for own, wanted in zip(x.shape, shape, strict=True)]
    if tuple(target) == x.shape:
        return x
    if x.shape[0] == 1 and target[0] == BATCH:
        return expand(low, _for_each_image(low, x), target)
    if any(to % BATCH == 0 and to != of for to, of in zip(target, x.shape, strict=True)):
        raise low.refusal("a tensor repeated for a free batch along an axis that is not the first")
    sizes = [target[axis] for axis in x.order]
    if x.tensor.data is not None:
        return Value(low.constant(np.broadcast_to(x.tensor.data, sizes), "expanded"), x.order)
    if any(size % BATCH == 0 for size in sizes):
        # BROADCAST_TO wants to know how many images there are; a product does not.
        ones = low.constant(np.ones([1 if size % BATCH == 0 else size for size in sizes], np.float32), "ones")
        return Value(low.emit("MUL", [x.tensor, ones], sizes), x.order)
    return Value(low.emit("BROADCAST_TO", [x.tensor, low.ints(sizes, "shape")], sizes), x.order)


def _for_each_image(low: Lowering, x: Value) -> Value:
    """`x`, whose first axis has one element, as often as there are images.

    TFLite can only repeat a known number of times; a sum with a zero an image repeats as often as there are any.
    """
    import numpy as np

    image = next((tensor for tensor in low.graph.inputs if tensor.shape[:1] == (BATCH,)), None)
    if image is None:
        raise low.refusal("a tensor repeated for a batch that no input has")
    rank = len(image.shape)
    ends = [0, *[1] * (rank - 1)]
    with low.exactly():
        corner = _strided(low, image, [0] * rank, ends, [1] * rank, [BATCH, *ends[1:]], whole=[0])
        nought = low.emit("MUL", [corner, low.constant(np.asarray(0, np.float32), "nought")], corner.shape)
        zeros = low.reshaped(nought, [BATCH if axis == 0 else 1 for axis in x.order])
        shape = [BATCH if axis == 0 else x.shape[axis] for axis in x.order]
        return Value(low.emit("ADD", [zeros, x.tensor], shape), x.order)


def split(low: Lowering, x: Value, sizes: int | Sequence[int], axis: int = 0) -> list[Value]:
    """Parts of `sizes`, or of equal size, along an axis."""
    place, length = x.axis(axis), x.shape[axis]
    if isinstance(sizes, int):
        sizes = [min(sizes, length - start) for start in range(0, length, sizes)]
    if len(sizes) == 1:
        return [x]
    shapes = [[*x.tensor.shape[:place], size, *x.tensor.shape[place + 1 :]] for size in sizes]
    where = low.ints(place, "axis")  # type: ignore[arg-type]
    if len(set(sizes)) == 1:
        parts = low.emit_many("SPLIT", [where, x.tensor], shapes, num_splits=len(sizes))
    else:
        lengths = low.ints(sizes, "sizes")
        parts = low.emit_many("SPLIT_V", [x.tensor, lengths, where], shapes, num_splits=len(sizes))
    return [Value(part, x.order) for part in parts]


def chunk(low: Lowering, x: Value, count: int, axis: int = 0) -> list[Value]:
    """At most `count` parts of equal size."""
    return split(low, x, -(-x.shape[axis] // count), axis)


def concatenate(low: Lowering, parts: Sequence[Value], axis: int = 0) -> Value:
    """Tensors side by side along an axis, in the order of the first that is no constant."""
    order = next((part.order for part in parts if part.tensor.data is None), parts[0].order)
    tensors = [low.arranged(part, order) for part in parts]
    place = order.index(axis % len(order))
    shape = list(tensors[0].shape)
    shape[place] = sum(tensor.shape[place] for tensor in tensors)
    return Value(low.emit("CONCATENATION", tensors, shape, axis=place), order)


def stack(low: Lowering, parts: Sequence[Value], axis: int = 0) -> Value:
    """Tensors of one shape along a new axis."""
    axis %= len(parts[0].order) + 1
    return concatenate(low, [unsqueeze(low, part, axis) for part in parts], axis)


def unbind(low: Lowering, x: Value, axis: int = 0) -> list[Value]:
    """All slices along an axis, without that axis."""
    return [squeeze(low, part, axis) for part in split(low, x, 1, axis)]


def select(low: Lowering, x: Value, axis: int, index: int) -> Value:
    """One slice along an axis, without that axis."""
    index %= x.shape[axis]
    return squeeze(low, take_slice(low, x, axis, index, index + 1), axis)


def take_slice(
    low: Lowering, x: Value, axis: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    """x[start:end:step] along an axis."""
    place, length = x.axis(axis), x.shape[axis]
    first, last, step = slice(start, end, step).indices(length)
    taken = len(range(first, last, step))
    if taken == length:
        return x
    if length % BATCH == 0:
        raise low.refusal("a slice of a free batch")
    rank = len(x.order)
    shape = [*x.tensor.shape[:place], taken, *x.tensor.shape[place + 1 :]]
    begin = [first if axis == place else 0 for axis in range(rank)]
    # SLICE wants to know the size of the batch, or XNNPACK leaves it.
    if step == 1 and not any(size % BATCH == 0 for size in shape):
        return Value(low.emit("SLICE", [x.tensor, low.ints(begin, "begin"), low.ints(shape, "size")], shape), x.order)
    ends = [last if axis == place else 0 for axis in range(rank)]
    strides = [step if axis == place else 1 for axis in range(rank)]
    others = [axis for axis in range(rank) if axis != place]
    return Value(_strided(low, x.tensor, begin, ends, strides, shape, whole=others), x.order)


def _strided(
    low: Lowering,
    tensor: Tensor,
    begin: Sequence[int],
    ends: Sequence[int],
    strides: Sequence[int],
    shape: Sequence[int],
    *,
    whole: Sequence[int],
) -> Tensor:
    """A slice of the file's axes, all that there is of those in `whole`."""
    lists = [low.ints(numbers, name) for numbers, name in ((begin, "begin"), (ends, "end"), (strides, "strides"))]
    mask = sum(1 << axis for axis in whole)
    return low.emit("STRIDED_SLICE", [tensor, *lists], shape, begin_mask=mask, end_mask=mask)


def pad(low: Lowering, x: Value, widths: Sequence[int], mode: str = "constant", value: float | None = None) -> Value:
    """Constants around the last axes; a negative width cuts off."""
    if mode != "constant":
        raise low.refusal(f"padding by {mode}")
    rank = len(x.order)
    around = {rank - 1 - i: (widths[2 * i], widths[2 * i + 1]) for i in range(len(widths) // 2)}
    for axis, (before, after) in around.items():
        if min(before, after) < 0:
            x = take_slice(low, x, axis, max(0, -before), x.shape[axis] - max(0, -after))
    added = [[max(0, width) for width in around.get(axis, (0, 0))] for axis in x.order]
    return Value(padded(low, x.tensor, added, value or 0.0), x.order)


def padded(low: Lowering, tensor: Tensor, widths: Sequence[Sequence[int]], value: float = 0.0) -> Tensor:
    """`tensor` with (before, after) elements of `value` at each axis of the file."""
    if not any(map(any, widths)):
        return tensor
    shape = [size + sum(around) for size, around in zip(tensor.shape, widths, strict=True)]
    inputs = [tensor, low.ints(widths, "widths")]  # type: ignore[arg-type]
    if value == 0:
        return low.emit("PAD", inputs, shape)
    import numpy as np

    return low.emit("PADV2", [*inputs, low.constant(np.asarray(value, np.float32), "value")], shape)


def same(low: Lowering, x: Value, *_: Any, **__: Any) -> Value:
    """What changes nothing at inference."""
    return x


RULES: Final[dict[str, Rule]] = {
    "aten.view.default": reshape,
    "aten.reshape.default": reshape,
    "aten._unsafe_view.default": reshape,
    "aten.flatten.using_ints": flatten,
    "aten.permute.default": permute,
    "aten.transpose.int": transpose,
    "aten.t.default": matrix_transpose,
    "aten.numpy_T.default": matrix_transpose,
    "aten.unsqueeze.default": unsqueeze,
    "aten.squeeze.dim": squeeze,
    "aten.squeeze.dims": squeeze,
    "aten.expand.default": expand,
    "aten.split.Tensor": split,
    "aten.split_with_sizes.default": split,
    "aten.chunk.default": chunk,
    "aten.cat.default": concatenate,
    "aten.stack.default": stack,
    "aten.unbind.int": unbind,
    "aten.select.int": select,
    "aten.slice.Tensor": take_slice,
    "aten.constant_pad_nd.default": lambda low, x, widths, value=0.0: pad(low, x, widths, "constant", value),
    "aten.pad.default": pad,
    "aten.clone.default": same,
    "aten.contiguous.default": same,
    "aten.dropout.default": same,
    "aten.alias.default": same,
    "aten.detach.default": same,
    "aten.lift_fresh_copy.default": same,
    "aten._assert_tensor_metadata.default": same,
    "aten._assert_scalar.default": same,
    "aten.sym_constrain_range_for_size.default": same,
}
