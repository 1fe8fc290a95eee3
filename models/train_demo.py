"""The recipe of efficientvit_m0_digits.safetensors: EfficientViT-M0 on scikit-learn's handwritten digits.

    python -m evit_edge.models.train_demo [--out FILE]

Takes some ten minutes on two CPU cores. Seeds are fixed, and on one machine the tensors come out the same bit for
bit; another processor adds in another order. The file's bytes differ all the same, in the order of the metadata.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .checkpoints import save
from .efficientvit import CONFIGS, EfficientViT
from .errors import EdgeError
from .sample_images import DIGIT_LABELS, digits
from .spec import Preprocess
from .zoo_efficientvit import DEMO_NAME, DEMO_WEIGHTS

PREPROCESS: Final = Preprocess(size=224, resize=224, interpolation="bilinear")
EPOCHS: Final = 30
BATCH: Final = 48
LEARNING_RATE: Final = 3e-3
WEIGHT_DECAY: Final = 0.05
REQUIRED_TOP1: Final = 0.97
THREADS: Final = 2


def jittered(images: Tensor) -> Tensor:
    """Each image of (n, 3, size, size), in 0…1, turned by up to 12°, scaled by up to 12 % and shifted by up to 10 %."""
    count = len(images)
    angle, zoom, shift_x, shift_y = (torch.rand(4, count) * 2 - 1) * torch.tensor(
        [[math.radians(12)], [0.12], [0.2], [0.2]]
    )
    cosine, sine = (1 + zoom) * angle.cos(), (1 + zoom) * angle.sin()
    rows = [torch.stack([cosine, -sine, shift_x], dim=1), torch.stack([sine, cosine, shift_y], dim=1)]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def normalised(images: Tensor) -> Tensor:
    """(n, 3, size, size) in 0…1, as the model takes it."""
    mean, std = torch.tensor(PREPROCESS.mean), torch.tensor(PREPROCESS.std)
    return (images - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


def batches(pixels: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """One shuffled epoch of uint8 (n, size, size, 3): inputs and classes; the last partial batch is left out."""
    for chosen in torch.randperm(len(pixels)).split(BATCH):
        if len(chosen) == BATCH:
            images = pixels[chosen].permute(0, 3, 1, 2).float() / 255
            yield normalised(jittered(images)), labels[chosen]


@torch.inference_mode()
def top1(model: EfficientViT) -> float:
    """The share of held-out digits that `model` gets right; leaves it in eval mode."""
    pixels, labels = digits("held_out", PREPROCESS)
    model.eval()
    guesses = [model(torch.from_numpy(PREPROCESS.normalise(part))).argmax(1) for part in np.array_split(pixels, 8)]
    return float((torch.cat(guesses).numpy() == labels).mean())


def train() -> EfficientViT:
    """The trained model, float32; prints the held-out top-1 as it goes."""
    torch.manual_seed(0)
    pixels, labels = (torch.from_numpy(array) for array in digits("training", PREPROCESS))
    model = EfficientViT(CONFIGS[DEMO_NAME], num_classes=len(DIGIT_LABELS))
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * (len(pixels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.2)
    start = time.monotonic()
    for epoch in range(1, EPOCHS + 1):
        model.train()
        for images, targets in batches(pixels, labels):
            loss = F.cross_entropy(model(images), targets, label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        seconds = time.monotonic() - start
        print(
            f"epoch {epoch:2d}/{EPOCHS}  loss {loss:.3f}  held-out top-1 {top1(model):.2%}  {seconds:.0f} s", flush=True
        )
    return model


def write(model: EfficientViT, out: Path) -> None:
    """Round `model` to float16, measure that, and save it; raises `EdgeError` where it is not good enough."""
    accuracy = top1(model.half().float())
    if accuracy < REQUIRED_TOP1:
        raise EdgeError(f"held-out top-1 is {accuracy:.2%}, under {REQUIRED_TOP1:.0%}: nothing was written")
    metadata = {
        "model": DEMO_NAME,
        "img_size": str(PREPROCESS.size),
        "resize": str(PREPROCESS.resize),
        "interpolation": PREPROCESS.interpolation,
        "mean": ",".join(map(str, PREPROCESS.mean)),
        "std": ",".join(map(str, PREPROCESS.std)),
        "num_classes": str(len(DIGIT_LABELS)),
        "labels": json.dumps(DIGIT_LABELS),
        "held_out_top1": f"{accuracy:.4f}",
        "licence": "Apache-2.0",
        "data": "Optical Recognition of Handwritten Digits (Alpaydin, Kaynak; UCI, doi 10.24432/C50P49), CC BY 4.0",
    }
    save(model.half(), out, metadata=metadata)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, held-out top-1 {accuracy:.2%}")


def main() -> None:
    """Train, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DEMO_WEIGHTS, metavar="FILE")
    out: Path = parser.parse_args().out
    torch.set_num_threads(THREADS)
    write(train(), out)


if __name__ == "__main__":
    main()
