"""A phone over adb: it says what it is, runs what it is given, and is left as it was found."""

import hashlib
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from evit_edge.device_bench.adb.link import Link
from evit_edge.device_bench.device import connect
from evit_edge.device_bench.on_adb import AdbDevice
from evit_edge.device_bench.remote import link as remote_link
from evit_edge.models.errors import DeviceFailed, MissingDependency, UnknownName

from ..conftest import interrupted_when, processes_naming, wait_until
from .phone import BELOW, Phone, adb, connected
from .playing import back_again, device, phone, phone_of_module

__all__ = ["device", "phone", "phone_of_module"]

FAMILY = "sleep 60 & : > /data/local/tmp/{name}; sleep 60 # {name}"


def test_it_says_what_it_is(device: AdbDevice, phone: Phone) -> None:
    info = device.info()
    assert info.device == f"adb:{phone.serial}"
    assert (info.soc, info.cpu) == ("Google Tensor G3", "Google Tensor G3, x86_64")
    assert info.board == "Google Pixel 8 Pro (husky)"
    assert info.os == "Android 14 (API 34), security patch 2024-05-05"
    assert (info.logical_cpus, info.governors, info.governor) == (2, ("sched_pixel",), "sched_pixel")
    assert (info.frequency_mhz, info.max_frequency_mhz) == (910, 2914)
    assert info.temperature_c == 41.5
    assert info.memory_bytes > 2**28
    assert info.kernel.startswith("Linux ")
    assert info.emulated is False


def test_an_emulator_says_so(device: AdbDevice, phone: Phone) -> None:
    phone.system("properties", "[ro.kernel.qemu]: [1]\n")
    assert device.info().emulated is True


def test_any_argument_arrives_as_it_is(device: AdbDevice) -> None:
    wild = ["a b", "$HOME `id` \"q\" 'q'", "*;|&<>\\", "", "-n", "ü", "100%"]
    finished = device.run(["sh", "-c", 'for each; do echo "<$each>"; done; exit 7', "sh", *wild], timeout_s=30)
    assert finished.returncode == 7
    assert finished.tail == "".join(f"<{each}>\n" for each in wild)


def test_errors_of_a_command_come_behind_its_output(device: AdbDevice) -> None:
    assert device.run(["sh", "-c", "echo bad >&2; echo good"], timeout_s=30).tail == "good\nbad\n"
    assert device.run(["sh", "-c", "kill -9 $$"], timeout_s=30).returncode == -9
    assert device.run(["/no/such/tool"], timeout_s=30).returncode in (126, 127)


