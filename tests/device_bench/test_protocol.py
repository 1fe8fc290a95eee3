"""Rounds, warm-up and stopping, with a clock that only the calls move."""

from collections.abc import Iterable, Iterator
from itertools import chain, repeat

import pytest

from evit_edge.device_bench.protocol import EFFORTS, Effort, Meter, block_size, sample, sustain, warm_up
from evit_edge.device_bench.statistics import median_interval

MS = 1_000_000


class Machine:
    """Calls that take the given milliseconds, on a clock of their own."""

    def __init__(self, call_ms: Iterable[float]) -> None:
        self.now_ns = 0
        self.calls = 0
        self._call_ms = iter(call_ms)

    def clock(self) -> int:
        return self.now_ns

    def run(self, feeds: str) -> None:
        assert feeds == "feeds"
        self.calls += 1
        self.now_ns += round(next(self._call_ms) * MS)


def effort(*, budget_ms: int = 0, min_samples: int = 1, cap_ms: int = 10**6) -> Effort:
    return Effort(
        name="test",
        processes=6,
        most_processes=6,
        half_width=0.05,
        cap_s=1,
        budget_ns=budget_ms * MS,
        min_samples=min_samples,
        cap_ns=cap_ms * MS,
        warm_up_cap_ns=0,
    )


def samples(machine: Machine, effort: Effort, *, block: int = 1) -> list[int]:
    meter = Meter(wall=machine.clock, cpu=machine.clock, switches=lambda: machine.calls)
    return sample(machine.run, "feeds", block=block, effort=effort, meter=meter).wall_ns


def test_every_effort_may_take_enough_processes_for_an_interval() -> None:
    assert [EFFORTS[name].processes for name in ("quick", "default", "rigorous")] == [3, 10, 30]
    for known in EFFORTS.values():
        assert median_interval([1.0] * known.most_processes) is not None
        assert known.budget_ns < known.cap_ns


@pytest.mark.parametrize(
    ("call_ms", "least_calls"), [(1, 200), (30, 7), (70, 3), (900, 3)], ids=["1 ms", "30 ms", "70 ms", "900 ms"]
)
def test_a_steady_model_warms_up_for_three_calls_and_a_fifth_of_a_second(call_ms: float, least_calls: int) -> None:
    machine = Machine(repeat(call_ms))
    found = warm_up(machine.run, "feeds", clock=machine.clock, cap_ns=8000 * MS)
    assert found.converged
    assert least_calls <= len(found.calls_ns) <= least_calls + 2
    assert sum(found.calls_ns) == machine.now_ns


def test_warming_up_goes_on_until_the_calls_have_settled() -> None:
    machine = Machine(chain((100 * 0.9**n for n in range(40)), repeat(1.5)))
    found = warm_up(machine.run, "feeds", clock=machine.clock, cap_ns=8000 * MS)
    assert found.converged
    assert found.calls_ns[-1] == pytest.approx(1.5 * MS)


def test_a_model_that_never_settles_is_given_up_at_the_cap_and_says_so() -> None:
    def restless() -> Iterator[float]:
        while True:
            yield from repeat(5.0, 10)
            yield from repeat(9.0, 6)

    machine = Machine(restless())
    found = warm_up(machine.run, "feeds", clock=machine.clock, cap_ns=2000 * MS)
    assert not found.converged
    assert 2000 * MS <= machine.now_ns <= 2060 * MS


def test_one_call_beyond_the_cap_is_the_only_one() -> None:
    machine = Machine(repeat(10_000))
    found = warm_up(machine.run, "feeds", clock=machine.clock, cap_ns=8000 * MS)
    assert (len(found.calls_ns), found.converged) == (1, False)


@pytest.mark.parametrize(("call_ns", "block"), [(5e6, 1), (1e6, 1), (999_999, 2), (400_000, 3), (250, 4000), (0, MS)])
def test_a_sample_is_a_millisecond_or_more(call_ns: float, block: int) -> None:
    assert block_size(call_ns) == block


@pytest.mark.parametrize(
    ("wanted", "call_ms", "count"),
    [
        (effort(budget_ms=500, min_samples=20), 1, 500),
        (effort(budget_ms=500, min_samples=20), 40, 20),
        (effort(budget_ms=500, min_samples=20, cap_ms=3000), 1000, 3),
        (effort(budget_ms=500, min_samples=20, cap_ms=3000), 60_000, 1),
    ],
    ids=["until the time is up", "until there are enough", "until the cap", "one is always taken"],
)
def test_sampling_stops(wanted: Effort, call_ms: float, count: int) -> None:
    assert samples(Machine(repeat(call_ms)), wanted) == [call_ms * MS] * count


def test_a_sample_of_a_block_is_the_time_of_all_its_calls() -> None:
    machine = Machine(repeat(0.25))
    assert samples(machine, effort(min_samples=5), block=4) == [MS] * 5
    assert machine.calls == 20


def test_no_sample_is_dropped() -> None:
    call_ms = [1, 1, 300, 1, 2]
    assert samples(Machine(call_ms), effort(min_samples=5)) == [ms * MS for ms in call_ms]


def test_every_sample_has_its_cpu_time_and_its_switches() -> None:
    machine = Machine(repeat(2))
    meter = Meter(wall=machine.clock, cpu=lambda: machine.now_ns // 4, switches=lambda: machine.calls**2)
    found = sample(machine.run, "feeds", block=2, effort=effort(min_samples=3), meter=meter)
    assert found.wall_ns == [4 * MS] * 3
    assert found.cpu_ns == [MS] * 3
    assert found.switches == [4, 12, 20]


def test_lasting_load_is_cut_into_windows_of_whole_calls() -> None:
    machine = Machine(chain(repeat(30, 10), repeat(250)))
    found = list(sustain(machine.run, "feeds", duration_ns=1000 * MS, window_ns=100 * MS, clock=machine.clock))
    assert [len(window) for window in found] == [4, 4, 3, 1, 1]
    assert found[0] == [30 * MS] * 4
    assert machine.now_ns >= 1000 * MS


def test_what_a_call_raises_is_passed_on() -> None:
    with pytest.raises(StopIteration):
        samples(Machine([]), effort())
