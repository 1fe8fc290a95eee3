"""The first thing that runs on a board, as the text of `python3 -I -c`: it looks around, and it puts a file there.

Stands alone, and has no syntax newer than Python 3.6, so that an old one can still be told from none.
"""

import contextlib
import hashlib
import json
import os
import platform
import sys

MARK = "evit-edge:"


def look() -> "dict[str, str]":
    """Which Python this is, and the folder of ours below which everything is put."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")  # noqa: PTH111, PTH118
    return {"version": platform.python_version(), "python": sys.executable, "folder": cache + "/evit-edge"}


def put(path: str, digest: str) -> "dict[str, str]":
    """Standard input as the file `path`, which is there whole or not at all; `digest` is its SHA-256."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
    part = path + ".part"
    found = hashlib.sha256()
    try:
        with open(part, "wb") as file:  # noqa: PTH123
            for block in iter(lambda: sys.stdin.buffer.read(1 << 20), b""):
                found.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        if found.hexdigest() != digest:
            raise OSError("it arrived incomplete")
        os.rename(part, path)  # noqa: PTH104
    except OSError:
        take_back(part)
        raise
    return {}


def take_back(part: str) -> None:
    """Nothing of what did not work is left: not the file, and none of two folders that would be empty."""
    folder = os.path.dirname(part)  # noqa: PTH120
    for remove, path in ((os.unlink, part), (os.rmdir, folder), (os.rmdir, os.path.dirname(folder))):  # noqa: PTH120
        with contextlib.suppress(OSError):
            remove(path)


def main(arguments: "list[str]") -> None:
    """Do it, and print one marked line: without all of it, it was not done."""
    answer = {}  # type: dict[str, object]
    try:
        answer.update(look() if arguments[0] == "look" else put(*arguments[1:]))
    except OSError as error:
        answer.update(error=error.strerror or str(error), errno=error.errno)
    print(MARK + json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
