"""Children that do what third-party converters have been seen to do. Run by name, with this folder on the path."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from evit_edge.converters import child
from evit_edge.models.errors import ParityFailed


def _say_steps() -> None:
    for step in ("first", "second"):
        child.say(step)
        time.sleep(1)


def work(job: dict[str, Any]) -> Any:
    print("some noise on stdout")
    match job["do"]:
        case "answer":
            return job["value"]
        case "abort":
            print("fatal: about to abort", flush=True)
            os.abort()
        case "exit":
            print("giving up", flush=True)
            sys.exit(job["status"])
        case "raise":
            raise ParityFailed("off by one", "look again")
        case "bug":
            raise ZeroDivisionError("a bug")
        case "steps":
            _say_steps()
        case "hang":
            grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
            Path(job["pids"]).write_text(f"{os.getpid()} {grandchild.pid}")
            time.sleep(300)


if __name__ == "__main__":
    child.serve(work)
