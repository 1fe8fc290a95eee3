"""EfficientViT-M0 to M5 with the authors' ImageNet weights, the demo's digits, random numbers or a user's file."""

from __future__ import annotations

import hashlib
import math
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Json, PositiveInt, ValidationError, model_validator

from .checkpoint_keys import CLASSIFIER, Header, check_windows, safetensors_header
from .download import PROGRESS, cache_folder, fetch, sha256_of
from .errors import ModelUnavailable, UnknownName, Unsupported
from .sample_images import sample_digits, sample_photographs
from .spec import IMAGENET_MEAN, IMAGENET_STD, ModelRequest, ModelSpec, Preprocess, TensorSpec, Zoo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from .efficientvit import EfficientViT

# ImageNet top-1 in per cent, from the table in the authors' README.
PUBLISHED_TOP1: Final = {
    "efficientvit_m0": 63.2,
    "efficientvit_m1": 68.4,
    "efficientvit_m2": 70.8,
    "efficientvit_m3": 73.4,
    "efficientvit_m4": 74.3,
    "efficientvit_m5": 77.1,
}
NAMES: Final = tuple(PUBLISHED_TOP1)
DEMO_NAME: Final = "efficientvit_m0"
DEMO_WEIGHTS: Final = Path(__file__).with_name("efficientvit_m0_digits.safetensors")
OFFICIAL_URL: Final = "https://github.com/xinyuliu-jeffrey/EfficientViT_Model_Zoo/releases/download/v1.0"
IMG_SIZE: Final = 224
NUM_CLASSES: Final = 1000
AUTHORS: Final = {"imagenet": "Xinyu Liu et al., Microsoft Research (EfficientViT, CVPR 2023)", "demo": "evit-edge"}


