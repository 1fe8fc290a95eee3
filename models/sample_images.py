"""Real images that every installation has, out of scikit-learn: handwritten digits and two photographs.

The digits are part of "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, 1998, UCI Machine
Learning Repository, https://doi.org/10.24432/C50P49, CC BY 4.0): 1,797 images of 8×8 pixels in 17 greys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from .errors import Unsupported
from .spec import Preprocess

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Part = Literal["held_out", "training"]

DIGIT_LABELS: Final = tuple("0123456789")
HELD_OUT_EVERY: Final = 5
DARKEST: Final = 16


def digits(part: Part, preprocess: Preprocess) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The digits of one part, uint8 (n, size, size, 3), and their classes, int64 (n,).

    Held out is every fifth image of each class, in the data set's order: the split needs no random generator,
    so it is the same for every version of every library. The same writers are in both parts: an accuracy on the
    held-out one says nothing about other hands.
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    nth_of_class = np.zeros(len(data.target), dtype=np.int64)
    for label in np.unique(data.target):
        members = data.target == label
        nth_of_class[members] = np.arange(members.sum())
    chosen = (nth_of_class % HELD_OUT_EVERY == 0) == (part == "held_out")
    greys = np.round(data.images[chosen] * (255 / DARKEST)).astype(np.uint8)
    pixels = np.stack([preprocess.pixels(Image.fromarray(grey)) for grey in greys])
    return pixels, data.target[chosen].astype(np.int64)


def sample_digits(count: int, preprocess: Preprocess, *, part: Part = "held_out") -> NDArray[np.uint8]:
    """The first `count` digits of a part, uint8 (count, size, size, 3); raises `Unsupported` if there are fewer."""
    pixels, _ = digits(part, preprocess)
    if count > len(pixels):
        words = part.replace("_", "-")
        raise Unsupported(f"there are {len(pixels)} {words} digits, not {count}", "ask for fewer images")
    return pixels[:count]


def sample_photographs(count: int, preprocess: Preprocess, *, part: Part = "held_out") -> NDArray[np.uint8]:
    """`count` crops of scikit-learn's two photographs, uint8 (count, size, size, 3), others for each part.

    Crop k is the same whatever `count` is: an area of 10 to 100 %, a ratio of 3:4 to 4:3, anywhere.
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(array) for array in load_sample_images().images]
    crops = []
    for index in range(count):
        photograph = photographs[index % len(photographs)]
        rng = np.random.default_rng(index if part == "held_out" else [index, 1])
        area, ratio = rng.uniform(0.1, 1.0), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        side = (photograph.width * photograph.height * area) ** 0.5
        width = min(photograph.width, round(side * ratio**0.5))
        height = min(photograph.height, round(side / ratio**0.5))
        left = int(rng.integers(photograph.width - width + 1))
        top = int(rng.integers(photograph.height - height + 1))
        crops.append(preprocess.pixels(photograph.crop((left, top, left + width, top + height))))
    return np.stack(crops)
