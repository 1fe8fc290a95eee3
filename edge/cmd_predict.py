"""`evit-edge predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Json


def predict(
    artifact: Annotated[
        Path, typer.Argument(metavar="ARTIFACT", help="A folder that `convert` wrote, or the .tflite file alone.")
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Pictures in any format that Pillow reads.")],
    runtime: Annotated[str | None, typer.Option(help="The engine; the target's own if not given.")] = None,
    json: Json = False,
) -> None:
    """The five likeliest classes of each picture, from nothing but the artifact."""
    from ..device_bench.predict import classify
    from ..device_bench.standalone import opened
    from . import show

    with opened(artifact) as known:
        answers = classify(known, images, runtime=runtime)
    if json:
        show.json(
            [
                {
                    "image": str(image),
                    "top": [{"label": guess.label, "probability": guess.probability} for guess in top],
                }
                for image, top in answers
            ]
        )
        return
    show.table(
        "",
        ["image", "rank", "class", "probability"],
        [
            [str(image) if rank == 1 else "", str(rank), guess.label, f"{guess.probability:.1%}"]
            for image, top in answers
            for rank, guess in enumerate(top, start=1)
        ],
    )
