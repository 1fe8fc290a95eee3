"""A real sshd on this machine's loopback, whose only command is a script: what a connection lands in."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SSHD: Final = "/usr/sbin/sshd"
SFTP: Final = "/usr/lib/openssh/sftp-server"
START_S: Final = 10.0


@dataclass(slots=True, kw_only=True)
class Server:
    """A running sshd: `config` is what a client reads, in which it is called `pi`."""

    folder: Path
    config: Path
    port: int
    process: subprocess.Popen[bytes]

    def sessions(self) -> list[int]:
        """The processes of the connections that are open."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def stop(self) -> None:
        """Take no connection any more; those that are open stay."""
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Listen again, on the same port."""
        self.process = _started(self.folder, self.port)


def lacking() -> str:
    """Why there can be no sshd here; empty if there can."""
    missing = [name for name in ("ssh", "ssh-keygen") if shutil.which(name) is None]
    return "openssh-server is not installed" if missing or not Path(SSHD).exists() else ""


@contextmanager
def serving(folder: Path, script: Path) -> Iterator[Server]:
    """An sshd with keys and configuration in `folder`; `script` gets what was typed in $SSH_ORIGINAL_COMMAND."""
    user = pwd.getpwuid(os.getuid()).pw_name
    port = _free_port()
    for name in ("hostkey", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'hostkey.pub').read_text()}")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/hostkey\nPidFile none\nUsePAM no\nStrictModes no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nMaxStartups 100\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nAllowUsers {user}\nForceCommand {script}\n"
    )
    config = folder / "ssh_config"
    config.write_text(
        f"Host pi\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n  IdentityFile {folder}/key\n"
        f"  IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile {folder}/known_hosts\n"
        "  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = Server(folder=folder, config=config, port=port, process=_started(folder, port))
    try:
        yield server
    finally:
        for pid in server.sessions() if server.process.poll() is None else []:
            os.kill(pid, 15)
        server.stop()


def _started(folder: Path, port: int) -> subprocess.Popen[bytes]:
    with (folder / "sshd.log").open("ab") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    end = time.monotonic() + START_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        assert process.poll() is None, (folder / "sshd.log").read_text()
        assert time.monotonic() < end, "sshd does not listen"
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
