"""A run file carried out in a folder of its own: models are converted, then everything is measured on every device.

All of it can be stopped at any point: what was converted and measured by then is not done again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..converters.artifact import Artifact, ModelRecord, Precision
from ..converters.artifact import read as read_artifact
from ..converters.conversion import CONVERTERS, Conversion, Converter, plan
from ..converters.convert import convert
from ..models.errors import EdgeError, Unsupported
from ..models.spec import ModelRequest, ModelSpec, find
from . import energy, several
from .device import Device, connect
from .gate import engines
from .plan import Cell, Plan, begun, cells
from .record import Failure
from .result import Result
from .runfile import ModelTable, Read
from .session import RUNTIMES, default_runtime, execute
from .several import Lot


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmade:
    """A conversion that cannot be, and why."""

    spec: ModelSpec
    target: str
    precision: Precision
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A run file in which everything that can be known before measuring is known to be right."""

    source: Read
    conversions: Sequence[Conversion | Unmade]
    artifacts: Sequence[Artifact]
    devices: Sequence[Device]


def check(source: Read) -> Checked:
    """Find every model and artifact, reach every device, name every runtime; an error says line and column."""
    says = source.says
    for place, name in enumerate(says.runtimes or ()):
        with source.at("runtimes", place):
            RUNTIMES.load(name)
    artifacts = []
    for place, table in enumerate(says.artifact):
        with source.at("artifact", place, "path"):
            artifacts.append(read_artifact(source.beside(table.path)))
    for address in says.devices if says.energy else ():
        with source.at("energy"):
            energy.require(address)
    devices = _connected(source)
    conversions = [each for place, table in enumerate(says.model) for each in _conversions(source, place, table)]
    return Checked(source=source, conversions=conversions, artifacts=artifacts, devices=devices)


def _connected(source: Read) -> list[Device]:
    """All devices, called at the same time, since each may take seconds; the error of the first that fails."""
    addresses = source.says.devices
    with ThreadPoolExecutor(max_workers=len(addresses)) as pool:
        calls = [pool.submit(connect, address) for address in addresses]
    devices = []
    for place, call in enumerate(calls):
        with source.at("devices", place):
            devices.append(call.result())
    return devices


def _conversions(source: Read, place: int, table: ModelTable) -> list[Conversion | Unmade]:
    with source.at("model", place, "name"):
        spec = find(
            ModelRequest(name=table.name, weights=table.weights, img_size=table.img_size, num_classes=table.num_classes)
        )
    found: list[Conversion | Unmade] = []
    for target in table.targets:
        with source.at("model", place, "targets"):
            converter: Converter = CONVERTERS.load(target)
        for precision in table.precisions or (converter.default_precision,):
            with source.at("model", place, "precisions"):
                found.append(_conversion(source, table, spec, target=target, precision=precision))
    if not any(isinstance(each, Conversion) for each in found):
        with source.at("model", place):
            raise next(each.failure for each in found if isinstance(each, Unmade)).error()
    return found


def _conversion(
    source: Read, table: ModelTable, spec: ModelSpec, *, target: str, precision: Precision
) -> Conversion | Unmade:
    try:
        return plan(
            spec,
            target,
            precision=precision,
            batch=None if table.batch == "dynamic" else table.batch,
            images=table.parity_images,
            seed=source.says.seed,
            options=table.options,
            calibrate=source.beside(table.calibrate) if table.calibrate else None,
            calibration_images=table.calibration_images,
            calibration_method=table.calibration_method,
        )
    except Unsupported as error:
        return Unmade(spec=spec, target=target, precision=precision, failure=Failure.of(error))


def made(
    checked: Checked, out: Path, *, on_step: Callable[[str], None] = lambda step: None
) -> tuple[list[Artifact], list[Unmade]]:
    """The artifacts of the run, converted into `out`/artifacts where they are not there yet, and what cannot be."""
    artifacts, unmade = list(checked.artifacts), list[Unmade]()
    for each in checked.conversions:
        if isinstance(each, Unmade):
            unmade.append(each)
            continue
        on_step(f"converting {each.folder_name}")
        try:
            engine, self_check = engines(each)
            artifacts.append(
                convert(
                    each,
                    out / "artifacts",
                    execute=execute,
                    engine=engine,
                    self_check=self_check,
                    timeout_s=checked.source.says.timeout_s,
                )
            )
        except EdgeError as error:
            failure = Failure.of(error)
            unmade.append(Unmade(spec=each.spec, target=each.target, precision=each.precision, failure=failure))
    return artifacts, unmade


def lots(checked: Checked, artifacts: Sequence[Artifact], out: Path, *, command: Sequence[str]) -> list[Lot]:
    """What is measured on each of the devices, with journals in `out`; raises `Unsupported` for what none measures."""
    says = checked.source.says
    with checked.source.at("runtimes"):
        # Of all of them, wherever they are.
        cells(artifacts, runtimes=says.runtimes)
    return [
        Lot(
            plan=Plan(
                cells=_cells(checked, artifacts, place),
                effort=says.effort,
                seed=says.seed,
                command=command,
                energy=says.energy,
                sustained_s=says.sustained_s,
                cool_down_s=says.cool_down_s,
                strict_placement=says.strict_placement,
            ),
            device=device,
            address=says.devices[place],
            kept=out / f"trials-{place}.jsonl",
        )
        for place, device in enumerate(checked.devices)
    ]


def _cells(checked: Checked, artifacts: Sequence[Artifact], place: int) -> list[Cell]:
    """All combinations that one of the devices has; an artifact that no named runtime opens there is left out."""
    says, there = checked.source.says, several.offered(checked.devices[place])
    names = says.runtimes and [name for name in says.runtimes if name in there]
    fitting = [
        artifact
        for artifact in artifacts
        if names is None or any(RUNTIMES.load(name).opens(artifact.manifest.target) for name in names)
    ]
    with checked.source.at("devices", place):
        if artifacts and not fitting:
            raise Unsupported(
                f"{says.devices[place]} has none of the runtimes that are asked for", f"it has {', '.join(there)}"
            )
        return cells(fitting, runtimes=names, threads=says.threads, batches=says.batches, offered=there)


def rows_of(unmade: Sequence[Unmade], like: Result | None, lot: Lot) -> list[Result]:
    """A result with its reason for each conversion that failed, in the session of `like` if anything was measured."""
    wanted = lot.plan
    start = like or begun(wanted, lot.device)
    return [
        Result(
            session=start.session,
            started=start.started,
            command=tuple(wanted.command),
            seed=wanted.seed,
            effort=wanted.effort,
            device=start.device,
            model=record.name,
            weights=record.weights,
            model_digest=record.digest,
            target=each.target,
            precision=each.precision,
            artifact_digest=None,
            size_bytes=None,
            parity=None,
            runtime=default_runtime(each.target),
            threads=1,
            batch=1,
            trials=(),
            memory=None,
            failure=each.failure,
        )
        for each in unmade
        for record in (ModelRecord.of(each.spec),)
    ]
