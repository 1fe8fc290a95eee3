"""What the direct writer promises of its files: no needless operator or tensor, any batch, a name for what it lacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from evit_edge.converters.tflite import direct
from evit_edge.converters.tflite.flatbuffer import unpack
from evit_edge.converters.tflite.lowering import NotLowered

from .engines import CLOSE, ENGINES, Do, File, agree, distance, expected, from_file, kinds, to_file, written

MOVING = {"TRANSPOSE", "RESHAPE", "SLICE", "PAD"}


class Tokens(nn.Module):
    """Patches, a layer over tokens, and back to a map."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.layer = nn.Linear(8, 16)
        self.smooth = nn.Conv2d(16, 16, 3, padding=1, groups=16)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.patches(x)
        batch, channels, height, width = x.shape
        tokens = self.layer(x.permute(0, 2, 3, 1).reshape(batch, -1, channels))
        return self.smooth(tokens.transpose(1, 2).reshape(batch, -1, height, width))


def test_channels_stay_last_from_maps_to_tokens_and_back() -> None:
    found = agree(Tokens(), 2, 3, 16, 16, free=True)
    assert found.count("TRANSPOSE") == 0
    assert [kind for kind in found if kind not in MOVING] == ["CONV_2D", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D"]


def test_reshapes_that_undo_each_other_are_not_written() -> None:
    layer = nn.Linear(8, 8)
    found = agree(Do(lambda x: layer(x.flatten(2).mT).mT.reshape(x.shape).relu()), 2, 8, 4, 4)
    assert found.count("RESHAPE") == 2
    assert agree(Do(lambda x: x.flatten(2).unflatten(2, (4, 4)).relu()), 2, 8, 4, 4) == ["RELU"]


def test_a_layout_is_turned_once_for_all_who_need_it() -> None:
    assert agree(Do(lambda x: x.softmax(2) + x.exp().softmax(2)), 2, 8, 4, 4).count("TRANSPOSE") == 3


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_free_batch_is_any_batch(engine: str, batch: int) -> None:
    module = Tokens().eval()
    file = File(written(direct.graph_of(module, (None, 3, 16, 16))), engine)
    for count in (batch, 3, batch):
        x = np.random.default_rng(count).standard_normal((count, 3, 16, 16)).astype(np.float32)
        (y,) = file.run(to_file(x))
        assert distance(from_file(y), expected(module, x)[0]) <= CLOSE


def test_a_free_batch_is_minus_one_in_the_file_and_one_until_it_is_set() -> None:
    (subgraph,) = unpack(written(direct.graph_of(Tokens(), (None, 3, 16, 16)))).subgraphs
    image = subgraph.tensors[subgraph.inputs[0]]
    assert list(image.shape) == [1, 16, 16, 3]
    assert list(image.shapeSignature) == [-1, 16, 16, 3]


def test_inputs_and_outputs_keep_their_layout_where_that_is_asked() -> None:
    module = Tokens().eval()
    graph = direct.graph_of(module, (2, 3, 16, 16), channels_last=False)
    assert kinds(graph)[0] == kinds(graph)[-1] == "TRANSPOSE"
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    for engine in ENGINES:
        assert distance(File(written(graph), engine).run(x)[0], expected(module, x)[0]) <= CLOSE


def test_what_is_equal_is_written_once_and_what_is_dead_never() -> None:
    table = torch.linspace(0, 1, 400).reshape(1, 4, 10, 10)

    def wasteful(x: torch.Tensor) -> Any:
        _ = F.softmax(x * 3, 1).sum(1) if x.shape[0] == 0 else x.exp().tanh()
        return (x + table) * (table + 0) + x.mean((2, 3), keepdim=True) * x.mean((2, 3), keepdim=True)

    graph = direct.graph_of(Do(wasteful), (2, 4, 10, 10))
    model = unpack(written(graph))
    (subgraph,) = model.subgraphs
    used = {index for operator in subgraph.operators for index in (*operator.inputs, *operator.outputs)}
    assert used == set(range(len(subgraph.tensors)))
    large = [buffer for buffer in model.buffers if buffer.data is not None and len(buffer.data) == 1600]
    assert len(large) == 1
    assert not {"EXP", "TANH", "SOFTMAX"} & set(kinds(graph))


class Deep(nn.Module):
    """Something that no rule covers, deep inside."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.ReLU(), Block(last))

    def forward(self, x: torch.Tensor) -> Any:
        return self.blocks(x)


class Block(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: torch.Tensor) -> Any:
        return self.act(x) + 1


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda x: x.cumsum(1), "aten.cumsum.default"),
        (lambda x: torch.fft.rfft(x).real, "aten._fft_r2c.default"),
        (lambda x: x.sort(1)[0], "aten.sort.default"),
        (lambda x: F.max_pool2d(x, 2, ceil_mode=True), "aten.max_pool2d.default"),
        (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), "aten.pad.default"),
    ],
    ids=["cumsum", "fft", "sort", "rounded up", "reflection"],
)
def test_what_has_no_rule_is_named_with_its_place(function: Any, operator: str) -> None:
    with pytest.raises(NotLowered) as caught:
        direct.graph_of(Deep(Do(function)), (1, 3, 8, 8))
    assert operator in str(caught.value)
    assert "blocks.1.act" in str(caught.value)


def test_an_input_as_an_output_is_refused() -> None:
    with pytest.raises(NotLowered, match="output"):
        direct.graph_of(nn.Dropout().eval(), (1, 3, 2))


def test_a_model_that_remembers_is_refused() -> None:
    class Counting(nn.Module):
        count: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> Any:
            self.count.add_(1)
            return x + self.count

    with pytest.raises(NotLowered, match="count"):
        direct.graph_of(Counting(), (1, 3))
