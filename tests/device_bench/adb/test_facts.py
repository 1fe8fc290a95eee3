"""What a phone prints is read if it is as it should be, and is null otherwise: never an exception, never a guess."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_edge.device_bench.adb import facts
from evit_edge.device_bench.device import DeviceInfo
from evit_edge.device_bench.record import Conditions

from .phone import BATTERY, PROPERTIES, THERMAL

TEXTS = st.one_of(st.text(), st.sampled_from([BATTERY, THERMAL]))
KEYS = st.from_regex(r"[a-z][a-z._]{0,20}", fullmatch=True)


@given(st.dictionaries(KEYS, st.from_regex(r"[a-zA-Z0-9 .\n,-]{0,20}", fullmatch=True)))
def test_properties_are_read_back_with_values_of_several_lines(said: dict[str, str]) -> None:
    assert facts.properties("".join(f"[{key}]: [{value}]\n" for key, value in said.items())) == said


def test_the_hottest_sensor_is_looked_for_among_the_current_ones() -> None:
    assert facts.thermal(THERMAL) == {"thermal_status": 0, "temperature_c": 41.5}
    cached = THERMAL.partition("HAL Ready")[0].replace("Status: 0", "Status: 3")
    assert facts.thermal(cached) == {"thermal_status": 3, "temperature_c": 39.6}


@pytest.mark.parametrize(
    "text", ["", "Can't find service: thermalservice\n", "Thermal Status: 9\n", "Temperature{mValue=0.0, mType=0, m}"]
)
def test_a_phone_without_a_thermal_service_tells_nothing(text: str) -> None:
    assert facts.thermal(text) == {"thermal_status": None, "temperature_c": None}


def test_the_battery_is_read_in_percent_and_degrees() -> None:
    assert facts.battery(BATTERY) == {"battery_percent": 87.0, "battery_c": 32.6, "faked": False}
    half = BATTERY.replace("scale: 100", "scale: 174")
    assert facts.battery(half)["battery_percent"] == 50.0


def test_a_battery_that_is_made_up_says_so() -> None:
    stopped = "Current Battery Service state:\n  (UPDATES STOPPED -- use 'reset' to restart)\n" + BATTERY
    assert facts.battery(stopped)["faked"] is True


@pytest.mark.parametrize(
    ("was", "says", "name"),
    [
        ("temperature: 326", "temperature: 32", "battery_c"),
        ("temperature: 326", "temperature: 32600", "battery_c"),
        ("temperature: 326", "temperature: hot", "battery_c"),
        ("level: 87", "level: 870", "battery_percent"),
        ("level: 87", "level: -1", "battery_percent"),
        ("scale: 100", "scale: 0", "battery_percent"),
    ],
)
def test_a_battery_that_cannot_be_so_tells_nothing(was: str, says: str, name: str) -> None:
    assert facts.battery(BATTERY.replace(was, says))[name] is None


def test_clocks_are_those_of_each_core() -> None:
    printed = (
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor:walt\n"
        "/sys/devices/system/cpu/cpu10/cpufreq/cpuinfo_max_freq:3187200\n"
        "/sys/devices/system/cpu/cpu9/cpufreq/cpuinfo_max_freq:<unsupported>\n"
    )
    found = facts.clocks(printed)
    assert found["scaling_governor"] == {0: "walt"}
    assert facts.fastest_mhz(found["cpuinfo_max_freq"]) == 3187.2
    assert facts.fastest_mhz({}) is None


def test_a_phone_that_names_no_soc_is_known_by_its_platform() -> None:
    older = {key: value for key, value in PROPERTIES.items() if not key.startswith("ro.soc.")}
    assert facts.identity(older, memory="", processor="")["soc"] == "zuma"
    assert facts.abis(older) == ("x86_64", "x86")
    assert facts.abis({"ro.product.cpu.abi": "armeabi-v7a"}) == ("armeabi-v7a",)


@given(text=TEXTS, cuts=st.tuples(st.integers(0, 600), st.integers(0, 600)))
def test_whatever_is_printed_leads_to_a_record(text: str, cuts: tuple[int, int]) -> None:
    low, high = sorted(cuts)
    for each in (text, text[:low] + text[high:], text.replace("\n", "\r\n"), re.sub(r"[0-9]", "9", text)):
        Conditions(**facts.thermal(each), **facts.battery(each))
        rest: dict[str, Any] = {"logical_cpus": 1, "kernel": "", "python": "", "governor": None, "frequency_mhz": None}
        known = facts.identity(facts.properties(each), memory=each, processor=each)
        average = facts.load_average(each)
        DeviceInfo(device="adb:x", virtualised=None, versions={}, load_average=average, **rest, **known)
        facts.fastest_mhz(facts.clocks(each).get("scaling_cur_freq", {}))
