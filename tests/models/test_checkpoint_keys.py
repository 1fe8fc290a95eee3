"""The names that others give the same tensors, and what follows from an image's size without torch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.models.checkpoint_keys import official_key, timm_key, windows_at
from evit_edge.models.efficientvit import CONFIGS, EfficientViT, LocalWindowAttention


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_every_key_survives_the_way_to_timms_name_and_back(name: str) -> None:
    keys = list(EfficientViT(CONFIGS[name], distillation=True).state_dict())
    renamed = [timm_key(key) for key in keys]
    assert [official_key(key) for key in renamed] == keys
    assert len(set(renamed)) == len(keys)
    assert not any(key.startswith("blocks") for key in renamed)


@given(st.integers(1, 3), st.integers(0, 9), st.sampled_from(["dw0.m.c.weight", "ffn1.m.pw2.bn.bias", "se.fc1.weight"]))
def test_block_keys_of_any_depth_survive_the_way_to_timms_name_and_back(stage: int, index: int, rest: str) -> None:
    key = f"blocks{stage}.{index}.{rest}"
    assert official_key(timm_key(key)) == key
    assert official_key(key) == key


@pytest.mark.parametrize(
    ("official", "timm"),
    [
        ("patch_embed.6.c.weight", "patch_embed.conv4.conv.weight"),
        ("blocks1.0.mixer.m.attn.proj.1.c.weight", "stages.0.blocks.0.mixer.m.attn.proj.1.conv.weight"),
        ("blocks2.0.1.m.pw1.bn.bias", "stages.1.downsample.res1.1.m.pw1.bn.bias"),
        ("blocks3.1.se.fc1.bias", "stages.2.downsample.patchmerge.se.fc1.bias"),
        ("blocks3.2.0.m.c.weight", "stages.2.downsample.res2.0.m.conv.weight"),
        ("blocks3.4.mixer.m.attn.attention_biases", "stages.2.blocks.1.mixer.m.attn.attention_biases"),
        ("head.l.weight", "head.linear.weight"),
    ],
)
def test_timms_names_are_the_ones_timm_uses(official: str, timm: str) -> None:
    assert timm_key(official) == timm
    assert official_key(timm) == official


@pytest.mark.parametrize("size", [64, 96, 112, 160, 192, 224, 225, 256, 320, 384, 448, 512])
def test_windows_are_those_of_the_network(size: int) -> None:
    stages = EfficientViT(CONFIGS["efficientvit_m0"], img_size=size).stages
    built = [next(m.window for m in stage.modules() if isinstance(m, LocalWindowAttention)) for stage in stages]
    assert tuple(built) == windows_at(size)
