"""A run file carried out in a folder of its own: models are converted, then everything is measured on every device.

All of it can be stopped at any point: what was converted and measured by then is not done again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ..converters.artifact import Artifact, ModelRecord, Precision
from ..converters.artifact import read as read_artifact
from ..converters.conversion import CONVERTERS, Conversion, Converter, plan
from ..converters.convert import convert
from ..models.errors import EdgeError, Unsupported
from ..models.spec import ModelRequest, ModelSpec, find
from . import energy, journal
from .device import Device, connect
from .gate import engines
from .plan import Plan, Step, begun, cells, run
from .record import Failure
from .result import Result
from .runfile import ModelTable, Read
from .session import RUNTIMES, default_runtime, execute


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
    devices = []
    for place, address in enumerate(says.devices):
        with source.at("devices", place):
            devices.append(connect(address))
    for address in says.devices if says.energy else ():
        with source.at("energy"):
            energy.require(address)
    conversions = [each for place, table in enumerate(says.model) for each in _conversions(source, place, table)]
    return Checked(source=source, conversions=conversions, artifacts=artifacts, devices=devices)


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


def planned(checked: Checked, artifacts: Sequence[Artifact], *, command: Sequence[str]) -> Plan:
    """What is measured on each of the devices; raises `Unsupported` for an artifact that none of the runtimes opens."""
    says = checked.source.says
    with checked.source.at("runtimes"):
        wanted = cells(artifacts, runtimes=says.runtimes, threads=says.threads, batches=says.batches)
    return Plan(
        cells=wanted,
        effort=says.effort,
        seed=says.seed,
        command=command,
        energy=says.energy,
        sustained_s=says.sustained_s,
    )


def measured(
    wanted: Plan, devices: Sequence[Device], out: Path, *, on_step: Callable[[Step], None] = lambda step: None
) -> list[Result]:
    """The results on all devices, one after another, each going on where its journal in `out` ends."""
    found = []
    for place, device in enumerate(devices):
        with closing(journal.opened(out / f"trials-{place}.jsonl", begun(wanted, device))) as kept:
            found += run(wanted, device, journal=kept, on_step=on_step)
    return found


def rows_of(unmade: Sequence[Unmade], like: Result | None, wanted: Plan, device: Device) -> list[Result]:
    """A result with its reason for each conversion that failed, in the session of `like` if anything was measured."""
    start = like or begun(wanted, device)
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
