"""Timings of which the truth is known, and the recording of 200 processes that all ran the same model."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Places = NDArray[np.int64]
"""When each configuration ran, as numbers of processes: (configurations, rounds)."""

RECORDING = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "aa_ort_200procs.jsonl.gz"
WARM_UP = 15
SAMPLES = 75
TYPICAL_NS = 1e6
REPETITIONS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """How a machine disturbs what runs on it.

    `between` is the standard deviation of the processes' levels, as a share; each level resembles that of the process
    before with correlation `memory`. A share of `slowed` processes takes 10 to 40 % longer throughout, and a share of
    `contaminated` samples two to several times as long, with a tail that has no variance.
    """

    name: str
    between: float
    memory: float
    slowed: float = 0.0
    contaminated: float = 0.26

    def processes(self, count: int, *, sessions: int, rng: np.random.Generator) -> Array:
        """Medians of nanoseconds of processes that ran one after the other: (sessions, count)."""
        steps = rng.normal(0, self.between, (sessions, count))
        levels = steps.copy()
        for turn in range(1, count):
            levels[:, turn] = self.memory * levels[:, turn - 1] + np.sqrt(1 - self.memory**2) * steps[:, turn]
        slowed = rng.random(levels.shape) < self.slowed
        levels += np.log1p(slowed * rng.uniform(0.1, 0.4, levels.shape))
        medians: Array = np.median(self.samples(TYPICAL_NS * np.exp(levels), rng=rng), axis=-1)
        return medians

    def samples(self, levels: Array, *, rng: np.random.Generator) -> Array:
        """Nanoseconds of single samples of processes of these levels: (…, SAMPLES)."""
        shape = (*levels.shape, SAMPLES)
        quiet = 1 + rng.exponential(0.03, shape)
        disturbed = rng.random(shape) < self.contaminated
        samples: Array = levels[..., None] * np.where(disturbed, quiet * (2 + rng.pareto(1.5, shape)), quiet)
        return samples


@cache
def true_median(machine: Machine) -> float:
    """Of the machine's processes, to a thousandth of their spread or so."""
    sessions = machine.processes(1, sessions=40_000, rng=np.random.default_rng(99))
    return float(np.median(sessions))


@cache
def recording() -> Array:
    """Nanoseconds of single samples, in the order they ran: (200, SAMPLES)."""
    with gzip.open(RECORDING, "rt") as lines:
        runs: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return np.asarray([run["ns"][WARM_UP:] for run in runs], np.float64)


def medians() -> Array:
    return np.asarray(np.median(recording(), axis=1))


def minima() -> Array:
    return np.asarray(recording().min(axis=1))


def turns(rounds: int, *, slots: int, rng: np.random.Generator) -> Places:
    """Of `slots` configurations in rounds of random order."""
    places = rng.permuted(np.tile(np.arange(slots), (rounds, 1)), axis=1)
    return np.transpose(places + slots * np.arange(rounds)[:, None])


def spread_over_the_session(values: Array, rounds: int, rng: np.random.Generator) -> Array:
    """One configuration's processes where as many others take turns as fill the whole recording: (rounds,)."""
    edges = np.linspace(0, len(values), rounds + 1).astype(int)
    return np.asarray(values[rng.integers(edges[:-1], edges[1:])])


def part(total: int, rounds: int, *, slots: int, rng: np.random.Generator) -> Places:
    """Configurations that take turns in some part of a session of `total` processes."""
    return rng.integers(0, total - rounds * slots + 1) + turns(rounds, slots=slots, rng=rng)


def parts(values: Array, rounds: int, *, slots: int, seed: int) -> list[tuple[Array, Places]]:
    """Configurations that took turns in parts of a session, and when they did."""
    rng = np.random.default_rng(seed)
    return [(values, part(len(values), rounds, slots=slots, rng=rng)) for _ in range(REPETITIONS)]


@cache
def made_up(machine: Machine, rounds: int, *, slots: int) -> list[tuple[Array, Places]]:
    """Sessions of a machine, in which configurations took turns."""
    rng = np.random.default_rng([rounds, slots])
    sessions = machine.processes(rounds * slots, sessions=REPETITIONS, rng=rng)
    return [(session, turns(rounds, slots=slots, rng=rng)) for session in sessions]
