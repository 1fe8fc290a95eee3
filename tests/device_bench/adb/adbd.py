"""The phone's side of adb, over TCP: `python adbd.py PORT ROOT CONTROL SHELL…`, with the folder ROOT as its disk.

A command is what is added to SHELL. CONTROL is a JSON file that is read
whenever something is decided: `authorised`, `room_bytes` (what a push may write at most, null for any) and `lists` (the
features that are offered). SIGUSR1 cuts every connection, SIGTERM ends it.
"""

import asyncio
import json
import os
import signal
import stat
import struct
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

VERSION, MAX_DATA, CHUNK = 0x01000001, 256 * 1024, 64 * 1024
HEADER = struct.Struct("<4s5I")
FEATURES = "shell_v2,cmd,stat_v2,fixed_push_mkdir"
TOKEN, PUBLIC_KEY = 1, 3
STDIN_ID, STDOUT_ID, STDERR_ID, EXIT_ID, CLOSE_STDIN_ID = range(5)
NO_SPACE = "write failed: No space left on device"


class Hangup(Exception):
    """The other side closed the stream, or went away."""


class Stream:
    """One service that was opened: bytes both ways, one unanswered WRTE at a time."""

    def __init__(self, connection: "Connection", own: int, other: int) -> None:
        self._connection = connection
        self.own, self.other = own, other
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self._rest = b""
        self.ready = asyncio.Event()
        self.closed = asyncio.Event()

    def hang_up(self) -> None:
        self.closed.set()
        self.ready.set()
        self.incoming.put_nowait(b"")

    async def read(self, count: int) -> bytes:
        while len(self._rest) < count:
            more = await self.incoming.get()
            if not more:
                raise Hangup
            self._rest += more
        found, self._rest = self._rest[:count], self._rest[count:]
        return found

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), MAX_DATA):
            if self.closed.is_set():
                raise Hangup
            self.ready.clear()
            await self._connection.send(b"WRTE", self.own, self.other, data[start : start + MAX_DATA])
            await self.ready.wait()


class Connection:
    """One adb server that is connected."""

    def __init__(self, phone: "Phone", reader: StreamReader, writer: StreamWriter) -> None:
        self._phone, self._reader, self._writer = phone, reader, writer
        self._streams: dict[int, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        self._writer.write(HEADER.pack(command, first, second, len(data), sum(data) & 0xFFFFFFFF, magic) + data)
        await self._writer.drain()

    async def serve(self) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                command, first, second, length, _, _ = HEADER.unpack(await self._reader.readexactly(HEADER.size))
                await self._take(command, first, second, await self._reader.readexactly(length))
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        for stream in self._streams.values():
            stream.hang_up()
        self._writer.close()

    async def _take(self, command: bytes, first: int, second: int, data: bytes) -> None:
        stream = self._streams.get(second)
        match command:
            case b"CNXN":
                await self._greet(proven=False)
            case b"AUTH":
                await self._greet(proven=first == PUBLIC_KEY)
            case b"OPEN":
                await self._open(first, data.rstrip(b"\0").decode())
            case b"OKAY" if stream:
                stream.ready.set()
            case b"WRTE" if stream:
                stream.incoming.put_nowait(data)
                await self.send(b"OKAY", second, first)
            case b"CLSE" if stream:
                stream.hang_up()

    async def _greet(self, *, proven: bool) -> None:
        control = self._phone.control()
        trusts = control.get("authorised", True)
        if not trusts or (control.get("asks", False) and not proven):
            # Once it was shown a key, a phone whose owner is yet to tap on Allow says nothing more.
            if not proven:
                await self.send(b"AUTH", TOKEN, 0, bytes(20))
            return
        name = "ro.product.name=husky;ro.product.model=Pixel_8_Pro;ro.product.device=husky"
        banner = f"device::{name};features={control.get('lists', FEATURES)}"
        await self.send(b"CNXN", VERSION, MAX_DATA, banner.encode())

    async def _open(self, other: int, service: str) -> None:
        own = max(self._streams, default=0) + 1
        stream = Stream(self, own, other)
        self._streams[own] = stream
        task = asyncio.create_task(self._run(stream, service))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, stream: Stream, service: str) -> None:
        kind, _, argument = service.partition(":")
        with suppress(Hangup, ConnectionError):
            if kind.split(",")[0] in ("shell", "exec") and argument:
                await self.send(b"OKAY", stream.own, stream.other)
                await self._phone.shell(stream, argument, framed="v2" in kind.split(","))
            elif kind == "sync":
                await self.send(b"OKAY", stream.own, stream.other)
                await self._phone.sync(stream)
        with suppress(ConnectionError):
            # A CLSE is answered with one, or a client waits for it until its patience ends.
            await self.send(b"CLSE", stream.own, stream.other)
        if not stream.closed.is_set():
            await stream.closed.wait()
        del self._streams[stream.own]


