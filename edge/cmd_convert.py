"""`evit-edge convert`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..models.errors import EdgeError, Unsupported
from .options import (
    Calibrate,
    CalibrationImages,
    CalibrationMethod,
    Host,
    ImgSize,
    Input,
    Io,
    Ios,
    Json,
    MaxDrop,
    MinInt8Macs,
    Output,
    Precision,
    Quiet,
    Seed,
    Verbose,
    Via,
    Weights,
)

if TYPE_CHECKING:
    from ..converters.artifact import Artifact
    from ..converters.conversion import Conversion
    from ..models.spec import ModelSpec


def convert(
    model: Annotated[str, typer.Argument(help="A name from `evit-edge models`.")],
    target: Annotated[list[str], typer.Option(help="What to write; give it again for another: onnx, tflite, coreml.")],
    precision: Precision = None,
    weights: Weights = None,
    img_size: ImgSize = None,
    num_classes: Annotated[int | None, typer.Option(help="Must be what the weights have.")] = None,
    batch: Annotated[str, typer.Option(help="A fixed batch, or dynamic; Core ML: also 1,4,16 or 1..64.")] = "1",
    opset: Annotated[int | None, typer.Option(help="ONNX operator set, 18 (default) to 23.")] = None,
    host: Host = None,
    via: Via = None,
    io: Io = None,
    input: Input = None,
    output: Output = None,
    ios: Ios = None,
    calibrate: Calibrate = None,
    calibration_images: CalibrationImages = None,
    calibration_method: CalibrationMethod = None,
    min_int8_macs: MinInt8Macs = None,
    max_drop: MaxDrop = None,
    parity_images: Annotated[int, typer.Option(help="Real images that the gate compares.")] = 32,
    out: Annotated[Path, typer.Option(help="Where the artifact's folder goes.")] = Path("artifacts"),
    timeout: Annotated[float, typer.Option(help="Seconds that a converter may take.")] = 900,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Turn a model into a checked artifact: converted in a child process, proven against the original, then written."""
    from ..converters.conversion import options_of, plan

    spec = _find(model, weights=weights, img_size=img_size, num_classes=num_classes, quiet=quiet)
    size, sizes = _batch(batch, target)
    images = _given(calibration_images=calibration_images, calibration_method=calibration_method)
    asked = {"precision": precision, "batch": size, "images": parity_images, "seed": seed, "calibrate": calibrate}
    given = {"opset": opset, "host": host, "via": via, "io": io, "input": input, "output": output, "ios": ios}
    chosen = options_of(target, {**given, "batches": sizes, "min-int8-macs": min_int8_macs, "max-drop": max_drop})
    plans = [plan(spec, name, options=own, **asked, **images) for name, own in chosen.items()]  # type: ignore[arg-type]
    _refuse_idle(images, plans)
    return _report([_make(each, out, timeout_s=timeout, quiet=quiet) for each in plans], as_json=json, verbose=verbose)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _refuse_idle(images: Mapping[str, Any], plans: Sequence[Conversion]) -> None:
    if images and not any(conversion.calibration for conversion in plans):
        raise Unsupported(
            f"--{next(iter(images)).replace('_', '-')} means nothing to "
            f"{', '.join(f'{each.target} {each.precision}' for each in plans)}",
            "leave it out, or add --precision int8",
        )


def _find(name: str, *, quiet: bool, **fields: Any) -> ModelSpec:
    from ..models.download import PROGRESS
    from ..models.spec import ModelRequest, find
    from . import show

    with show.downloading(quiet) as update:
        token = PROGRESS.set(update)
        try:
            return find(ModelRequest(name=name, **fields))
        finally:
            PROGRESS.reset(token)


def _make(conversion: Conversion, out: Path, *, timeout_s: float, quiet: bool) -> Artifact | EdgeError:
    """The artifact, or why there is none: one target's failure does not stop the others."""
    from ..converters.convert import convert as run
    from ..device_bench.gate import engines
    from ..device_bench.session import execute
    from . import show

    try:
        with show.steps(quiet) as step:
            engine, check = engines(conversion)
            return run(
                conversion, out, execute=execute, engine=engine, self_check=check, timeout_s=timeout_s, on_step=step
            )
    except EdgeError as error:
        return error


def _batch(text: str, targets: Sequence[str]) -> tuple[int | None, str | None]:
    """A fixed batch, or the sizes that a dynamic one may have where they were given."""
    from ..converters.conversion import CONVERTERS

    if text == "dynamic":
        return None, None
    if "," in text or ".." in text:
        if not any("batches" in CONVERTERS.load(target).options for target in targets):
            raise Unsupported(f"--batch {text} means nothing to {', '.join(targets)}", "give a number, or dynamic")
        return None, text
    try:
        return int(text), None
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a number nor dynamic", param_hint="--batch") from None


def _report(outcomes: Sequence[Artifact | EdgeError], *, as_json: bool, verbose: bool) -> int:
    """Say what came of each target; returns the exit code of the first failure, or raises it if it is all there is."""
    from . import show

    if len(outcomes) == 1 and isinstance(outcomes[0], EdgeError):
        raise outcomes[0]
    failed = [outcome for outcome in outcomes if isinstance(outcome, EdgeError)]
    done = [outcome for outcome in outcomes if not isinstance(outcome, EdgeError)]
    if as_json:
        made = [{"folder": str(artifact.folder), **show.plain(artifact.manifest)} for artifact in done]
        show.json([*made, *({"error": type(error).__name__, "message": error.message} for error in failed)])
    else:
        for artifact in done:
            _describe(artifact)
    for error in failed:
        show.error(error, verbose=verbose)
    return failed[0].exit_code if failed else 0


def _describe(artifact: Artifact) -> None:
    from ..converters.conversion import CONVERTERS
    from ..converters.parity import at_least, percent
    from ..device_bench.session import called
    from . import show

    manifest = artifact.manifest
    for remark in manifest.notes:
        show.note(remark)
    taken = ", ".join(f"{tensor.name} {_shape(tensor.shape)}" for tensor in manifest.inputs)
    show.line(f"{artifact.folder}")
    show.line(
        f"  {manifest.payload}: {artifact.size_bytes / 2**20:.2f} MiB, "
        f"{manifest.precision_found} found in the file, input {taken}"
    )
    assert manifest.parity is not None  # an artifact without a verdict is never returned
    show.line(f"  compared with the original in: {called(manifest.parity.engine)}")
    for row in manifest.parity.rows:
        show.line(
            f"  parity {row.inputs} ({row.count}): cosine ≥ {at_least(row.cosine)}, "
            f"max |Δ| {row.max_abs:.1e}, top-1 agreement {percent(row.top1)}"
            f"{'' if row.judged else ' (beyond the calibration: not judged)'}"
        )
    for advice in CONVERTERS.load(manifest.target).usage:
        show.line(f"  {advice}")


def _shape(shape: tuple[int | None, ...]) -> str:
    return "×".join("batch" if side is None else str(side) for side in shape)
