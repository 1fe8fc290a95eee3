"""`evit-edge models`."""

from __future__ import annotations

from .options import Json, Quiet


def models(json: Json = False, quiet: Quiet = False) -> None:
    """The zoo: parameters, MACs, published accuracy, input and weights."""
    from dataclasses import asdict

    from ..models import spec
    from ..models.figures import figures
    from . import show

    names = spec.names()
    with show.counting(quiet, len(names)) as advance:
        found = []
        for name in names:
            advance(name)
            found.append(figures(name))
    if json:
        show.json([asdict(figure) for figure in found])
        return
    show.table(
        "",
        ["model", "parameters M", "MACs M", "ImageNet top-1 %", "input", "weights"],
        [
            [
                figure.name,
                f"{figure.parameters / 1e6:.2f}",
                f"{figure.macs / 1e6:.1f}",
                "—" if figure.published_top1 is None else f"{figure.published_top1:.1f}",
                "×".join(map(str, figure.input_shape)),
                ", ".join([*figure.weights, "FILE"]),
            ]
            for figure in found
        ],
        footer="Parameters and MACs are counted here, at the default input; top-1 is the authors' own, for the "
        "weights `imagenet` (a download).",
    )
