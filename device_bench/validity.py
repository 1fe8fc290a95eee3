"""Whether a result can be relied on, and if not, why. Pure: a record in; what it does not tell gives no reason.

SEMI: true, but less sharp than it should be; it is ranked, with its mark. INVALID: says something about the machine
rather than the model, and is not ranked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Final, Literal

from .protocol import EFFORTS
from .record import Conditions, Timing
from .result import Result
from .statistics import drift, latency, spread

Level = Literal["VALID", "SEMI", "INVALID"]
Doubt = Literal["SEMI", "INVALID"]
Code = Literal[
    "FAILED", "WRONG_DTYPE", "FALLBACK", "TOO_FEW", "NOISY", "WIDE",
    "DRIFT", "WARM_UP", "DISTURBED", "LOAD", "THERMAL", "FREQ", "EMULATED", "FAKED", "SUMMARY",
]  # fmt: skip

# Where each of these comes from: docs/validity.md.
NOISY: Final = (0.03, 0.10)
DISTURBED: Final = (0.05, 0.25)
WAITED: Final = 1.05
ENOUGH_PROCESSES: Final = 6
FEWEST_PROCESSES: Final = 3
SOME: Final = 0.1
WORTH: Final = 0.9
HALF: Final = 0.5
STOLEN: Final = NOISY
LOAD_MARGIN: Final = 0.5
WARMED_C: Final = 3.0
SLOW_CLOCK: Final = 0.95
SLOW_PROBE: Final = 1.10
THROTTLE_BITS: Final = ("under-voltage", "clock capped", "throttled", "soft temperature limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that speaks against a result; `detail` says it in words, with the figure."""

    code: Code
    level: Doubt
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """The worst level of the reasons, VALID without any."""

    level: Level
    reasons: tuple[Reason, ...]


def judge(result: Result) -> Validity:
    """The level of `result`, with every reason that its record gives."""
    reasons = tuple(reason for rule in _RULES if (reason := rule(result)))
    levels = {reason.level for reason in reasons}
    return Validity(level="INVALID" if "INVALID" in levels else "SEMI" if levels else "VALID", reasons=reasons)


def disturbed(result: Result, timing: Timing) -> tuple[bool, ...] | None:
    """Of each of the samples, whether the CPU was taken away during it; None if the record does not tell.

    CPU time says nothing of several threads, nor of Core ML, which may wait for a GPU or the Neural Engine.
    """
    tells = result.threads == 1 and result.target != "coreml"
    return lost_cpu(timing.samples_ns, cpu_ns=timing.cpu_ns if tells else None, switches=timing.switches)


def lost_cpu(
    wall_ns: Sequence[int], *, cpu_ns: Sequence[int] | None, switches: Sequence[int] | None
) -> tuple[bool, ...] | None:
    """Whether there was an involuntary context switch, or the call took over 1.05 of its CPU time; None: unknown."""
    if not cpu_ns and not switches:
        return None
    waited = (wall > WAITED * cpu for wall, cpu in zip(wall_ns, cpu_ns or wall_ns, strict=True))
    switched = (count > 0 for count in switches or [0] * len(wall_ns))
    return tuple(any(both) for both in zip(waited, switched, strict=True))


def _failed(result: Result) -> Reason | None:
    return Reason(code="FAILED", level="INVALID", detail=result.failure.message) if result.failure else None


def _wrong_dtype(result: Result) -> Reason | None:
    fed = {trial.timing.input_dtypes for trial in result.trials if trial.timing.input_dtypes}
    if len(fed) > 1:
        detail = f"not all processes were fed the same dtypes: {' or '.join(', '.join(each) for each in sorted(fed))}"
        return Reason(code="WRONG_DTYPE", level="INVALID", detail=detail)
    # No model of ours has such an input: NumPy makes it where nobody asked for a dtype, and the engine converts it.
    if any("float64" in each for each in fed):
        return Reason(code="WRONG_DTYPE", level="INVALID", detail="the engine was fed float64")
    return None


