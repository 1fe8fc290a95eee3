"""A measurement is bound to the fastest cores, one thread each, away from the first one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evit_edge.device_bench.cores import bind, chosen


def cpu(root: Path, number: int, *, siblings: str, khz: int | None = None) -> None:
    topology, frequency = root / f"cpu{number}/topology", root / f"cpu{number}/cpufreq"
    topology.mkdir(parents=True)
    (topology / "thread_siblings_list").write_text(f"{siblings}\n")
    if khz:
        frequency.mkdir()
        (frequency / "cpuinfo_max_freq").write_text(f"{khz}\n")


def test_the_big_cores_of_a_board_come_first(tmp_path: Path) -> None:
    for number in range(8):
        cpu(tmp_path, number, siblings=str(number), khz=2_400_000 if number in (2, 3) else 1_800_000)
    assert chosen(range(8), 2, root=tmp_path) == (2, 3)
    assert chosen(range(8), 3, root=tmp_path) == (2, 3, 7)


def test_two_threads_do_not_share_a_core_while_another_is_free(tmp_path: Path) -> None:
    for number in range(4):
        cpu(tmp_path, number, siblings=f"{number % 2},{number % 2 + 2}")
    assert chosen(range(4), 2, root=tmp_path) == (2, 3)
    assert chosen([0, 2, 3], 2, root=tmp_path) in [(2, 3), (0, 3)]
    assert chosen(range(4), 3, root=tmp_path) == (1, 2, 3)


def test_a_machine_that_tells_nothing_gives_its_last_ones(tmp_path: Path) -> None:
    assert chosen([0, 1, 2, 5], 2, root=tmp_path) == (2, 5)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_a_process_is_bound_and_one_that_wants_too_many_is_left_alone() -> None:
    code = (
        "import os; from evit_edge.device_bench.cores import bind; "
        "assert bind(10000) is None; before = os.sched_getaffinity(0); "
        "found = bind(1); assert len(found) == 1 and os.sched_getaffinity(0) == set(found) <= before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert bind(10**6) is None
