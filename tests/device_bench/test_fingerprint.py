"""What is recorded of a machine, on made-up trees of a PC, a board and a virtual machine."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_edge.device_bench.device import DeviceInfo
from evit_edge.device_bench.fingerprint import this_machine

from .conftest import DEVICE
from .test_conditions import tree

CPUS = "sys/devices/system/cpu"
NEW = ("physical_cores", "smt", "caches_bytes", "max_frequency_mhz", "boost", "governors", "isolated_cpus")


def cache(cpu: int, index: int, *, level: int, kind: str, size: str) -> dict[str, bytes]:
    folder = f"{CPUS}/cpu{cpu}/cache/index{index}"
    content = {"level": str(level), "type": kind, "size": size}
    return {f"{folder}/{name}": f"{text}\n".encode() for name, text in content.items()}


def core(cpu: int, *, package: int, core_id: int, most_khz: int, governor: str) -> dict[str, bytes]:
    content = {
        "topology/physical_package_id": str(package),
        "topology/core_id": str(core_id),
        "cpufreq/cpuinfo_max_freq": str(most_khz),
        "cpufreq/scaling_governor": governor,
        "cpufreq/scaling_cur_freq": "800000",
    }
    return {f"{CPUS}/cpu{cpu}/{name}": f"{text}\n".encode() for name, text in content.items()}


def test_a_pc_with_two_threads_a_core(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": b"model name\t: Some CPU\nflags\t\t: fpu sse4_1 avx2 avx512_vnni hypervisor_no\n",
        **core(0, package=0, core_id=0, most_khz=4_800_000, governor="powersave"),
        **core(1, package=0, core_id=0, most_khz=4_800_000, governor="powersave"),
        **core(2, package=1, core_id=0, most_khz=5_000_000, governor="performance"),
        **cache(0, 0, level=1, kind="Data", size="48K"),
        **cache(0, 1, level=1, kind="Instruction", size="64K"),
        **cache(0, 2, level=2, kind="Unified", size="1280K"),
        **cache(2, 2, level=2, kind="Unified", size="2048K"),
        **cache(0, 3, level=3, kind="Unified", size="24576K"),
        f"{CPUS}/smt/active": b"1\n",
        f"{CPUS}/intel_pstate/no_turbo": b"1\n",
        f"{CPUS}/isolated": b"2-4,7\n",
    }
    info = this_machine("local", root=tree(tmp_path, files))
    assert info.cpu == "Some CPU"
    assert info.cpu_features == ("sse4_1", "avx2", "avx512_vnni")
    assert info.virtualised is False
    assert (info.governor, info.governors) == ("powersave", ("performance", "powersave"))
    assert (info.frequency_mhz, info.max_frequency_mhz, info.boost) == (800, 5000, False)
    assert (info.physical_cores, info.smt, info.isolated_cpus) == (2, True, (2, 3, 4, 7))
    assert info.caches_bytes == {"L1d": 48 * 2**10, "L2": 2 * 2**20, "L3": 24 * 2**20}


def test_a_board_is_known_by_its_name_and_its_instructions(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": b"processor\t: 0\nFeatures\t: fp asimd evtstrm aes asimdhp asimddp\nCPU part\t: 0xd0b\n",
        "proc/device-tree/model": b"Raspberry Pi 5 Model B Rev 1.0\0",
        f"{CPUS}/cpufreq/boost": b"1\n",
        f"{CPUS}/isolated": b"\n",
    }
    info = this_machine("local", root=tree(tmp_path, files))
    assert info.cpu == "Raspberry Pi 5 Model B Rev 1.0"
    assert info.cpu_features == ("asimd", "asimdhp", "asimddp")
    assert (info.boost, info.isolated_cpus, info.virtualised) == (True, (), None)


def test_a_virtual_machine_without_clocks_is_unknown_and_not_at_its_best(tmp_path: Path) -> None:
    files = {"proc/cpuinfo": b"model name\t: Some CPU\nflags\t\t: fpu hypervisor\n"}
    info = this_machine("local", root=tree(tmp_path, files))
    assert info.virtualised is True
    assert info.governor is None
    assert [getattr(info, name) for name in NEW] == [None] * len(NEW)


def test_a_machine_of_an_old_record_is_still_read() -> None:
    old = DEVICE.model_dump(exclude={*NEW, "cpu_features"})
    assert DeviceInfo.model_validate(old) == DEVICE


@settings(max_examples=40)
@given(
    name=st.sampled_from(
        [
            *("isolated", "smt/active", "cpufreq/boost", "intel_pstate/no_turbo", "cpu0/topology/core_id"),
            *("cpu0/cpufreq/cpuinfo_max_freq", "cpu0/cpufreq/scaling_cur_freq", "cpu0/cache/index2/size"),
        ]
    ),
    content=st.one_of(st.binary(max_size=30), st.text("0123456789-,K", max_size=30).map(str.encode)),
)
def test_odd_contents_are_no_exception(name: str, content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tree(tmp_path_factory.mktemp("odd"), {f"{CPUS}/{name}": content})
    info = this_machine("local", root=root)
    assert DeviceInfo.model_validate_json(info.model_dump_json()) == info
