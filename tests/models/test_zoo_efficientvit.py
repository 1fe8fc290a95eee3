"""The zoo's EfficientViTs: which weights a request means, and that the trained ones are as good as they say."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from dataclasses import asdict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

from evit_edge.models.checkpoints import save
from evit_edge.models.download import PROGRESS
from evit_edge.models.efficientvit import CONFIGS, EfficientViT
from evit_edge.models.errors import ModelUnavailable, UnknownName, Unsupported
from evit_edge.models.sample_images import digits, sample_photographs
from evit_edge.models.spec import IMAGENET_MEAN, IMAGENET_STD, ModelRequest, ModelSpec, Preprocess, find
from evit_edge.models.zoo_efficientvit import DEMO_WEIGHTS, ZOO

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
CIFAR_WEIGHTS = SHARED / "weights" / "efficientvit_m0_cifar10_96px.safetensors"
CIFAR_IMAGES = SHARED / "data" / "cifar10_validation.npz"
M0 = "efficientvit_m0"


def found(name: str = M0, **more: Any) -> ModelSpec:
    return find(ModelRequest(name=name, **more))


def logits(spec: ModelSpec, pixels: np.ndarray[Any, Any]) -> torch.Tensor:
    model = spec.build()
    with torch.inference_mode():
        parts = [torch.from_numpy(spec.preprocess.normalise(part)) for part in np.array_split(pixels, 8)]
        return torch.cat([model(part) for part in parts])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    save(EfficientViT(CONFIGS[M0], img_size=96, num_classes=3), path)
    return path


# --- names


def test_the_zoo_lists_the_networks_it_has() -> None:
    assert list(ZOO.names()) == sorted(CONFIGS)
    assert ZOO.find(ModelRequest(name="resnet50")) is None
    assert found(weights="random").weights_known == ("imagenet", "demo", "random")
    assert found("efficientvit_m5", weights="random").weights_known == ("imagenet", "random")


def test_a_mistyped_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown model 'eficientvit_m0' \(did you mean efficientvit_m0"):
        find(ModelRequest(name="eficientvit_m0"))


def test_mistyped_weights_are_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown weights 'imagnet' \(did you mean imagenet"):
        found(weights="imagnet")


def test_demo_and_random_are_found_without_importing_torch_or_sklearn() -> None:
    code = (
        "import sys; from evit_edge.models.spec import ModelRequest, find\n"
        f"specs = [find(ModelRequest(name='{M0}', weights=w)) for w in ('demo', 'random')]\n"
        "assert all(spec.digest for spec in specs)\n"
        "assert not {'torch', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- demo


def test_the_demo_weights_get_97_percent_of_all_held_out_digits_right() -> None:
    spec = found(weights="demo")
    pixels, labels = digits("held_out", spec.preprocess)
    top1 = float((logits(spec, pixels).argmax(1).numpy() == labels).mean())
    with safe_open(DEMO_WEIGHTS, framework="np") as file:
        stated = float(file.metadata()["held_out_top1"])
    assert len(labels) == 364
    assert top1 >= 0.97
    assert top1 == pytest.approx(stated, abs=0.01)


def test_the_demo_spec_says_everything_the_weights_were_trained_with() -> None:
    spec = found(weights="demo")
    assert spec.request == ModelRequest(name=M0, weights="demo", img_size=224, num_classes=10)
    assert spec.labels == tuple("0123456789")
    assert spec.preprocess == Preprocess(size=224, resize=224, interpolation="bilinear")
    assert spec.licence == "Apache-2.0"


def test_the_demo_file_is_small_half_precision_and_says_where_its_data_comes_from() -> None:
    assert DEMO_WEIGHTS.stat().st_size < 5_000_000
    with safe_open(DEMO_WEIGHTS, framework="np") as file:
        keys, metadata = file.keys(), file.metadata()
        assert {file.get_slice(key).get_dtype() for key in keys} == {"F16", "I64"}
    assert not any(key.endswith("attention_bias_idxs") for key in keys)
    assert "CC BY 4.0" in metadata["data"]


def test_only_m0_has_demo_weights() -> None:
    with pytest.raises(Unsupported, match="efficientvit_m3 has no demo weights"):
        found("efficientvit_m3", weights="demo")


def test_the_demo_at_another_size_resizes_its_biases_and_still_knows_its_digits() -> None:
    spec = found(weights="demo", img_size=192)
    pixels, labels = digits("held_out", spec.preprocess)
    assert spec.preprocess == Preprocess(size=192, resize=192, interpolation="bilinear")
    assert (logits(spec, pixels[:100]).argmax(1).numpy() == labels[:100]).mean() > 0.5


# --- samples


def test_samples_of_the_demo_are_held_out_digits_and_of_other_weights_photographs() -> None:
    spec = found(weights="demo")
    assert np.array_equal(spec.sample_pixels(12), digits("held_out", spec.preprocess)[0][:12])
    spec = found("efficientvit_m2", weights="random", img_size=64)
    assert np.array_equal(spec.sample_pixels(2), sample_photographs(2, spec.preprocess))


# --- random


def test_random_weights_are_always_the_same_and_no_branch_vanishes() -> None:
    spec = found("efficientvit_m1", weights="random", num_classes=5, img_size=96)
    state, again = (spec.build().state_dict() for _ in range(2))
    assert all(torch.equal(tensor, again[key]) for key, tensor in state.items())
    assert all(tensor.abs().max() > 0 for tensor in state.values() if tensor.is_floating_point())
    assert spec.outputs[0].shape == (None, 5)
    assert spec.inputs[0].shape == (None, 3, 96, 96)
    assert spec.preprocess.resize == 109


def test_every_spec_is_found_again_by_its_complete_request(checkpoint: Path) -> None:
    for request in (
        ModelRequest(name=M0, weights="demo"),
        ModelRequest(name=M0, weights="random", img_size=128),
        ModelRequest(name=M0, weights=str(checkpoint), img_size=96),
    ):
        spec = find(request)
        assert None not in asdict(spec.request).values()
        assert (find(spec.request).digest, find(spec.request).request) == (spec.digest, spec.request)


def test_the_deploy_graph_of_a_spec_computes_the_same() -> None:
    spec = found(weights="random", img_size=96)
    model, image = spec.build(), torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        expected, got = model(image), spec.deploy(model, 1)(image)
    assert (got - expected).norm() <= 1e-5 * expected.norm()


# --- a user's file


def test_classes_come_from_the_file_and_the_path_becomes_absolute(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    spec = found(weights="mine.safetensors", img_size=96)
    assert spec.request == ModelRequest(name=M0, weights=str(checkpoint), img_size=96, num_classes=3)
    assert (spec.preprocess.mean, spec.preprocess.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert spec.build()(torch.zeros(1, 3, 96, 96)).shape == (1, 3)


def test_two_files_with_the_same_content_are_the_same_model(checkpoint: Path) -> None:
    copy = checkpoint.with_name("copy.safetensors")
    copy.write_bytes(checkpoint.read_bytes())
    assert found(weights=str(copy), img_size=96).digest == found(weights=str(checkpoint), img_size=96).digest


def test_a_file_of_another_size_asks_for_the_size_before_its_biases_are_resized(checkpoint: Path) -> None:
    with pytest.raises(ModelUnavailable, match="windows of 6, 3, 2 tokens a side; 224 px need 7, 7, 4") as caught:
        found(weights=str(checkpoint))
    assert "--img-size" in caught.value.hint
    assert found(weights=str(checkpoint), img_size=224).build()(torch.zeros(1, 3, 224, 224)).shape == (1, 3)


def test_a_checkpoint_with_a_distillation_head_uses_both_heads(tmp_path: Path) -> None:
    save(EfficientViT(CONFIGS[M0], num_classes=3, distillation=True), tmp_path / "distilled.pth")
    model = found(weights=str(tmp_path / "distilled.pth")).build()
    assert hasattr(model, "head_dist")


def test_the_wrong_number_of_classes_is_refused(checkpoint: Path) -> None:
    for weights, classes in [(str(checkpoint), 3), ("demo", 10)]:
        with pytest.raises(ModelUnavailable, match=f"{classes} classes, not 1000"):
            found(weights=weights, img_size=96, num_classes=1000)


@pytest.mark.parametrize("wrong", [{"img_size": 0}, {"num_classes": -1}])
def test_sizes_below_one_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match="start at 1"):
        found(weights="random", **wrong)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"img_size": "big"}, "wrong at img_size"),
        ({"mean": "0.5,0.5"}, r"wrong at mean"),
        ({"interpolation": "nearest"}, "wrong at interpolation"),
        ({"labels": '["a", "b"]'}, "2 labels for 3 classes"),
        ({"labels": "a,b,c"}, "wrong at labels"),
    ],
)
def test_metadata_that_makes_no_sense_is_named(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    path = tmp_path / "mine.safetensors"
    save(EfficientViT(CONFIGS[M0], num_classes=3), path, metadata=metadata)
    with pytest.raises(ModelUnavailable, match=message):
        found(weights=str(path))


def test_metadata_decides_the_preprocessing_in_proportion_to_the_size(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    metadata = {"img_size": "192", "resize": "208", "mean": "0.5,0.4,0.3", "std": "1,1,2", "interpolation": "bilinear"}
    save(EfficientViT(CONFIGS[M0], img_size=192, num_classes=3), path, metadata=metadata)
    known = {"mean": (0.5, 0.4, 0.3), "std": (1.0, 1.0, 2.0), "interpolation": "bilinear"}
    assert asdict(found(weights=str(path)).preprocess) == {"size": 192, "resize": 208, **known}
    assert asdict(found(weights=str(path), img_size=96).preprocess) == {"size": 96, "resize": 104, **known}


def test_a_foreign_a_missing_and_another_variants_file_are_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "resnet.pth")
    with pytest.raises(ModelUnavailable, match="is not an EfficientViT checkpoint"):
        found(weights=str(tmp_path / "resnet.pth"))
    with pytest.raises(ModelUnavailable, match="No such file"):
        found(weights=str(tmp_path / "missing.pth"))
    save(EfficientViT(CONFIGS["efficientvit_m2"]), tmp_path / "m2.safetensors")
    with pytest.raises(ModelUnavailable, match="these are the weights of efficientvit_m2"):
        found(weights=str(tmp_path / "m2.safetensors")).build()


# --- imagenet, from a mirror on this machine


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = tmp_path / "mirror"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setenv("EVIT_EDGE_CACHE", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("EVIT_EDGE_WEIGHTS_URL", f"http://127.0.0.1:{server.server_port}/")
        yield folder
        server.shutdown()


def test_imagenet_weights_are_downloaded_once_with_progress_and_are_the_default(mirror: Path, tmp_path: Path) -> None:
    save(found(weights="random").build(), mirror / f"{M0}.pth")  # type: ignore[arg-type]
    calls: list[int] = []
    token = PROGRESS.set(lambda done, total: calls.append(done))
    spec = found()
    (mirror / f"{M0}.pth").unlink()
    assert found().digest == spec.digest
    PROGRESS.reset(token)
    assert calls[-1] == (tmp_path / f"cache/weights/{M0}.pth").stat().st_size
    assert spec.request == ModelRequest(name=M0, weights="imagenet", img_size=224, num_classes=1000)
    assert (spec.licence, spec.labels, spec.preprocess) == ("MIT", None, Preprocess(size=224, resize=256))
    image = torch.randn(1, 3, 224, 224)
    assert torch.equal(spec.build()(image), found(weights="random").build()(image))


def test_without_a_network_imagenet_names_the_address_and_the_option(mirror: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"/efficientvit_m4\.pth cannot be downloaded: .*404") as caught:
        found("efficientvit_m4")
    assert "--weights FILE" in caught.value.hint


# --- weights that are not part of the project


@pytest.mark.skipif(not CIFAR_WEIGHTS.exists() or not CIFAR_IMAGES.exists(), reason="needs the CIFAR-10 weights")
def test_the_cifar_weights_get_two_thirds_of_the_validation_images_right() -> None:
    spec = found(weights=str(CIFAR_WEIGHTS))
    assert (spec.request.img_size, spec.request.num_classes) == (96, 10)
    data = np.load(CIFAR_IMAGES)
    images = torch.from_numpy(data["images"][:500]).permute(0, 3, 1, 2).float() / 255
    images = F.interpolate(images, (96, 96), mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        guesses = spec.build()((images - mean) / std).argmax(1).numpy()
    assert 0.60 <= (guesses == data["labels"][:500]).mean() <= 0.74
