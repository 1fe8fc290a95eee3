"""The daemon is a phone to the real adb client: shells of both protocols, files of any size, and authorisation."""

import os
from pathlib import Path

import pytest

from ..conftest import wait_until
from .adbd import NO_SPACE
from .phone import Phone, adb
from .playing import back_again, phone, phone_of_module

__all__ = ["phone", "phone_of_module"]


def test_a_command_has_both_outputs_and_its_status(phone: Phone) -> None:
    done = adb("-s", phone.serial, "shell", "echo out; echo err >&2; exit 7", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert "husky" in adb("devices", "-l").stdout
    assert adb("-s", phone.serial, "exec-out", "printf 'a\\tb'; pwd").stdout == "a\tb/\n"


def test_the_first_shell_protocol_tells_no_status_and_mixes_outputs(phone: Phone) -> None:
    phone.control(lists="cmd,stat_v2")
    phone.cut()
    back_again(phone)
    done = adb("-s", phone.serial, "shell", "echo out; echo err >&2; exit 7", check=False)
    assert done.returncode == 0
    assert set(done.stdout.split()) == {"out", "err"}
    phone.control()
    phone.cut()
    back_again(phone)


def test_files_and_folders_of_any_size_come_back_equal(phone: Phone, tmp_path: Path) -> None:
    (tmp_path / "folder" / "in").mkdir(parents=True)
    for name, size in (("empty", 0), ("in/one", 1), ("in/many", 3_000_001)):
        (tmp_path / "folder" / name).write_bytes(os.urandom(size))
    adb("-s", phone.serial, "push", str(tmp_path / "folder"), "/data/local/tmp/")
    adb("-s", phone.serial, "pull", "/data/local/tmp/folder", str(tmp_path / "back"))
    for name in ("empty", "in/one", "in/many"):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "folder" / name).read_bytes()
    missing = adb("-s", phone.serial, "pull", "/data/local/tmp/none", str(tmp_path), check=False)
    assert missing.returncode == 1
    adb("-s", phone.serial, "shell", "rm -r /data/local/tmp/folder")


def test_a_full_disk_is_told_as_a_phone_tells_it(phone: Phone, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(1_000_000))
    phone.control(room_bytes=1000)
    done = adb("-s", phone.serial, "push", str(tmp_path / "big"), "/data/local/tmp/big", check=False)
    assert done.returncode == 1
    assert NO_SPACE in done.stdout + done.stderr
    assert phone.files == []


@pytest.mark.parametrize("trusts", [True, False])
def test_a_phone_that_asks_is_there_only_once_it_trusts(phone: Phone, trusts: bool) -> None:
    phone.control(asks=True, authorised=trusts)
    phone.cut()
    adb("disconnect", phone.serial, check=False)
    adb("connect", phone.serial, check=False)
    state = "device" if trusts else "unauthorized"
    wait_until(lambda: f"{phone.serial}\t{state}" in adb("devices").stdout, timeout_s=15)
    phone.control()
    phone.cut()
    back_again(phone)
