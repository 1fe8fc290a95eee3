"""One fresh process that times the files of one target in turns. Only `invoke` is timed.

A round gives each file a turn, in random order: one call that is not timed, since it brings the file's weights back
into the cache, then timed calls for `TURN_S`, one at least.
"""

from __future__ import annotations

import gc
import os
import random
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

from evit_edge.converters import child
from evit_edge.models.spec import ModelRequest, find

from .answers import feeds
from .engines import Engine, opened

TURN_S: Final = 0.03
WARM_UP_S: Final = 0.1


def calls(engine: Engine, *, seconds: float) -> list[int]:
    """Nanoseconds of each call, for `seconds`, and of one at least."""
    found: list[int] = []
    start = time.perf_counter_ns()
    while not found or time.perf_counter_ns() - start < seconds * 1e9:
        before = time.perf_counter_ns()
        engine.invoke()
        found.append(time.perf_counter_ns() - before)
    return found


def work(job: dict[str, Any]) -> dict[str, Any]:
    """The median nanoseconds of each of `paths`, by name, and the load of the machine at the end."""
    rng = random.Random(job["seed"])
    image = next(feeds(find(ModelRequest(**job["request"])), None, 1))
    names = list(job["paths"])
    engines: dict[str, Engine] = {}
    for name in rng.sample(names, len(names)):
        engines[name] = opened(Path(job["paths"][name]))
        engines[name].feed(image)
        calls(engines[name], seconds=WARM_UP_S)
    gc.disable()
    samples: dict[str, list[int]] = {name: [] for name in names}
    for _ in range(max(1, round(job["seconds"] / TURN_S))):
        for name in rng.sample(names, len(names)):
            engines[name].invoke()
            samples[name] += calls(engines[name], seconds=TURN_S)
    medians = {name: median(turns) for name, turns in samples.items()}
    return {"medians_ns": medians, "load_average": os.getloadavg()[0]}


if __name__ == "__main__":
    child.serve(work)
