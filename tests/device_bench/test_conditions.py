"""What a machine's files say of its conditions, on made-up trees; nothing in them makes reading fail."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.device_bench import conditions
from evit_edge.device_bench.record import Conditions

CORE = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq"
ZONE = "sys/class/thermal/thermal_zone{}/temp"
SENSOR = "sys/class/hwmon/hwmon0/temp{}_input"
STAT = "cpu  3036670 1366023 382610 2685198 27727 0 2568 4688 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def firmware(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a tool of the name of the Raspberry Pi's in front of all others."""
    folder.mkdir(exist_ok=True)
    tool = folder / "vcgencmd"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_a_board_tells_its_load_its_fastest_clock_its_hottest_sensor_and_stolen_time(tmp_path: Path) -> None:
    files = {
        "proc/loadavg": b"1.14 0.95 0.94 2/88 31368\n",
        "proc/stat": STAT.encode(),
        CORE.format(0): b"1800000\n",
        CORE.format(12): b"2400000\n",
        ZONE.format(0): b"61234\n",
        ZONE.format(1): b"0\n",
        SENSOR.format(1): b"64500\n",
        SENSOR.format(2): b"255000\n",
    }
    assert conditions.now(probe=False, root=tree(tmp_path, files)) == Conditions(
        load_average=1.14, frequency_mhz=2400, temperature_c=64.5, stolen_s=46.88
    )


def test_a_machine_without_such_files_tells_nothing(tmp_path: Path) -> None:
    assert conditions.now(probe=False, root=tmp_path) == Conditions()


@given(
    files=st.dictionaries(
        st.sampled_from(
            ["proc/loadavg", "proc/stat", CORE.format(0), CORE.format(1), ZONE.format(0), SENSOR.format(1)]
        ),
        st.one_of(
            st.binary(max_size=40),
            st.integers(-(10**25), 10**25).map(lambda number: str(number).encode()),
            st.sampled_from([b"<unknown>", b"nan", b"inf -inf", b"1e400", b"cpu 1 2 3", "١٢".encode(), b"9" * 5000]),
        ),
    )
)
def test_odd_contents_are_no_exception_and_no_infinite_figure(
    files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tree(tmp_path_factory.mktemp("odd"), files)
    found = conditions.now(probe=False, root=root)
    assert Conditions.model_validate_json(found.model_dump_json()) == found
    assert found.frequency_mhz is None or found.frequency_mhz > 0
    assert found.temperature_c is None or 0 < found.temperature_c < 150


def test_what_is_a_folder_instead_of_a_file_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "proc/loadavg").mkdir(parents=True)
    (tmp_path / ZONE.format(0)).mkdir(parents=True)
    assert conditions.now(probe=False, root=tmp_path) == Conditions()


@pytest.mark.parametrize(
    ("script", "bits"),
    [
        ("echo throttled=0x0", 0),
        ("[ $1 = get_throttled ] && echo throttled=0x50005", 0x50005),
        ("echo VCHI initialization failed; exit 255", None),
        ("echo throttled=0x50005; exit 1", None),
        ("echo throttled=lots", None),
        ("printf '\\377\\376'", None),
    ],
)
def test_a_raspberry_pi_tells_its_throttling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, bits: int | None
) -> None:
    firmware(tmp_path / "bin", monkeypatch, script)
    assert conditions.now(probe=False, root=tmp_path).throttled == bits


def test_firmware_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "FIRMWARE_TIMEOUT_S", 0.1)
    firmware(tmp_path / "bin", monkeypatch, "exec sleep 60")
    assert conditions.throttled() is None


def test_the_probe_takes_milliseconds(tmp_path: Path) -> None:
    found = conditions.now(probe=True, root=tmp_path).probe_ns
    assert found is not None
    assert 1e6 < found < 1e9


def test_reading_takes_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); from evit_edge.device_bench import conditions;"
        "conditions.probe_ns(); conditions.load_average(conditions.ROOT); conditions.throttled();"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(new - sys.stdlib_module_names - {'evit_edge'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
