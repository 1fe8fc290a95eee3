"""Weights in and out: every naming and format there is, and every way a file can be wrong."""

from __future__ import annotations

import argparse
import math
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from evit_edge.models.checkpoint_keys import timm_key
from evit_edge.models.checkpoints import Naming, State, load_into, read, save
from evit_edge.models.efficientvit import CONFIGS, EfficientViT
from evit_edge.models.errors import FileProblem, ModelUnavailable, Unsupported
from evit_edge.models.spec import ModelRequest, find
from evit_edge.models.zoo_efficientvit import read_header

VARIANTS = sorted(CONFIGS)


def model_of(name: str = "efficientvit_m0", *, img_size: int = 224, num_classes: int = 10, **more: Any) -> EfficientViT:
    return EfficientViT(CONFIGS[name], img_size=img_size, num_classes=num_classes, **more).eval()


def weights_of(name: str = "efficientvit_m0", *, img_size: int = 224) -> State:
    request = ModelRequest(name=name, weights="random", img_size=img_size, num_classes=10)
    return find(request).build().state_dict()


def assert_same(state: State, other: State) -> None:
    assert state.keys() == other.keys()
    assert all(torch.equal(tensor, other[key]) for key, tensor in state.items())


# --- files that are right


@pytest.mark.parametrize("naming", ["official", "timm"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_what_is_saved_is_read_again_bit_for_bit(tmp_path: Path, naming: Naming, suffix: str) -> None:
    model = model_of("efficientvit_m1")
    load_into(model, weights_of("efficientvit_m1"), source="random")
    path = tmp_path / f"weights{suffix}"
    save(model, path, naming=naming, metadata={"img_size": "224"})
    state, metadata = read(path)
    assert metadata == {"img_size": "224", "naming": naming}
    assert_same(state, model.state_dict())
    header = read_header(path)
    assert (header.num_classes, header.windows) == (10, (7, 7, 4))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_file_in_the_official_naming_holds_every_key_of_the_authors_code(tmp_path: Path) -> None:
    save(model_of(), tmp_path / "weights.pth")
    content = torch.load(tmp_path / "weights.pth", weights_only=True)["model"]
    assert len(content) == 699
    assert content["blocks3.3.mixer.m.attn.attention_bias_idxs"].shape == (16, 16)


def parallel(state: State) -> State:
    return {f"module.{key}": tensor for key, tensor in state.items()}


def with_matrices(state: State) -> State:
    return {key: tensor.flatten(1) if tensor.shape[2:] == (1, 1) else tensor for key, tensor in state.items()}


def with_indices(state: State) -> State:
    return state | {"blocks1.0.mixer.m.attn.attention_bias_idxs": torch.zeros(49, 49, dtype=torch.int64)}


def without_counters(state: State) -> State:
    return {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "args": argparse.Namespace(lr=0.1), "epoch": 299},
        lambda state: {"state_dict": parallel(state)},
        lambda state: {"model": {timm_key(key): tensor for key, tensor in state.items()}},
        lambda state: parallel({timm_key(key): tensor for key, tensor in state.items()}),
        lambda state: {"model": with_indices(with_matrices(state))},
        without_counters,
        lambda state: {key: tensor.double() for key, tensor in state.items()},
    ],
    ids=["plain", "authors", "parallel", "timm", "timm parallel", "matrices", "no counters", "float64"],
)
def test_checkpoints_load_however_they_are_wrapped_and_named(tmp_path: Path, wrap: Callable[[State], Any]) -> None:
    weights = weights_of()
    torch.save(wrap(weights), tmp_path / "weights.pth")
    state, _ = read(tmp_path / "weights.pth")
    model = model_of()
    load_into(model, state, source="weights.pth")
    assert_same(without_counters(model.state_dict()), without_counters(weights))


