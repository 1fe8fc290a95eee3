"""What a checkpoint's file says without torch: keys, shapes, metadata, and the names others give the same keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import ModelUnavailable

CLASSIFIER: Final = "head.l.weight"
BIASES: Final = ".attention_biases"

_PARTS: Final = {"0": "res1", "1": "patchmerge", "2": "res2"}
_INDICES: Final = {part: index for index, part in _PARTS.items()}
_LEAVES: Final = {"c": "conv", "l": "linear"}
_OFFICIAL_LEAVES: Final = {leaf: short for short, leaf in _LEAVES.items()}


def timm_key(key: str) -> str:
    """timm's name of a tensor, from the authors' name; the inverse of `official_key`."""
    key = _with_leaf(key, _LEAVES)
    if match := re.fullmatch(r"patch_embed\.(\d+)\.(.+)", key):
        return f"patch_embed.conv{int(match[1]) // 2 + 1}.{match[2]}"
    if match := re.fullmatch(r"blocks1\.(.+)", key):
        return f"stages.0.blocks.{match[1]}"
    if match := re.fullmatch(r"blocks([23])\.(\d+)\.(.+)", key):
        stage, index, rest = int(match[1]) - 1, match[2], match[3]
        where = f"downsample.{_PARTS[index]}" if index in _PARTS else f"blocks.{int(index) - len(_PARTS)}"
        return f"stages.{stage}.{where}.{rest}"
    return key


def official_key(key: str) -> str:
    """The authors' name of a tensor, from timm's name; the inverse of `timm_key`.

    An official name comes back as it is, and the `module.` of parallel training goes.
    """
    key = _with_leaf(key.removeprefix("module."), _OFFICIAL_LEAVES)
    if match := re.fullmatch(r"patch_embed\.conv(\d+)\.(.+)", key):
        return f"patch_embed.{(int(match[1]) - 1) * 2}.{match[2]}"
    if match := re.fullmatch(r"stages\.0\.blocks\.(.+)", key):
        return f"blocks1.{match[1]}"
    if match := re.fullmatch(r"stages\.([12])\.downsample\.(res1|patchmerge|res2)\.(.+)", key):
        return f"blocks{int(match[1]) + 1}.{_INDICES[match[2]]}.{match[3]}"
    if match := re.fullmatch(r"stages\.([12])\.blocks\.(\d+)\.(.+)", key):
        return f"blocks{int(match[1]) + 1}.{int(match[2]) + len(_PARTS)}.{match[3]}"
    return key


def _with_leaf(key: str, names: Mapping[str, str]) -> str:
    module, dot, kind = key.rpartition(".")
    path, path_dot, leaf = module.rpartition(".")
    return f"{path}{path_dot}{names.get(leaf, leaf)}{dot}{kind}"


def windows_at(img_size: int) -> tuple[int, ...]:
    """The sides of the attention windows of the three stages, in tokens, for images of `img_size` pixels."""
    return tuple(min(7, -(-img_size // stride)) for stride in (16, 32, 64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A checkpoint without its numbers: the tensors' shapes by official name, and the file's metadata."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]

    @property
    def num_classes(self) -> int | None:
        """Classes of the classifier; None where there is none."""
        shape = self.shapes.get(CLASSIFIER)
        return shape[0] if shape else None

    @property
    def windows(self) -> tuple[int, ...]:
        """The sides of the attention windows that the biases were made for, as `windows_at`."""
        sides = {key.split(".")[0]: shape[-1] for key, shape in self.shapes.items() if key.endswith(BIASES)}
        return tuple(round(tokens**0.5) for _, tokens in sorted(sides.items()))


def safetensors_header(path: Path) -> Header:
    """The header of a safetensors file; raises `ModelUnavailable` for what is none."""
    from safetensors import SafetensorError, safe_open

    require_file(path)
    try:
        with safe_open(path, framework="np") as file:
            names = file.keys()
            shapes = {official_key(name): tuple(file.get_slice(name).get_shape()) for name in names}
            return Header(shapes=shapes, metadata=file.metadata() or {})
    except SafetensorError as error:
        raise damaged(path) from error


def check_windows(header: Header, img_size: int, source: str | Path) -> None:
    """Raise `ModelUnavailable` unless the attention biases were made for images of `img_size` pixels."""
    wanted = windows_at(img_size)
    if header.windows != wanted:
        raise ModelUnavailable(
            f"{source} has attention windows of {_listed(header.windows)} tokens a side; "
            f"{img_size} px need {_listed(wanted)}",
            "pass --img-size: the size it was trained at, or another to resize its attention biases",
        )


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


def require_file(path: Path) -> None:
    """Raise `ModelUnavailable` unless `path` is a readable file with something in it."""
    hint = "--weights takes imagenet, demo, random or a file"
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise ModelUnavailable(f"{path} is empty", hint)
    except OSError as error:
        raise ModelUnavailable(f"{path} cannot be read: {error.strerror or error}", hint) from error


def damaged(path: Path) -> ModelUnavailable:
    """The error for a file that is not a whole checkpoint."""
    return ModelUnavailable(f"{path} is damaged, or not a checkpoint", "download or copy it again")
