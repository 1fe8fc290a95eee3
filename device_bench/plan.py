"""The matrix of artifacts, runtimes, threads and batches on one device, measured in interleaved rounds."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Final

from ..converters.artifact import Artifact
from ..models.errors import UnknownName, Unsupported
from . import turns
from .cooling import await_cool
from .device import Device
from .job import Foreign
from .journal import Header, Journal
from .protocol import EFFORTS, Effort
from .record import Failure
from .result import Parity, Result, Trial
from .schedule import Pass, Turn, least_turns, next_turn
from .session import RUNTIMES, Runtime, default_runtime

TRIAL_TIMEOUT_S: Final = 600.0
COOL_DOWN_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One configuration. `original` says that the artifact only names the model, which itself is what runs."""

    artifact: Artifact
    runtime: str
    original: bool
    threads: int
    batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that is measured in turns on one device, at an effort of `protocol.EFFORTS`.

    `seed` gives the order of the rounds, and noise where it is fed; `command` is what was typed. After the timed turns
    each cell's memory is looked at, its joules with `energy`, and with `sustained_s` its latency under so many seconds
    of load. A device that got hot is waited for, at most `cool_down_s` seconds before a timed turn. With
    `strict_placement` a row fails whose delegate does not run all of the model.
    """

    cells: Sequence[Cell]
    effort: str
    seed: int
    command: Sequence[str]
    energy: bool = False
    sustained_s: float | None = None
    cool_down_s: float = COOL_DOWN_S
    strict_placement: bool = False

    @property
    def passes(self) -> list[Pass]:
        """What each cell does after the timed turns."""
        wanted: list[tuple[Pass, bool]] = [
            ("memory", True),
            ("energy", self.energy),
            ("sustained", self.sustained_s is not None),
        ]
        return [kind for kind, is_wanted in wanted if is_wanted]

    @property
    def digest(self) -> str:
        """Of what is measured and how, in hexadecimal: the same for the same plan, wherever the artifacts lie."""
        cells = [(cell.artifact.digest, cell.runtime, cell.threads, cell.batch) for cell in self.cells]
        known = [cells, self.effort, self.seed, self.energy, self.sustained_s, self.strict_placement]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The process that is about to start for `cell`; `done` are behind it."""

    done: int
    cell: Cell
    turn: Turn

    @property
    def label(self) -> str:
        """For people."""
        what = f"round {self.turn.round + 1}" if self.turn.kind == "time" else self.turn.kind
        return f"{self.cell.artifact.manifest.model.name} in {self.cell.runtime}, {what}"


def cells(
    artifacts: Sequence[Artifact],
    *,
    runtimes: Sequence[str] | None = None,
    threads: Sequence[int] = (1,),
    batches: Sequence[int] = (1,),
    offered: Sequence[str] | None = None,
) -> list[Cell]:
    """Every combination that exists; `runtimes` None is each target's default, or the first of `offered` that opens it.

    `offered` are the runtimes of a device. The original model of several artifacts is one cell. Raises
    `UnknownName` for a runtime, and `Unsupported` for an artifact that none of `runtimes` opens.
    """
    found: dict[tuple[str, str, int, int], Cell] = {}
    for artifact in artifacts:
        names = _runtimes_for(artifact, runtimes, offered)
        for name, thread_count, batch in product(names, threads, batches):
            runtime: Runtime = RUNTIMES.load(name)
            subject = artifact.manifest.model.digest if runtime.original else str(artifact.folder.resolve())
            cell = Cell(artifact=artifact, runtime=name, original=runtime.original, threads=thread_count, batch=batch)
            found.setdefault((subject, name, thread_count, batch), cell)
    return list(found.values())


def least_processes(plan: Plan) -> int:
    """How many processes `run` starts if none fails and no round is added; raises `UnknownName` for an effort."""
    return least_turns(len(plan.cells), effort=_effort(plan.effort), passes=plan.passes)


def begun(plan: Plan, device: Device) -> Header:
    """What a journal of `plan` on `device` begins with."""
    return Header(
        plan_sha256=plan.digest,
        session=uuid.uuid4().hex,
        started=datetime.now(UTC),
        device=device.info(),
    )