class Phone:
    """What is behind all connections: a disk, and a shell."""

    def __init__(self, root: Path, control: Path, shell: Sequence[str]) -> None:
        self._root, self._control, self._shell = root, control, shell
        self.connections: set[Connection] = set()

    def control(self) -> dict[str, Any]:
        return dict(json.loads(self._control.read_text()))

    async def connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        connection = Connection(self, reader, writer)
        self.connections.add(connection)
        await connection.serve()
        self.connections.discard(connection)

    def cut(self) -> None:
        for connection in self.connections:
            connection.cut()

    async def shell(self, stream: Stream, command: str, *, framed: bool) -> None:
        """Run it; without frames both outputs are one, and nobody hears how it ended."""
        process = await asyncio.create_subprocess_exec(
            *self._shell, command,
            stdin=PIPE, stdout=PIPE, stderr=PIPE if framed else STDOUT, start_new_session=True,
        )  # fmt: skip
        fed = asyncio.create_task(_feed(stream, process, framed=framed))
        watch = asyncio.create_task(_kill_on_hangup(stream, process))
        outputs = [(STDOUT_ID, process.stdout), (STDERR_ID, process.stderr)]
        try:
            await asyncio.gather(*(_pass_on(stream, kind, each, framed=framed) for kind, each in outputs if each))
            status = await process.wait()
            if framed:
                await stream.write(struct.pack("<BIB", EXIT_ID, 1, status if status >= 0 else 128 - status))
        finally:
            for task in (fed, watch):
                task.cancel()
            await asyncio.gather(fed, watch, return_exceptions=True)

    async def sync(self, stream: Stream) -> None:
        """Files, until QUIT."""
        while True:
            kind, length = struct.unpack("<4sI", await stream.read(8))
            argument = (await stream.read(length)).decode()
            match kind:
                case b"STAT" | b"STA2" | b"LST2":
                    await stream.write(_stated(kind, self._at(argument)))
                case b"LIST":
                    await stream.write(_listed(self._at(argument)))
                case b"SEND":
                    await self._receive(stream, argument)
                case b"RECV":
                    await self._send(stream, self._at(argument))
                case b"QUIT":
                    return

    def _at(self, path: str) -> Path:
        return self._root / path.lstrip("/")

    async def _receive(self, stream: Stream, argument: str) -> None:
        path, _, mode = argument.rpartition(",")
        there, room = self._at(path), self.control().get("room_bytes")
        there.parent.mkdir(parents=True, exist_ok=True)
        failed = False
        with there.open("wb") as file:
            while (head := struct.unpack("<4sI", await stream.read(8)))[0] != b"DONE":
                data = await stream.read(head[1])
                failed = failed or (room is not None and file.tell() + len(data) > room)
                if not failed:
                    file.write(data)
        if failed:
            there.unlink()
            await stream.write(_framed(b"FAIL", NO_SPACE.encode()))
            return
        there.chmod(int(mode) & 0o777)
        await stream.write(struct.pack("<4sI", b"OKAY", 0))

    async def _send(self, stream: Stream, there: Path) -> None:
        try:
            content = there.read_bytes()
        except OSError as error:
            await stream.write(_framed(b"FAIL", (error.strerror or "").encode()))
            return
        for start in range(0, len(content), CHUNK):
            await stream.write(_framed(b"DATA", content[start : start + CHUNK]))
        await stream.write(struct.pack("<4sI", b"DONE", 0))


async def _feed(stream: Stream, process: Process, *, framed: bool) -> None:
    assert process.stdin
    with suppress(Hangup, ConnectionError):
        while True:
            kind, length = struct.unpack("<BI", await stream.read(5)) if framed else (STDIN_ID, 1)
            data = await stream.read(length)
            if kind == CLOSE_STDIN_ID:
                process.stdin.close()
            elif kind == STDIN_ID:
                process.stdin.write(data)
                await process.stdin.drain()


async def _pass_on(stream: Stream, kind: int, source: StreamReader, *, framed: bool) -> None:
    while data := await source.read(CHUNK):
        await stream.write(struct.pack("<BI", kind, len(data)) + data if framed else data)


async def _kill_on_hangup(stream: Stream, process: Process) -> None:
    await stream.closed.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _framed(kind: bytes, data: bytes) -> bytes:
    return struct.pack("<4sI", kind, len(data)) + data


def _stated(kind: bytes, path: Path) -> bytes:
    try:
        found, error = path.stat(follow_symlinks=kind == b"STA2"), 0
    except OSError as failure:
        found, error = os.stat_result([0] * 10), failure.errno or 2
    mode, size, mtime = found.st_mode, found.st_size, int(found.st_mtime)
    if kind == b"STAT":
        return struct.pack("<4s3I", kind, mode, size, mtime)
    owner = (found.st_dev, found.st_ino, mode, found.st_nlink, 2000, 2000)
    return struct.pack("<4sI2Q4IQ3q", kind, error, *owner, size, mtime, mtime, mtime)


def _listed(folder: Path) -> bytes:
    entries = b""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        found, name = path.lstat(), path.name.encode()
        size = found.st_size if stat.S_ISREG(found.st_mode) else 0
        entries += struct.pack("<4s4I", b"DENT", found.st_mode, size, int(found.st_mtime), len(name)) + name
    return entries + struct.pack("<4s4I", b"DONE", 0, 0, 0, 0)


async def main(port: int, root: Path, control: Path, shell: Sequence[str]) -> None:
    phone, ended = Phone(root, control, shell), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, phone.cut)
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    server = await asyncio.start_server(phone.connected, "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()
    server.close()
    phone.cut()
    while phone.connections:
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:]))