def _fallback(result: Result) -> Reason | None:
    wanted = [trial.timing.placement for trial in result.trials if trial.timing.placement]
    asked = [each for each in wanted if each.delegate and each.nodes]
    if untold := next((each for each in asked if each.nodes_taken is None), None):
        parts = f" in {untold.partitions} partitions" if untold.partitions else ""
        return Reason(
            code="FALLBACK", level="SEMI", detail=f"{untold.delegate} runs an unknown share of the nodes{parts}"
        )
    shares = [(each.nodes_taken / each.nodes, each) for each in asked if each.nodes_taken is not None]
    if not shares:
        return None
    share, worst = min(shares, key=lambda pair: pair[0])
    detail = f"{worst.delegate} runs {worst.nodes_taken} of {worst.nodes} nodes"
    if share == 0:
        return Reason(code="FALLBACK", level="INVALID", detail=detail)
    return Reason(code="FALLBACK", level="SEMI", detail=detail) if share < HALF else None


def _too_few(result: Result) -> Reason | None:
    count = len(result.trials)
    if count >= ENOUGH_PROCESSES:
        return None
    detail = f"{count} processes: {ENOUGH_PROCESSES} are the fewest with a 95 % interval"
    return Reason(code="TOO_FEW", level="SEMI" if count >= FEWEST_PROCESSES else "INVALID", detail=detail)


def _noisy(result: Result) -> Reason | None:
    found = spread(_processes(result))
    if found is None or found.variation is None:
        return None
    detail = f"the processes' medians differ by {found.variation:.1%} (standard deviation)"
    return _graded("NOISY", found.variation, bounds=NOISY, detail=detail)


def _wide(result: Result) -> Reason | None:
    effort, found = EFFORTS.get(result.effort), latency(_processes(result))
    if effort is None or found is None or found.interval_ns is None:
        return None
    low, high, coverage = found.interval_ns.low, found.interval_ns.high, found.interval_ns.coverage
    width = (high - low) / (high + low)
    if width > effort.half_width:
        detail = f"the interval reaches ±{width:.1%}, and {effort.name} aims at ±{effort.half_width:.0%}"
        return Reason(code="WIDE", level="SEMI", detail=detail)
    if coverage < WORTH:
        detail = f"the interval is worth {coverage:.0%}: processes resembled those before them, and are too few"
        return Reason(code="WIDE", level="SEMI", detail=detail)
    return None


def _drift(result: Result) -> Reason | None:
    found = drift([median(samples) for samples in _processes(result)])
    if not found.significant:
        return None
    return Reason(code="DRIFT", level="SEMI", detail=f"latency changed by {found.change:+.1%} during the session")


def _warm_up(result: Result) -> Reason | None:
    cold = [trial.timing.warm_up_converged is False for trial in result.trials]
    return _in_processes("WARM_UP", cold, what="warm-up did not settle")


def _disturbed(result: Result) -> Reason | None:
    found = [disturbed(result, trial.timing) for trial in result.trials]
    samples = [sample for each in found if each is not None for sample in each]
    if not samples:
        return None
    share = mean(samples)
    return _graded("DISTURBED", share, bounds=DISTURBED, detail=f"{share:.1%} of the samples lost their CPU for a time")


def _load(result: Result) -> Reason | None:
    stolen = _stolen_share(result)
    detail = f"the hypervisor gave {stolen:.1%} of the CPU time to others"
    if reason := _graded("LOAD", stolen, bounds=STOLEN, detail=detail):
        return reason
    cpus = result.device.logical_cpus
    # A minute's average holds the session's own trials, and half of the CPUs can be busy without being in the way.
    limit = max(result.threads, cpus / 2) + LOAD_MARGIN
    loads = [each.load_average for each in _before(result) if each.load_average is not None]
    # What ran before the measurement is still in the first ones.
    if not loads or median(loads) <= limit:
        return None
    detail = f"load average {median(loads):.1f}, of which {limit:.1f} would do no harm on {cpus} CPUs"
    return Reason(code="LOAD", level="SEMI", detail=detail)


def _stolen_share(result: Result) -> float:
    stolen_s, wanted_s = 0.0, 0.0
    for timing in _timings(result):
        start, end = (each.stolen_s if each else None for each in (timing.before, timing.after))
        if start is not None and end is not None:
            took_ns = timing.load_ns + timing.first_ns + sum(timing.warm_up_ns) + sum(timing.samples_ns)
            stolen_s += end - start
            wanted_s += took_ns * 1e-9 * result.threads
    return stolen_s / wanted_s if wanted_s else 0.0


