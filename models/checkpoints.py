"""Weights between files and networks: the authors' names, timm's names, safetensors and torch's own format."""

from __future__ import annotations

import argparse
import math
import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from .checkpoint_keys import (
    BIASES,
    CLASSIFIER,
    Header,
    check_windows,
    damaged,
    official_key,
    require_file,
    safetensors_header,
    timm_key,
)
from .efficientvit import CONFIGS, CascadedGroupAttention, EfficientViT
from .errors import FileProblem, ModelUnavailable, Unsupported

State = dict[str, Tensor]
Naming = Literal["official", "timm"]

INDICES: Final = ".attention_bias_idxs"
COUNTER: Final = ".num_batches_tracked"
HEADS: Final = ("head.", "head_dist.")


def read(path: Path) -> tuple[State, dict[str, str]]:
    """The tensors of a checkpoint by official name, and its metadata; floats become float32.

    Reads safetensors, and torch files with the state alone or under `model` or `state_dict`, in the authors'
    or timm's names, from parallel training too. Never runs code of the file. Raises `ModelUnavailable`.
    """
    require_file(path)
    if path.suffix == ".safetensors":
        try:
            tensors, metadata = load_file(path), dict(safetensors_header(path).metadata)
        except SafetensorError as error:
            raise damaged(path) from error
    else:
        tensors, metadata = _read_torch(path)
    state = {}
    for name, tensor in tensors.items():
        key = official_key(name)
        if not key.endswith(INDICES):
            state[key] = _plain(key, tensor)
    return state, metadata


def _read_torch(path: Path) -> tuple[State, dict[str, str]]:
    content = _unpickled(path)
    metadata = content.get("metadata")
    for wrapper in ("model", "state_dict"):
        if isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        raise ModelUnavailable(f"{path} holds no tensors by name", "save the model's state_dict()")
    return tensors, metadata if isinstance(metadata, dict) else {}


