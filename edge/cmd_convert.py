"""`evit-edge convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Json, Quiet, Seed, Verbose

if TYPE_CHECKING:
    from ..converters.artifact import Artifact
    from ..models.errors import EdgeError


def convert(
    model: Annotated[str, typer.Argument(help="A name from `evit-edge models`.")],
    target: Annotated[list[str], typer.Option(help="What to write; give it again for another: onnx.")],
    precision: Annotated[str | None, typer.Option(help="fp32 (default) or fp16.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="imagenet (default, downloaded), demo, random, or a checkpoint file.")
    ] = None,
    img_size: Annotated[
        int | None, typer.Option(help="Side of the input in pixels; 224, or what the weights say.")
    ] = None,
    num_classes: Annotated[int | None, typer.Option(help="Must be what the weights have.")] = None,
    batch: Annotated[str, typer.Option(help="A fixed batch, or dynamic.")] = "1",
    opset: Annotated[int | None, typer.Option(help="ONNX operator set, 18 (default) to 23.")] = None,
    parity_images: Annotated[int, typer.Option(help="Real images that the gate compares.")] = 32,
    out: Annotated[Path, typer.Option(help="Where the artifact's folder goes.")] = Path("artifacts"),
    timeout: Annotated[float, typer.Option(help="Seconds that a converter may take.")] = 900,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Turn a model into a checked artifact: converted in a child process, proven against the original, then written."""
    from ..converters.convert import convert as run
    from ..converters.convert import plan
    from ..device_bench.session import default_runtime, execute
    from ..models.download import PROGRESS
    from ..models.errors import EdgeError
    from ..models.spec import ModelRequest, find
    from . import show

    with show.downloading(quiet) as update:
        token = PROGRESS.set(update)
        spec = find(ModelRequest(name=model, weights=weights, img_size=img_size, num_classes=num_classes))
        PROGRESS.reset(token)
    options: dict[str, Any] = {} if opset is None else {"opset": opset}
    plans = [
        plan(
            spec,
            name,
            precision=precision,
            batch=_batch(batch),
            images=parity_images,
            seed=seed,
            options=options,
        )
        for name in dict.fromkeys(target)
    ]
    done: list[Artifact] = []
    failed: list[tuple[str, EdgeError]] = []
    for conversion in plans:
        try:
            with show.steps(quiet) as step:
                engine = default_runtime(conversion.target)
                artifact = run(conversion, out, execute=execute, engine=engine, timeout_s=timeout, on_step=step)
            done.append(artifact)
        except EdgeError as error:
            if len(plans) == 1:
                raise
            failed.append((conversion.folder_name, error))
            show.error(error, verbose=verbose)
    _report(done, failed, as_json=json)
    return failed[0][1].exit_code if failed else 0


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a number nor dynamic", param_hint="--batch") from None


def _report(done: list[Artifact], failed: list[tuple[str, EdgeError]], *, as_json: bool) -> None:
    from . import show

    if as_json:
        show.json(
            [{"folder": str(artifact.folder), **show.plain(artifact.manifest)} for artifact in done]
            + [{"name": name, "error": type(error).__name__, "message": error.message} for name, error in failed]
        )
        return
    for artifact in done:
        manifest = artifact.manifest
        taken = ", ".join(f"{tensor.name} {_shape(tensor.shape)}" for tensor in manifest.inputs)
        show.line(f"{artifact.folder}")
        show.line(
            f"  {manifest.payload}: {artifact.size_bytes / 2**20:.2f} MiB, "
            f"{manifest.precision_found} found in the file, input {taken}"
        )
        assert manifest.parity is not None  # an artifact without a verdict is never returned
        for row in manifest.parity.rows:
            show.line(
                f"  parity {row.inputs} ({row.count}): cosine ≥ {_floor(row.cosine)}, max |Δ| {row.max_abs:.1e}, "
                f"top-1 agreement {row.top1:.1%}"
            )


def _shape(shape: tuple[int | None, ...]) -> str:
    return "×".join("batch" if side is None else str(side) for side in shape)


def _floor(cosine: float) -> str:
    # 0.9999996 must not be printed as 1: it is a bound from below.
    return f"{int(cosine * 1e7) / 1e7:.7f}"