def test_a_file_is_pushed_once_and_again_if_it_was_changed_there(
    device: AdbDevice, phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "with space.bin"
    source.write_bytes(os.urandom(500_000))
    sent: list[str] = []
    push = device._link.push

    def counted(file: Path, there: str) -> None:
        sent.append(there)
        push(file, there)

    monkeypatch.setattr(device._link, "push", counted)
    there = device.push(source)
    assert hashlib.sha256(source.read_bytes()).hexdigest()[:16] in there
    assert (device.push(source), len(sent)) == (there, 1)
    (phone.root / there.lstrip("/")).write_bytes(b"x" * 500_000)
    device.push(source)
    assert len(sent) == 2
    device.pull(there, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    with pytest.raises(DeviceFailed):
        device.pull(f"{there}x", tmp_path / "none")
    assert not list(tmp_path.glob("none*"))


def test_a_folder_is_pushed_with_all_that_is_in_it(device: AdbDevice, tmp_path: Path) -> None:
    (tmp_path / "folder" / "in").mkdir(parents=True)
    (tmp_path / "folder" / "in" / "deep").write_text("deep")
    device.pull(f"{device.push(tmp_path / 'folder')}/in/deep", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "deep"


def test_the_deadline_is_kept_there_for_all_that_was_started(device: AdbDevice, phone: Phone) -> None:
    start = time.monotonic()
    with pytest.raises(DeviceFailed, match="no answer within 1 s"):
        device.run(["sh", "-c", FAMILY.format(name="late"), "late"], timeout_s=1)
    assert time.monotonic() - start < 10
    assert processes_naming("/data/local/tmp/late") == []
    (phone.root / BELOW / "late").unlink()


def test_an_interruption_ends_what_runs_there(device: AdbDevice, phone: Phone) -> None:
    marker = phone.root / BELOW / "ctrl-c"
    with pytest.raises(KeyboardInterrupt), interrupted_when(marker.exists):
        device.run(["sh", "-c", FAMILY.format(name="ctrl-c")], timeout_s=60)
    assert processes_naming("/data/local/tmp/ctrl-c") == []
    assert phone.told("mode.log").split() == ["true", "false"]
    marker.unlink()


def test_the_mode_of_fixed_performance_lasts_as_long_as_a_run(device: AdbDevice, phone: Phone) -> None:
    assert device.run(["cat", "/system/mode"], timeout_s=30).tail == "true\n"
    assert phone.told("mode") == "false\n"


def test_what_was_left_there_days_ago_is_taken_away(phone: Phone) -> None:
    ours = phone.root / BELOW / "evit-edge"
    for name, age_s in (("old of'it", 200_000), ("young", 1000)):
        (ours / name / "run-1").mkdir(parents=True)
        os.utime(ours / name, (time.time() - age_s,) * 2)
    device = AdbDevice(Link(phone.serial))
    assert (ours / "young").exists()
    assert not (ours / "old of'it").exists()
    device.close()
    assert [path.name for path in ours.iterdir()] == ["young"]
    shutil.rmtree(ours)


def test_the_only_phone_needs_no_serial(phone: Phone) -> None:
    device = connect("adb")
    assert isinstance(device, AdbDevice)
    assert device.info().device == f"adb:{phone.serial}"
    device.close()


def test_the_first_shell_protocol_is_enough(phone: Phone) -> None:
    phone.control(lists="cmd,stat_v2")
    phone.cut()
    back_again(phone)
    device = AdbDevice(Link(phone.serial))
    assert device.run(["sh", "-c", "echo said; exit 3"], timeout_s=30).returncode == 3
    device.close()
    phone.control()
    phone.cut()
    back_again(phone)


@pytest.mark.parametrize("where", ["-s", "a b", "$(x)", "x;y z"])
def test_a_serial_that_adb_would_misunderstand_is_refused(where: str) -> None:
    with pytest.raises(UnknownName):
        connect(f"adb:{where}")


def test_a_machine_without_adb_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingDependency, match="no adb on this machine") as caught:
        connect("adb:x")
    assert "platform tools" in caught.value.hint


def test_a_serial_that_is_not_there_is_answered_with_those_that_are(phone: Phone) -> None:
    with pytest.raises(DeviceFailed, match="there is no device bogus") as caught:
        connect("adb:bogus")
    assert phone.serial in caught.value.hint


def test_two_phones_need_a_serial(phone: Phone, tmp_path: Path) -> None:
    other = Phone(tmp_path)
    connected(other)
    try:
        with pytest.raises(DeviceFailed, match="there are 2 devices") as caught:
            connect("adb")
        assert f"adb:{other.serial}" in caught.value.hint
        device = AdbDevice(Link(other.serial))
        device.close()
        assert other.is_clean()
    finally:
        adb("disconnect", other.serial)
        other.vanish()


def test_a_phone_that_does_not_trust_this_machine_is_named(phone: Phone) -> None:
    phone.control(authorised=False)
    phone.cut()
    adb("disconnect", phone.serial, check=False)
    adb("connect", phone.serial, check=False)
    wait_until(lambda: "unauthorized" in adb("devices").stdout, timeout_s=15)
    with pytest.raises(DeviceFailed, match="does not trust this machine") as caught:
        connect(f"adb:{phone.serial}")
    assert "unlock" in caught.value.hint
    phone.control()
    phone.cut()
    back_again(phone)


def test_no_phone_and_one_that_is_offline_are_told_apart(phone: Phone) -> None:
    phone.vanish()
    wait_until(lambda: "offline" in adb("devices").stdout, timeout_s=15)
    with pytest.raises(DeviceFailed, match="is offline"):
        connect("adb")
    adb("disconnect", phone.serial)
    with pytest.raises(DeviceFailed, match="adb finds no device"):
        connect("adb")
    phone.come_back()
    back_again(phone)


def test_a_full_disk_there_is_named_and_nothing_is_left(device: AdbDevice, phone: Phone, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(1_000_000))
    phone.control(room_bytes=1000)
    with pytest.raises(DeviceFailed, match=r"the disk of .* is full"):
        device.push(tmp_path / "big")
    phone.control(room_bytes=10)
    with pytest.raises(DeviceFailed, match=r"the disk of .* is full"):
        AdbDevice(Link(phone.serial))


def test_a_phone_that_comes_back_has_lost_nothing(device: AdbDevice, phone: Phone) -> None:
    marker = phone.root / BELOW / "begun"
    begun = "echo once >>/data/local/tmp/begun; sleep 2; cat /data/local/tmp/begun"

    def pull_the_cable() -> None:
        wait_until(marker.exists)
        phone.vanish()
        phone.come_back()

    thread = threading.Thread(target=pull_the_cable)
    thread.start()
    try:
        assert device.run(["sh", "-c", begun], timeout_s=30).tail == "once\n"
    finally:
        thread.join()
        marker.unlink()


@pytest.mark.slow
def test_a_phone_that_does_not_come_back_is_told_in_time(
    device: AdbDevice, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_link, "RETURN_S", 0.5)
    marker = phone.root / BELOW / "begun"

    def pull_the_cable() -> None:
        wait_until(marker.exists)
        phone.vanish()

    thread = threading.Thread(target=pull_the_cable)
    thread.start()
    with pytest.raises(DeviceFailed, match=r"did not come back within 0.5 s"):
        device.run(["sh", "-c", ": >/data/local/tmp/begun; sleep 60"], timeout_s=3)
    thread.join()
    marker.unlink()
    phone.come_back()
    back_again(phone)
    # What ran there ended at its own deadline, and the mode went with it.
    wait_until(lambda: phone.told("mode") == "false\n", timeout_s=15)


def test_a_watch_that_was_killed_is_no_result(device: AdbDevice, phone: Phone) -> None:
    def kill() -> None:
        wait_until(lambda: bool(list((phone.root / BELOW).rglob("groups"))))
        (watch,) = (phone.root / BELOW).rglob("watch")
        os.kill(int(watch.read_text()), 9)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(DeviceFailed, match=r"what watched over sleep on .* was killed"):
        device.run(["sleep", "60"], timeout_s=60)
    thread.join()
    assert phone.told("mode") == "false\n"