def test_half_precision_files_are_read_as_float32(tmp_path: Path) -> None:
    save(model_of().half(), tmp_path / "weights.safetensors")
    state, _ = read(tmp_path / "weights.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.float32, torch.int64}


def test_a_network_without_head_takes_the_weights_of_one_with() -> None:
    weights = weights_of()
    model = model_of(features_only=True)
    load_into(model, weights, source="weights")
    assert torch.equal(model.state_dict()["patch_embed.0.c.weight"], weights["patch_embed.0.c.weight"])


# --- attention biases of another image size


def test_biases_of_other_windows_are_resized_bicubically_when_asked() -> None:
    weights, model = weights_of(img_size=96), model_of(img_size=224)
    load_into(model, weights, source="weights", resize=True)
    key = "blocks1.0.mixer.m.attn.attention_biases"
    expected = torch.nn.functional.interpolate(
        weights[key].view(1, 4, 6, 6), size=(7, 7), mode="bicubic", align_corners=False
    )
    assert torch.equal(model.state_dict()[key], expected.view(4, 49))


def test_biases_of_other_windows_are_refused_unless_asked() -> None:
    with pytest.raises(ModelUnavailable, match="windows of 6, 3, 2 tokens a side; 224 px need 7, 7, 4") as caught:
        load_into(model_of(img_size=224), weights_of(img_size=96), source="weights")
    assert "--img-size" in caught.value.hint


# --- weights that are another model's


def changed(key: str, change: Callable[[Tensor], Tensor]) -> State:
    weights = weights_of()
    return weights | {key: change(weights[key])}


def poisoned(value: float) -> State:
    key = "blocks2.3.ffn0.m.pw1.bn.running_var"
    return changed(key, lambda tensor: tensor.index_fill(0, torch.tensor([3]), value))


RESNET = {
    "scale": torch.zeros(1),
    "conv1.weight": torch.zeros(64, 3, 7, 7),
    "fc.weight": torch.zeros(1000, 512),
    "fc.bias": torch.zeros(1000),
}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (lambda: RESNET, r"f\.pth is not a checkpoint of this network: 0 of \d+ tensors fit"),
        (lambda: weights_of("efficientvit_m2"), "these are the weights of efficientvit_m2"),
        (lambda: poisoned(math.nan), r"blocks2\.3\.ffn0\.m\.pw1\.bn\.running_var holds numbers that are not finite"),
        (lambda: poisoned(math.inf), r"blocks2\.3\.ffn0\.m\.pw1\.bn\.running_var holds numbers that are not finite"),
        (lambda: changed("head.l.weight", lambda t: torch.cat([t] * 3)), "has 30 classes, not 10"),
        (lambda: changed("head.l.bias", lambda t: t[:9]), r"head\.l\.bias is \(9,\), not \(10,\)"),
        (lambda: {k: t for k, t in weights_of().items() if k != "head.l.bias"}, r"lacks head\.l\.bias"),
        (lambda: weights_of() | {"extra.weight": torch.zeros(1)}, r"has extra\.weight, which the model has not"),
    ],
    ids=["resnet", "variant", "nan", "infinite", "classes", "shape", "missing", "extra"],
)
def test_wrong_weights_are_named_and_leave_the_model_as_it_was(state: Callable[[], State], message: str) -> None:
    model = model_of()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(ModelUnavailable, match=message) as caught:
        load_into(model, state(), source="f.pth")
    assert "\n" not in str(caught.value)
    assert_same(model.state_dict(), before)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_another_networks_file_is_read_and_then_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"resnet{suffix}"
    if suffix == ".pth":
        torch.save(RESNET | {7: torch.zeros(1)}, path)
    else:
        save_file(RESNET, path)
    state, _ = read(path)
    with pytest.raises(ModelUnavailable, match=r"0 of \d+ tensors fit") as caught:
        load_into(model_of(), state, source=path)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variants_weights_are_recognised(name: str) -> None:
    other = "efficientvit_m1" if name == "efficientvit_m0" else "efficientvit_m0"
    with pytest.raises(ModelUnavailable, match=f"these are the weights of {name}"):
        load_into(model_of(other), model_of(name, num_classes=4, img_size=96).state_dict(), source="f.pth")


# --- files that are damaged


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.__dict__["proof"]),)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path) -> None:
    attack, proof = RunsCode(), tmp_path / "proof"
    attack.__dict__["proof"] = str(proof)
    torch.save({"model": attack}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"model": attack}))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(ModelUnavailable, match=r"is refused: .* none of which was run"):
            read(tmp_path / name)
    assert not proof.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_truncated_files_are_called_damaged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    save(model_of(), path)
    cut(path)
    for reader in (read, read_header):
        with pytest.raises(ModelUnavailable, match="damaged, or not a checkpoint"):
            reader(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin", ""])
@pytest.mark.parametrize("content", [b"\x80", b"<!DOCTYPE html><html>404", b"PK\x03\x04 no zip", bytes(range(256)) * 9])
def test_files_that_are_something_else_are_one_clear_line(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelUnavailable, match="damaged") as caught:
        read(path)
    assert str(path) in caught.value.message
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_missing_empty_and_folder_are_told_apart(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"empty{suffix}").touch()
    (tmp_path / f"folder{suffix}").mkdir()
    for name, message in [("missing", "No such file"), ("empty", "is empty"), ("folder", "directory")]:
        for reader in (read, read_header):
            with pytest.raises(ModelUnavailable, match=message):
                reader(tmp_path / f"{name}{suffix}")


def test_a_torch_file_without_tensors_says_so(tmp_path: Path) -> None:
    for index, content in enumerate([{"epoch": 3}, [1, 2], 7]):
        torch.save(content, tmp_path / f"{index}.pth")
        with pytest.raises(ModelUnavailable, match="holds no tensors by name"):
            read(tmp_path / f"{index}.pth")


def test_a_scripted_module_is_called_damaged_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "scripted.pt"))
    with pytest.raises(ModelUnavailable, match="not a checkpoint"):
        read(tmp_path / "scripted.pt")


# --- writing


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_save_that_fails_leaves_the_earlier_file_and_no_other(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"weights{suffix}"
    save(model_of(), path)
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(FileProblem, match=r"cannot be written: .*No space left"):
        save(model_of(num_classes=3), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_folder_that_does_not_exist_is_a_clear_error(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(FileProblem, match="cannot be written"):
        save(model_of(), tmp_path / "nowhere" / f"weights{suffix}")


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"not written as \.onnx"):
        save(model_of(), tmp_path / "weights.onnx")
    assert not list(tmp_path.iterdir())