def run(
    plan: Plan,
    device: Device,
    *,
    journal: Journal | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
    timeout_s: float = TRIAL_TIMEOUT_S,
    require_wanted: Callable[[], None] = lambda: None,
) -> list[Result]:
    """Measure all cells in turns, each a fresh process, and go on where `journal` ends; results in the order of cells.

    A cell that fails has its reason in its result, and takes no further turn. `timeout_s` bounds one process, beyond
    the time that it was asked to run. Raises `UnknownName` for an effort; `LinkLost` and `DeviceBusy`, which say
    nothing of a cell, with every turn until then in the journal; and whatever `require_wanted` raises, which is asked
    before a turn and after it. An interruption ends the process that runs, and is passed on.
    """
    effort = _effort(plan.effort)
    kept = journal or Journal(begun(plan, device))
    taken = [entry.taken for entry in kept.entries]
    passes = _passes(plan, device)
    while turn := next_turn(taken, cells=len(plan.cells), effort=effort, seed=plan.seed, passes=passes):
        require_wanted()
        on_step(Step(done=len(taken), cell=plan.cells[turn.cell], turn=turn))
        if turn.kind == "time":
            await_cool(kept.entries, device, patience_s=plan.cool_down_s, require_wanted=require_wanted)
        entry = turns.take(turn, plan, device, timeout_s=timeout_s)
        # What was measured while somebody ended it is nothing.
        require_wanted()
        kept.add(entry)
        taken.append(entry.taken)
    return results(plan, kept, device)


def results(plan: Plan, journal: Journal, device: Device, *, failure: Failure | None = None) -> list[Result]:
    """What `journal` says of all cells; with `failure`, of a run that it ended before it was over."""
    foreign = isinstance(device, Foreign)
    found = [_result(index, plan, journal, foreign=foreign) for index in range(len(plan.cells))]
    return [each.model_copy(update={"failure": each.failure or failure}) for each in found]


def _passes(plan: Plan, device: Device) -> list[Pass]:
    """Another machine may compute otherwise than the one that converted, so it is asked for outputs first."""
    return ["parity", *plan.passes] if isinstance(device, Foreign) else plan.passes


def _effort(name: str) -> Effort:
    if name not in EFFORTS:
        raise UnknownName.among("effort", name, EFFORTS)
    return EFFORTS[name]


def _runtimes_for(artifact: Artifact, wanted: Sequence[str] | None, offered: Sequence[str] | None) -> list[str]:
    target = artifact.manifest.target
    if wanted is None:
        usual = default_runtime(target, timed=True)
        there = (name for name in offered or () if RUNTIMES.load(name).opens(target))
        # A device that has none of them says better than this why.
        return [usual if usual in (offered or ()) else next(there, usual)]
    opening = [name for name in wanted if RUNTIMES.load(name).opens(target)]
    if not opening:
        raise Unsupported(
            f"{artifact.folder} is an {target} artifact, and {', '.join(wanted)} does not open it",
            f"try --runtime {default_runtime(target, timed=True)}",
        )
    return opening


def _result(index: int, plan: Plan, journal: Journal, *, foreign: bool) -> Result:
    cell = plan.cells[index]
    entries = [entry for entry in journal.entries if entry.cell == index]
    manifest, own_file = cell.artifact.manifest, not cell.original
    # That of the conversion says nothing of what another machine computes.
    here = Parity.of(manifest.parity) if own_file and manifest.parity and not foreign else None
    return Result(
        session=journal.header.session,
        started=journal.header.started,
        command=tuple(plan.command),
        seed=plan.seed,
        effort=plan.effort,
        device=journal.header.device,
        model=manifest.model.name,
        weights=manifest.model.weights,
        model_digest=manifest.model.digest,
        target=manifest.target if own_file else None,
        precision=manifest.precision if own_file else "fp32",
        artifact_digest=cell.artifact.digest if own_file else None,
        artifact_path=str(cell.artifact.folder.resolve()) if own_file else None,
        size_bytes=cell.artifact.size_bytes if own_file else None,
        parity=next((entry.parity for entry in entries if entry.parity), here),
        runtime=cell.runtime,
        threads=cell.threads,
        batch=cell.batch,
        trials=tuple(
            Trial(round=entry.round, order=entry.order, seconds=entry.seconds, timing=entry.timing)
            for entry in entries
            if entry.timing
        ),
        memory=next((entry.memory for entry in entries if entry.memory), None),
        energy=next((entry.energy for entry in entries if entry.energy), None),
        sustained=next((entry.sustained for entry in entries if entry.sustained), None),
        failure=next((entry.failure for entry in entries if entry.failure), None),
    )
