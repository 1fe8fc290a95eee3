"""The system's `ssh` to one host: one command a call, over one shared connection, answered by one marked line."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from ...models.errors import DeviceFailed, MissingDependency, UnknownName
from ..remote import runner
from ..remote.link import ANSWER_S, BYTES_A_SECOND, LinkCut, marked, not_done, until_back
from .failures import refused

CONFIG: Final = "EVIT_EDGE_SSH_CONFIG"
CONNECT_S: Final = 10
PUT_S: Final = 60.0
# A socket's path has 104 bytes on some systems, and TMPDIR may be long.
SOCKETS: Final = Path("/tmp")
_HOST: Final = re.compile(r"[A-Za-z0-9_][\w.@:%+-]*")


class Link:
    """A host of the user's own ssh configuration, or of the file that $EVIT_EDGE_SSH_CONFIG names."""

    def __init__(self, host: str) -> None:
        if not _HOST.fullmatch(host):
            raise UnknownName(f"{host!r} is no host", "name one as ssh does: --device ssh:pi or ssh:user@address")
        if shutil.which("ssh") is None:
            raise MissingDependency("there is no ssh here", "install OpenSSH's client")
        self.host = host
        self._is_closed = False
        self._sockets = Path(tempfile.mkdtemp(prefix="evit-edge-", dir=SOCKETS if SOCKETS.is_dir() else None))

    def ask(self, command: Sequence[str], *, content: bytes = b"", timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """Run `command` there with `content` as its input, and again if the link is cut: it must bear being repeated.

        Raises `DeviceFailed`, and `LinkLost` if what was cut does not come back.
        """
        return until_back(
            self.host,
            lambda: self._asked(command, content=content, timeout_s=timeout_s),
            is_closed=lambda: self._is_closed,
        )

    def put(self, content: bytes, there: str, *, python: str) -> None:
        """Make the file `there`, whole or not at all, checked by a digest that is computed there."""
        digest = hashlib.sha256(content).hexdigest()
        timeout_s = PUT_S + len(content) / BYTES_A_SECOND
        self.ask([python, "-I", "-c", runner.first(), "put", there, digest], content=content, timeout_s=timeout_s)

    def close(self) -> None:
        """End the shared connection; what waits for it fails at once."""
        self._is_closed = True
        with contextlib.suppress(DeviceFailed):
            self._run(["-O", "exit", "--", self.host], content=b"", timeout_s=CONNECT_S)
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _asked(self, command: Sequence[str], *, content: bytes, timeout_s: float) -> dict[str, Any]:
        status, printed, said = self._run(["--", self.host, shlex.join(command)], content=content, timeout_s=timeout_s)
        answer = marked(printed)
        if answer is None:
            raise self._failure(status, said)
        if "error" in answer:
            raise not_done(self.host, str(answer["error"]), answer.get("errno"))
        return answer

    def _run(self, arguments: Sequence[str], *, content: bytes, timeout_s: float) -> tuple[int, bytes, str]:
        config = os.environ.get(CONFIG)
        options = [
            *(["-F", config] if config else []),
            *("-T", "-oBatchMode=yes", f"-oConnectTimeout={CONNECT_S}", "-oLogLevel=ERROR"),
            *("-oControlMaster=auto", f"-oControlPath={self._sockets}/%C", "-oControlPersist=60"),
            *("-oServerAliveInterval=5", "-oServerAliveCountMax=3"),
        ]
        # Not pipes: the shared connection keeps what it was started with open.
        with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as said:
            # Ctrl-C is for this process: what it has to undo there needs the connection.
            process = subprocess.Popen(
                ["ssh", *options, *arguments],
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=said,
                start_new_session=True,
            )
            try:
                process.communicate(content, timeout=timeout_s)
            except subprocess.TimeoutExpired as error:
                raise LinkCut(f"{self.host} did not answer within {timeout_s:g} s", "try again") from error
            finally:
                process.kill()
                process.wait()
            for file in (printed, said):
                file.seek(0)
            return process.returncode, printed.read(), said.read().decode(errors="replace")

    def _failure(self, status: int, said: str) -> DeviceFailed:
        if status == 255:
            return refused(self.host, said)
        if status == 127:
            return DeviceFailed(
                f"{self.host} has no python3", "install Python 3.10 or newer there: apt install python3"
            )
        if status < 0 or status == 0:
            return LinkCut(f"the answer of {self.host} did not arrive whole", "try again")
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        return DeviceFailed(f"{self.host} ended with status {status}: {lines[-1] if lines else 'it says nothing'}")
