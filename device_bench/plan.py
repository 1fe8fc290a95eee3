"""The matrix of artifacts, runtimes, threads and batches on one device, measured in interleaved rounds."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from typing import Final

from ..converters.artifact import Artifact
from ..models.errors import EdgeError, UnknownName, Unsupported
from .device import Device, DeviceInfo
from .job import MemoryJob, TimeJob, ask
from .protocol import EFFORTS, Effort, rounds
from .result import Failure, Memory, Parity, Result, Timing, Trial
from .session import RUNTIMES, Runtime, default_runtime

TRIAL_TIMEOUT_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One configuration. `original` says that the artifact only names the model, which itself is what runs."""

    artifact: Artifact
    runtime: str
    original: bool
    threads: int
    batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The process that is about to start: `done` of `total` are behind it."""

    done: int
    total: int
    cell: Cell


@dataclass(slots=True, kw_only=True)
class _Log:
    cell: Cell
    trials: list[Trial] = field(default_factory=list)
    memory: Memory | None = None
    failure: Failure | None = None


def cells(
    artifacts: Sequence[Artifact],
    *,
    runtimes: Sequence[str] | None = None,
    threads: Sequence[int] = (1,),
    batches: Sequence[int] = (1,),
) -> list[Cell]:
    """Every combination that exists; `runtimes` None is each target's default.

    The original model of several artifacts is one cell. Raises `UnknownName` for a runtime, and `Unsupported`
    for an artifact that none of `runtimes` opens.
    """
    found: dict[tuple[str, str, int, int], Cell] = {}
    for artifact in artifacts:
        names = _runtimes_for(artifact, runtimes)
        for name, thread_count, batch in product(names, threads, batches):
            runtime: Runtime = RUNTIMES.load(name)
            subject = artifact.manifest.model.digest if runtime.original else str(artifact.folder.resolve())
            cell = Cell(artifact=artifact, runtime=name, original=runtime.original, threads=thread_count, batch=batch)
            found.setdefault((subject, name, thread_count, batch), cell)
    return list(found.values())


def processes(cells: Sequence[Cell], *, effort: str) -> int:
    """How many processes `run` starts if none fails; raises `UnknownName` for an effort."""
    return len(cells) * (_effort(effort).processes + 1)


def run(
    cells: Sequence[Cell],
    device: Device,
    *,
    effort: str,
    seed: int,
    command: Sequence[str],
    on_step: Callable[[Step], None] = lambda step: None,
    timeout_s: float = TRIAL_TIMEOUT_S,
) -> list[Result]:
    """Measure all cells in turns, each trial a fresh process, then their memory; results in the order of `cells`.

    A cell that fails has its reason in its result, and takes no further turn. `timeout_s` bounds one process.
    Raises `UnknownName` for an effort; an interruption ends the process that runs, and is passed on.
    """
    info, started, session = device.info(), datetime.now(UTC), uuid.uuid4().hex
    logs = [_Log(cell=cell) for cell in cells]
    turns = list(_turns(logs, _effort(effort), seed=seed))
    for done, (log, turn) in enumerate(turns):
        if log.failure:
            continue
        on_step(Step(done=done, total=len(turns), cell=log.cell))
        try:
            _take(log, turn, device, effort=effort, seed=seed, timeout_s=timeout_s)
        except EdgeError as error:
            log.failure = Failure.of(error)
    return [
        _result(log, info, session=session, started=started, effort=effort, seed=seed, command=command) for log in logs
    ]


def _effort(name: str) -> Effort:
    if name not in EFFORTS:
        raise UnknownName.among("effort", name, EFFORTS)
    return EFFORTS[name]


def _runtimes_for(artifact: Artifact, wanted: Sequence[str] | None) -> list[str]:
    target = artifact.manifest.target
    if wanted is None:
        return [default_runtime(target, timed=True)]
    opening = [name for name in wanted if RUNTIMES.load(name).opens(target)]
    if not opening:
        raise Unsupported(
            f"{artifact.folder} is an {target} artifact, and {', '.join(wanted)} does not open it",
            f"try --runtime {default_runtime(target, timed=True)}",
        )
    return opening


def _turns(logs: Sequence[_Log], effort: Effort, *, seed: int) -> Iterator[tuple[_Log, tuple[int, int] | None]]:
    """Whose turn it is: (round, order in the round) of a timed trial, or None for the memory pass."""
    for number, turn in enumerate(rounds(len(logs), count=effort.processes, seed=seed)):
        yield from ((logs[index], (number, order)) for order, index in enumerate(turn))
    yield from ((log, None) for log in logs)


def _take(log: _Log, turn: tuple[int, int] | None, device: Device, *, effort: str, seed: int, timeout_s: float) -> None:
    cell = log.cell
    folder = device.push(cell.artifact.folder)
    if turn is None:
        weigh = MemoryJob(artifact=folder, runtime=cell.runtime, threads=cell.threads, batch=cell.batch, seed=seed)
        log.memory = ask(device, weigh, answer=Memory, timeout_s=timeout_s)
        return
    time = TimeJob(
        artifact=folder,
        runtime=cell.runtime,
        threads=cell.threads,
        batch=cell.batch,
        seed=seed,
        effort=effort,
    )
    timing = ask(device, time, answer=Timing, timeout_s=timeout_s)
    log.trials.append(Trial(round=turn[0], order=turn[1], timing=timing))


def _result(
    log: _Log,
    info: DeviceInfo,
    *,
    session: str,
    started: datetime,
    effort: str,
    seed: int,
    command: Sequence[str],
) -> Result:
    cell, artifact, manifest = log.cell, log.cell.artifact, log.cell.artifact.manifest
    own_file = not cell.original
    return Result(
        session=session,
        started=started,
        command=tuple(command),
        seed=seed,
        effort=effort,
        device=info,
        model=manifest.model.name,
        weights=manifest.model.weights,
        model_digest=manifest.model.digest,
        target=manifest.target if own_file else None,
        precision=manifest.precision if own_file else "fp32",
        artifact_digest=artifact.digest if own_file else None,
        size_bytes=artifact.size_bytes if own_file else None,
        parity=Parity.of(manifest.parity) if own_file and manifest.parity else None,
        runtime=cell.runtime,
        threads=cell.threads,
        batch=cell.batch,
        trials=tuple(log.trials),
        memory=log.memory,
        failure=log.failure,
    )
