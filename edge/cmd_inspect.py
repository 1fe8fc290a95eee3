"""`evit-edge inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Json

if TYPE_CHECKING:
    from ..converters.artifact import TensorRecord
    from ..converters.inspection import Inspected, Inspection


def inspect(
    artifacts: Annotated[
        list[Path],
        typer.Argument(metavar="ARTIFACT…", help="Folders that `convert` wrote, or .onnx and .tflite files of anyone."),
    ],
    layers: Annotated[str, typer.Option(help="How many layers to list, the largest first; or all.")] = "10",
    json: Json = False,
) -> int:
    """What converted files really hold: operators, dtypes, multiplications by precision, and the layers by size."""
    from ..converters.inspection import is_met, look
    from ..models.errors import PrecisionNotMet
    from . import show

    count = _count(layers)
    found = [look(path) for path in artifacts]
    if json:
        show.json([_plain(each) for each in found])
    else:
        for each in found:
            _print(each, count)
    differing = [each for each in found if each.asked and not is_met(each.asked, each.inspection.precision)]
    for each in differing:
        show.error(
            PrecisionNotMet(f"{each.payload}: asked for {each.asked}, the file holds {each.inspection.precision}")
        )
    return PrecisionNotMet.exit_code if differing else 0


def _count(text: str) -> int | None:
    """None for all."""
    if text == "all":
        return None
    if not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is neither a number nor all", param_hint="--layers")
    return int(text)


def _plain(found: Inspected) -> dict[str, Any]:
    from dataclasses import asdict

    from . import show

    inspection = found.inspection
    return {
        "file": str(found.payload),
        "size_bytes": found.size_bytes,
        "target": found.target,
        "precision_asked": found.asked,
        "precision_found": inspection.precision,
        "inputs": [show.plain(tensor) for tensor in inspection.inputs],
        "outputs": [show.plain(tensor) for tensor in inspection.outputs],
        "operators": dict(inspection.operators),
        "macs": inspection.macs,
        "weight_bytes": inspection.weight_bytes,
        "shares": [asdict(share) for share in inspection.shares],
        "layers": [asdict(layer) for layer in inspection.layers],
    }


def _print(found: Inspected, count: int | None) -> None:
    from . import show

    inspection = found.inspection
    asked = f" ({found.asked} asked for)" if found.asked else ""
    show.line(f"{found.payload}: {found.size_bytes / 2**20:.2f} MiB, {inspection.precision} found in the file{asked}")
    for side, tensors in (("input", inspection.inputs), ("output", inspection.outputs)):
        for tensor in tensors:
            show.line(f"  {side} {_described(tensor)}")
    operators = sorted(inspection.operators.items(), key=lambda item: (-item[1], item[0]))
    show.table("", ["operator", "count"], [[name, str(times)] for name, times in operators])
    if inspection.layers:
        _print_shares(inspection)
    if inspection.layers and count != 0:
        _print_layers(inspection, count)


def _described(tensor: TensorRecord) -> str:
    words = [tensor.name, "×".join("batch" if side is None else str(side) for side in tensor.shape), tensor.dtype]
    if len(tensor.shape) == 4:
        words.append(tensor.layout)
    if tensor.quantization is not None:
        words.append(f"scale {tensor.quantization.scale:.6g}, zero point {tensor.quantization.zero_point}")
    return " ".join(words)


def _print_shares(inspection: Inspection) -> None:
    from . import show

    columns = ["arithmetic", "weights", "layers", "MACs", "of all MACs", "weight bytes", "of all bytes"]
    rows = [
        [
            share.arithmetic,
            share.weight_dtype or "—",
            str(share.layers),
            f"{share.macs:,}",
            _percent(share.macs, inspection.macs),
            f"{share.weight_bytes:,}",
            _percent(share.weight_bytes, inspection.weight_bytes),
        ]
        for share in inspection.shares
    ]
    footer = "MACs at batch 1."
    if any(not share.weight_dtype for share in inspection.shares):
        footer += " Weights —: products of two activations."
    show.table("", columns, rows, footer=footer)


def _print_layers(inspection: Inspection, count: int | None) -> None:
    from . import show

    largest = sorted(inspection.layers, key=lambda layer: -layer.weight_bytes)[:count]
    columns = ["layer", "operator", "arithmetic", "weights", "number", "bytes", "of all bytes", "MACs", "of all MACs"]
    rows = [
        [
            layer.name,
            layer.kind,
            layer.arithmetic,
            layer.weight_dtype or "—",
            f"{layer.weights:,}" if layer.weights else "—",
            f"{layer.weight_bytes:,}",
            _percent(layer.weight_bytes, inspection.weight_bytes),
            f"{layer.macs:,}" if layer.macs else "—",
            _percent(layer.macs, inspection.macs),
        ]
        for layer in largest
    ]
    footer = f"{len(largest)} of {len(inspection.layers)} layers, those with the most bytes of weights."
    if any(not layer.macs for layer in largest):
        footer += " MACs —: the file does not tell the shapes."
    show.table("", columns, rows, footer=footer)


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "—"