def _thermal(result: Result) -> Reason | None:
    worst = max((each.thermal_status or 0 for pair in _conditions(result) for each in pair), default=0)
    if worst > 1:
        return Reason(code="THERMAL", level="INVALID", detail=f"Android reports the thermal status {worst} of 6")
    bits = [each.throttled for pair in _conditions(result) for each in pair if each.throttled is not None]
    # Bits 0 to 3 are now; 16 to 19 say the same of any time since the board started, so that only new ones count.
    seen = [each | (each & ~bits[0]) >> 16 for each in bits]
    found = [name for bit, name in enumerate(THROTTLE_BITS) if any(each >> bit & 1 for each in seen)]
    if found:
        return Reason(code="THERMAL", level="INVALID", detail=f"the board reports {', '.join(found)}")
    # A chip at work is always warmer: only how warm it was before each process is compared.
    degrees = [each.temperature_c for each in _before(result) if each.temperature_c is not None]
    if not degrees or max(degrees) <= degrees[0] + WARMED_C:
        return None
    detail = f"{max(degrees) - degrees[0]:.1f} °C warmer than at the start, at {degrees[0]:.1f} °C"
    return Reason(code="THERMAL", level="SEMI", detail=detail)


def _freq(result: Result) -> Reason | None:
    pairs = _conditions(result)
    clocks = [[each.frequency_mhz for each in pair if each.frequency_mhz] for pair in pairs]
    if fastest := max((clock for pair in clocks for clock in pair), default=0):
        slow = [min(pair, default=fastest) < SLOW_CLOCK * fastest for pair in clocks]
        return _in_processes("FREQ", slow, what=f"the clock was under {SLOW_CLOCK:.0%} of {fastest:.0f} MHz")
    probes = [[each.probe_ns for each in pair if each.probe_ns] for pair in pairs]
    best = min((probe for pair in probes for probe in pair), default=0)
    slow = [max(pair, default=0) > SLOW_PROBE * best for pair in probes]
    return _in_processes("FREQ", slow, what=f"a probe took over {SLOW_PROBE:g} × the best of {best / 1e6:.1f} ms")


def _emulated(result: Result) -> Reason | None:
    if not result.device.emulated:
        return None
    detail = f"{result.device.device} is emulated: its speed is no board's"
    return Reason(code="EMULATED", level="INVALID", detail=detail)


def _faked(result: Result) -> Reason | None:
    if not any(each.faked for pair in _conditions(result) for each in pair):
        return None
    detail = "the phone's battery figures are made up: adb shell dumpsys battery reset"
    return Reason(code="FAKED", level="INVALID", detail=detail)


def _summary(result: Result) -> Reason | None:
    found = next((timing.summary for timing in _timings(result) if timing.summary), None)
    if not found:
        return None
    kept = "" if found.percentiles_ns else ", not even a median: the figure is a mean"
    detail = f"{found.tool} tells a summary of each process{kept}; percentiles and disturbed calls are unknown"
    return Reason(code="SUMMARY", level="SEMI", detail=detail)


def _in_processes(code: Code, found: Sequence[bool], *, what: str) -> Reason | None:
    """SEMI if it is so in a tenth of the processes, INVALID if in half: fewer do not move the median of all."""
    share = mean(found) if found else 0
    if share < SOME:
        return None
    detail = f"{what} in {sum(found)} of {len(found)} processes"
    return Reason(code=code, level="INVALID" if share >= HALF else "SEMI", detail=detail)


def _graded(code: Code, value: float, *, bounds: tuple[float, float], detail: str) -> Reason | None:
    semi, invalid = bounds
    if value <= semi:
        return None
    return Reason(code=code, level="INVALID" if value > invalid else "SEMI", detail=detail)


def _timings(result: Result) -> list[Timing]:
    return [trial.timing for trial in sorted(result.trials, key=lambda trial: trial.round)]


def _processes(result: Result) -> list[list[float]]:
    """Nanoseconds per inference, in the order of time."""
    return [timing.per_call_ns for timing in _timings(result)]


def _conditions(result: Result) -> list[list[Conditions]]:
    """Of each process before and after, as far as there are any."""
    return [[each for each in (timing.before, timing.after) if each] for timing in _timings(result)]


def _before(result: Result) -> list[Conditions]:
    return [timing.before for timing in _timings(result) if timing.before]


_RULES: Final[tuple[Callable[[Result], Reason | None], ...]] = (
    _failed, _wrong_dtype, _fallback, _too_few, _noisy, _wide,
    _drift, _warm_up, _disturbed, _load, _thermal, _freq, _emulated, _faked, _summary,
)  # fmt: skip
