"""Downloads from a server of our own that can do everything wrong that a server can do."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from evit_edge.models import download
from evit_edge.models.download import cache_folder, fetch
from evit_edge.models.errors import FileProblem, ModelUnavailable

CONTENT = bytes(index * 7 % 251 for index in range(300_000))


class Server(ThreadingHTTPServer):
    """What it serves and how well, to be changed by a test; `ranges` holds the Range header of every request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.version = '"first"'
        self.supports_ranges = True
        self.tells_length = True
        self.stops_after: int | None = None
        self.stalls_s = 0.0
        self.status = 200
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1.0/weights.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.ranges.append(wanted)
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        body, start = self.server.content, 0
        if wanted and self.server.supports_ranges and self.headers["If-Range"] == self.server.version:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if self.server.version:
            self.send_header("ETag", self.server.version)
        if self.server.tells_length:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : self.server.stops_after])
        self.wfile.flush()
        time.sleep(self.server.stalls_s)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def interrupted(server: Server, folder: Path, after: int = 100_000) -> None:
    server.stops_after = after
    with pytest.raises(ModelUnavailable, match=f"the connection ended after {after} of 300000 bytes"):
        fetch(server.url, folder)
    server.stops_after = None


def test_a_file_is_downloaded_once_and_its_size_and_digest_recorded(server: Server, tmp_path: Path) -> None:
    calls: list[tuple[int, int | None]] = []
    path = fetch(server.url, tmp_path / "cache", progress=lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert calls[-1] == (300_000, 300_000)
    assert calls == sorted(calls)
    record = json.loads((tmp_path / "cache/weights.pth.json").read_text())
    assert (record["url"], record["size_bytes"]) == (server.url, 300_000)
    assert fetch(server.url, tmp_path / "cache") == path
    assert len(server.ranges) == 1
    assert sorted(file.name for file in path.parent.iterdir()) == ["weights.pth", "weights.pth.json"]


def test_an_interrupted_download_continues_where_it_stopped(server: Server, tmp_path: Path) -> None:
    interrupted(server, tmp_path)
    assert not (tmp_path / "weights.pth").exists()
    calls: list[int] = []
    path = fetch(server.url, tmp_path, progress=lambda done, total: calls.append(done))
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-"]
    assert calls[0] > 100_000


def test_a_file_that_was_replaced_in_the_meantime_comes_whole(server: Server, tmp_path: Path) -> None:
    interrupted(server, tmp_path)
    server.content, server.version = CONTENT[::-1], '"second"'
    assert fetch(server.url, tmp_path).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("change", [{"supports_ranges": False}, {"version": ""}, {"tells_length": False}])
def test_servers_without_ranges_versions_or_lengths_still_serve(
    server: Server, tmp_path: Path, change: dict[str, object]
) -> None:
    for name, value in change.items():
        setattr(server, name, value)
    if server.tells_length:
        interrupted(server, tmp_path)
    assert fetch(server.url, tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_begun_again(server: Server, tmp_path: Path) -> None:
    interrupted(server, tmp_path)
    (tmp_path / "weights.pth.part").write_bytes(CONTENT + b"more")
    assert fetch(server.url, tmp_path).read_bytes() == CONTENT
    assert server.ranges[-2:] == ["bytes=300004-", None]


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"?" + content[1:]])
def test_a_file_that_changed_on_disk_is_refused_by_name(server: Server, tmp_path: Path, damage: object) -> None:
    path = fetch(server.url, tmp_path)
    path.write_bytes(damage(CONTENT))  # type: ignore[operator]
    with pytest.raises(ModelUnavailable, match="is not the file that was downloaded") as caught:
        fetch(server.url, tmp_path)
    assert caught.value.hint == f"delete {path} to download it again"
    path.unlink()
    assert fetch(server.url, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("record", [None, "{", '{"schema": 1}'])
def test_a_file_without_a_record_is_not_trusted(server: Server, tmp_path: Path, record: str | None) -> None:
    (tmp_path / "weights.pth").write_bytes(CONTENT)
    if record:
        (tmp_path / "weights.pth.json").write_text(record)
    with pytest.raises(ModelUnavailable, match="is not the file that was downloaded"):
        fetch(server.url, tmp_path)


def test_another_file_at_the_same_address_is_refused_until_its_record_is_deleted(
    server: Server, tmp_path: Path
) -> None:
    fetch(server.url, tmp_path).unlink()
    server.content = CONTENT[::-1]
    with pytest.raises(ModelUnavailable, match="is no longer the file that was first downloaded") as caught:
        fetch(server.url, tmp_path)
    assert str(tmp_path / "weights.pth.json") in caught.value.hint
    (tmp_path / "weights.pth.json").unlink()
    assert fetch(server.url, tmp_path).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("status", [404, 500, 416])
def test_a_server_that_answers_with_an_error_is_named_with_the_way_out(
    server: Server, tmp_path: Path, status: int
) -> None:
    server.status = status
    with pytest.raises(ModelUnavailable, match=f"cannot be downloaded: the server answers {status}") as caught:
        fetch(server.url, tmp_path)
    assert server.url in caught.value.message
    assert "--weights FILE" in caught.value.hint


def test_a_server_that_stalls_is_given_up(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "STALL_TIMEOUT_S", 0.2)
    server.stops_after, server.stalls_s = 1000, 1.0
    with pytest.raises(ModelUnavailable, match=r"nothing came for 0\.2 s"):
        fetch(server.url, tmp_path)


def test_a_refused_connection_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/weights.pth"
    with pytest.raises(ModelUnavailable, match="Connection refused") as caught:
        fetch(url, tmp_path)
    assert url in caught.value.message
    assert "--weights FILE" in caught.value.hint


@pytest.mark.parametrize("url", ["nonsense/weights.pth", "http://[/weights.pth", "gopher://host/weights.pth"])
def test_an_address_that_is_none_is_a_clear_error(tmp_path: Path, url: str) -> None:
    with pytest.raises(ModelUnavailable, match="cannot be downloaded"):
        fetch(url, tmp_path)


def test_a_cache_that_cannot_be_written_names_the_folder_and_the_variable(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileProblem, match="cannot be used") as caught:
        fetch(server.url, tmp_path / "file" / "weights")
    assert "EVIT_EDGE_CACHE" in caught.value.hint


def test_the_cache_is_where_the_variable_says_or_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EVIT_EDGE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("EVIT_EDGE_CACHE")
    assert cache_folder().name == "evit-edge"