def _numbers(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


Channels = Annotated[tuple[float, float, float], BeforeValidator(_numbers)]


class WeightsMetadata(BaseModel):
    """What a file of weights says of itself, as text by key; what it does not say is as for ImageNet.

    `mean` and `std` are three numbers with commas between them, `labels` is JSON.
    """

    model_config = ConfigDict(frozen=True)

    num_classes: PositiveInt = NUM_CLASSES
    img_size: PositiveInt = IMG_SIZE
    resize: PositiveInt | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    labels: Json[tuple[str, ...]] | None = None
    licence: str = "unknown"

    @model_validator(mode="after")
    def _one_label_a_class(self) -> Self:
        if self.labels is not None and len(self.labels) != self.num_classes:
            raise ValueError(f"{len(self.labels)} labels for {self.num_classes} classes")
        return self

    def preprocess(self, img_size: int) -> Preprocess:
        """How images become inputs of `img_size` pixels: for another size than the file's, in proportion."""
        resize = img_size * 256 // 224 if self.resize is None else round(self.resize * img_size / self.img_size)
        return Preprocess(size=img_size, resize=resize, mean=self.mean, std=self.std, interpolation=self.interpolation)


class EfficientViTZoo:
    """See `Zoo`; $EVIT_EDGE_WEIGHTS_URL is a mirror of the authors' release."""

    def names(self) -> Sequence[str]:
        """The six variants."""
        return NAMES

    def find(self, request: ModelRequest) -> ModelSpec | None:
        """The variant with the weights asked for, ImageNet's by default; downloads those if need be."""
        if request.name not in NAMES:
            return None
        for value in (request.img_size, request.num_classes):
            if value is not None and value < 1:
                raise Unsupported(f"image size and number of classes start at 1, not at {value}")
        weights = request.weights or "imagenet"
        finders = {"demo": _demo, "imagenet": _imagenet, "random": _random}
        return finders.get(weights, _file)(replace(request, weights=weights))


ZOO: Final[Zoo] = EfficientViTZoo()


def _random(request: ModelRequest) -> ModelSpec:
    metadata = WeightsMetadata(num_classes=request.num_classes or NUM_CLASSES, licence="none: random numbers")
    # There is no file: this name of the rule below stands for its content.
    digest = hashlib.sha256(b"evit-edge random weights, first rule").hexdigest()
    return _spec(request, metadata, sha256=digest, build=_build_random, sample=sample_photographs)


def _imagenet(request: ModelRequest) -> ModelSpec:
    address = os.environ.get("EVIT_EDGE_WEIGHTS_URL") or OFFICIAL_URL
    url = f"{address.rstrip('/')}/{request.name}.pth"
    path = fetch(url, cache_folder() / "weights", progress=PROGRESS.get())
    metadata = WeightsMetadata(licence="MIT")
    return _spec(
        request, metadata, sha256=sha256_of(path), build=partial(_build_from_file, path), sample=sample_photographs
    )


def _demo(request: ModelRequest) -> ModelSpec:
    if request.name != DEMO_NAME:
        raise Unsupported(f"{request.name} has no demo weights", f"{DEMO_NAME} has; the others take random or a file")
    _, metadata = _opened(DEMO_WEIGHTS)
    digest = sha256_of(DEMO_WEIGHTS)
    return _spec(request, metadata, sha256=digest, build=partial(_build_from_file, DEMO_WEIGHTS), sample=sample_digits)


def _file(request: ModelRequest) -> ModelSpec:
    weights = str(request.weights)
    path = Path(weights).expanduser().absolute()
    if not path.exists() and weights == path.stem:
        raise UnknownName.among("weights", weights, (*_weights_known(request.name), "FILE"))
    header, metadata = _opened(path)
    if request.img_size is None:
        check_windows(header, metadata.img_size, path)
    request = replace(request, weights=str(path))
    return _spec(
        request, metadata, sha256=sha256_of(path), build=partial(_build_from_file, path), sample=sample_photographs
    )


def read_header(path: Path) -> Header:
    """The header of any checkpoint; only what is not safetensors needs torch. Raises `ModelUnavailable`."""
    if path.suffix == ".safetensors":
        return safetensors_header(path)
    from .checkpoints import read

    state, metadata = read(path)
    return Header(shapes={key: tuple(tensor.shape) for key, tensor in state.items()}, metadata=metadata)


def _opened(path: Path) -> tuple[Header, WeightsMetadata]:
    header = read_header(path)
    if header.num_classes is None:
        raise ModelUnavailable(
            f"{path} is not an EfficientViT checkpoint: none of its tensors is {CLASSIFIER}",
            "EfficientViT-M0 to M5 (MSRA) are not the EfficientViT of MIT",
        )
    try:
        known = {**header.metadata, "num_classes": header.num_classes}
        return header, WeightsMetadata.model_validate(known)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "labels"
        raise ModelUnavailable(f"{path}: its metadata is wrong at {where}: {first['msg']}") from error


def _spec(
    request: ModelRequest,
    metadata: WeightsMetadata,
    *,
    sha256: str,
    build: Callable[[ModelRequest], nn.Module],
    sample: Callable[..., NDArray[np.uint8]],
) -> ModelSpec:
    if request.num_classes not in (None, metadata.num_classes):
        raise ModelUnavailable(
            f"the weights {request.weights} have {metadata.num_classes} classes, not {request.num_classes}",
            "leave the number of classes out to take theirs",
        )
    img_size = request.img_size or metadata.img_size
    complete = replace(request, img_size=img_size, num_classes=metadata.num_classes)
    preprocess = metadata.preprocess(img_size)
    return ModelSpec(
        request=complete,
        inputs=(TensorSpec(name="image", shape=(None, 3, img_size, img_size)),),
        outputs=(TensorSpec(name="logits", shape=(None, metadata.num_classes)),),
        preprocess=preprocess,
        labels=metadata.labels,
        licence=metadata.licence,
        weights_sha256=sha256,
        build=partial(build, complete),
        sample_pixels=partial(sample, preprocess=preprocess),
        calibration_pixels=partial(sample, preprocess=preprocess, part="training"),
        deploy=_deploy,
        deploy_channels=_deploy_channels,
        weights_known=_weights_known(request.name),
        published_top1=PUBLISHED_TOP1[request.name],
        author=AUTHORS.get(str(request.weights), ""),
    )


def _weights_known(name: str) -> tuple[str, ...]:
    return ("imagenet", "demo", "random") if name == DEMO_NAME else ("imagenet", "random")


def _network(request: ModelRequest, *, distillation: bool = False) -> EfficientViT:
    from .efficientvit import CONFIGS, EfficientViT

    model = EfficientViT(
        CONFIGS[request.name],
        img_size=request.img_size or IMG_SIZE,
        num_classes=request.num_classes or NUM_CLASSES,
        distillation=distillation,
    )
    return model.eval().requires_grad_(False)


def _build_from_file(path: Path, request: ModelRequest) -> EfficientViT:
    from .checkpoints import load_into, read

    state, _ = read(path)
    model = _network(request, distillation="head_dist.l.weight" in state)
    # Whether the windows may differ was decided in `find`, where it is known what the user asked for.
    load_into(model, state, source=path, resize=True)
    return model


def _build_random(request: ModelRequest) -> EfficientViT:
    import torch

    model = _network(request)
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items() if tensor.is_floating_point()}
    state = {key: torch.from_numpy(random_tensor(key, shape)) for key, shape in shapes.items()}
    model.load_state_dict(state, strict=False)
    return model


def random_tensor(key: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The numbers that the weights `random` have under an official key, the same on every machine.

    No branch vanishes and every activation stays of the order of one, unlike after a fresh initialisation.
    """
    import numpy as np

    rng = np.random.default_rng(zlib.crc32(key.encode()))
    fan_in = math.prod(shape[1:]) or 1
    rules: dict[str, Callable[[], NDArray[np.float64]]] = {
        "running_var": lambda: rng.uniform(0.5, 1.5, shape),
        "running_mean": lambda: rng.normal(0, 0.1, shape),
        "bn.weight": lambda: rng.uniform(0.5, 1.0, shape),
        "attention_biases": lambda: rng.normal(0, 0.5, shape),
        ".bias": lambda: rng.normal(0, 0.1, shape),
        "": lambda: rng.normal(0, fan_in**-0.5, shape),
    }
    return next(draw() for ending, draw in rules.items() if key.endswith(ending)).astype(np.float32)


def _deploy(model: nn.Module, batch: int | None) -> nn.Module:
    from .deploy import deploy

    return deploy(cast("EfficientViT", model), batch=batch)


def _deploy_channels(model: nn.Module) -> nn.Module:
    from .deploy_channels import deploy_channels

    return deploy_channels(cast("EfficientViT", model))