def _unpickled(path: Path) -> dict[str, Any]:
    # Training scripts save their options next to the weights: a namespace is data, no code of it is run.
    allowed = torch.serialization.safe_globals([argparse.Namespace])
    try:
        with allowed, warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelUnavailable(
            f"{path} is refused: it is damaged or holds code beside tensors, none of which was run",
            "save the model's state_dict() alone, best as .safetensors",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
        raise damaged(path) from error
    return content if isinstance(content, dict) else {}


def _plain(key: str, tensor: Tensor) -> Tensor:
    # Some released files hold 1×1 convolutions as matrices.
    is_conv = key.endswith((".c.weight", ".se.fc1.weight", ".se.fc2.weight"))
    shaped = tensor[:, :, None, None] if is_conv and tensor.ndim == 2 else tensor
    return shaped.float() if shaped.is_floating_point() else shaped


def load_into(model: EfficientViT, state: State, *, source: str | Path, resize: bool = False) -> None:
    """Load a state of `read` into `model`, completely; `source` names the file in messages.

    With `resize`, attention biases of other windows are resized bicubically. Raises `ModelUnavailable`, and
    leaves `model` as it was, for weights of another network or variant, for other classes or windows, and for
    numbers that are not finite.
    """
    wanted = model.state_dict()
    # Old files lack these counters, and inference never reads them.
    state = {key: tensor for key, tensor in wanted.items() if key.endswith(COUNTER)} | state
    if model.features_only:
        state = {key: tensor for key, tensor in state.items() if not key.startswith(HEADS)}
    _check_backbone(wanted, state, source)
    _check_keys(wanted, state, source)
    _check_classes(wanted, state, source)
    if resize:
        state = {
            key: _resized(tensor, wanted[key]) if key.endswith(BIASES) else tensor for key, tensor in state.items()
        }
    header = Header(shapes={key: tuple(tensor.shape) for key, tensor in state.items()}, metadata={})
    check_windows(header, model.img_size, source)
    _check_tensors(wanted, state, source)
    model.load_state_dict(state)


def _resized(biases: Tensor, wanted: Tensor) -> Tensor:
    """Biases (heads, r²) to the size of `wanted`, (heads, s²), over the r×r offsets."""
    side, wanted_side = math.isqrt(biases.shape[-1]), math.isqrt(wanted.shape[-1])
    if side == wanted_side or biases.shape != (len(wanted), side**2):
        return biases
    grid = biases.unflatten(1, (side, side))[None]
    return F.interpolate(grid, (wanted_side, wanted_side), mode="bicubic", align_corners=False)[0].flatten(1)


def _backbone(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What neither the number of classes nor the image size changes."""
    left_out = (BIASES, COUNTER)
    return {key: t for key, t in state.items() if not key.startswith(HEADS) and not key.endswith(left_out)}


def _fitting(wanted: Mapping[str, Tensor], state: State) -> int:
    return sum(key in state and state[key].shape == tensor.shape for key, tensor in wanted.items())


def _check_backbone(wanted: State, state: State, source: str | Path) -> None:
    wanted = _backbone(wanted)
    fitting = _fitting(wanted, state)
    if fitting == len(wanted):
        return
    for name, config in CONFIGS.items():
        with torch.device("meta"):
            other = _backbone(EfficientViT(config).state_dict())
        if _fitting(other, state) == len(other):
            raise ModelUnavailable(f"{source}: these are the weights of {name}", f"ask for {name}")
    raise ModelUnavailable(
        f"{source} is not a checkpoint of this network: {fitting} of {len(wanted)} tensors fit",
        "EfficientViT-M0 to M5 (MSRA) are not the EfficientViT of MIT",
    )


def _check_keys(wanted: State, state: State, source: str | Path) -> None:
    if missing := sorted(wanted.keys() - state.keys()):
        raise ModelUnavailable(f"{source} lacks {missing[0]} ({len(missing)} of {len(wanted)} tensors)")
    if extra := sorted(state.keys() - wanted.keys()):
        raise ModelUnavailable(f"{source} has {extra[0]}, which the model has not ({len(extra)} such tensors)")


def _check_classes(wanted: State, state: State, source: str | Path) -> None:
    if CLASSIFIER in wanted and len(wanted[CLASSIFIER]) != len(state[CLASSIFIER]):
        raise ModelUnavailable(
            f"{source} has {len(state[CLASSIFIER])} classes, not {len(wanted[CLASSIFIER])}",
            "leave the number of classes out to take the file's",
        )


def _check_tensors(wanted: State, state: State, source: str | Path) -> None:
    for key, tensor in state.items():
        if tensor.shape != wanted[key].shape:
            raise ModelUnavailable(f"{source}: {key} is {tuple(tensor.shape)}, not {tuple(wanted[key].shape)}")
        if not tensor.isfinite().all():
            raise ModelUnavailable(f"{source}: {key} holds numbers that are not finite (NaN or infinity)")


def save(
    model: EfficientViT, path: Path, *, naming: Naming = "official", metadata: Mapping[str, str] | None = None
) -> None:
    """Write the weights in the model's dtype, as safetensors or torch's format by the suffix; all or nothing.

    Torch files in the official naming hold `attention_bias_idxs` too, so that the authors' code loads them
    strictly. Raises `FileProblem` where the file cannot be written, `Unsupported` for another suffix.
    """
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise Unsupported(
            f"weights are not written as {path.suffix or 'a file without suffix'}", "use .safetensors or .pth"
        )
    state = model.state_dict()
    known = {**(metadata or {}), "naming": naming}
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.suffix == ".safetensors":
            save_file(_named(state, naming), partial, metadata=known)
        else:
            indices = _bias_indices(model) if naming == "official" else {}
            torch.save({"model": _named(state, naming) | indices, "metadata": known}, partial)
        partial.replace(path)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise FileProblem(f"{path} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _named(state: State, naming: Naming) -> State:
    return {timm_key(key) if naming == "timm" else key: tensor.contiguous() for key, tensor in state.items()}


def _bias_indices(model: EfficientViT) -> State:
    return {
        f"{name}.attention_bias_idxs": module.relative_positions
        for name, module in model.named_modules()
        if isinstance(module, CascadedGroupAttention)
    }
