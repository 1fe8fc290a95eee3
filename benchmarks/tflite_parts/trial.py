"""One fresh process of an engine, in whichever environment has it: it times files in turns, or answers with one.

Needs numpy and the engine (`ai_edge_litert` or `tflite_runtime`). Only `invoke` is timed. A round gives each file a
turn, in random order; a turn is one call that is not timed, since it brings the file's weights back into the cache,
and then timed calls for `turn_s`, one at least. What exceeds its limit gets no more turns: with two threads on a busy
machine tflite-runtime's spinning threads can take twenty times as long.
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import random
import time
from importlib import import_module
from statistics import median
from typing import Any, Final

from .child import Answer, Job, serve

TURN_S: Final = 0.04
WARM_UP_S: Final = 0.1
LEAST_WARM_UP: Final = 2


def opened(job: Job, path: str, *, threads: int) -> Any:
    tflite = import_module(f"{job['package']}.interpreter")
    engine = tflite.Interpreter(model_path=path, num_threads=threads)
    engine.allocate_tensors()
    return engine


def feed(engine: Any, image: Any) -> None:
    """`image` is float32 (height, width, channels); a file that takes integers gets it quantized."""
    import numpy as np

    details = engine.get_input_details()[0]
    scale, zero_point = details["quantization"]
    if scale:
        limits = np.iinfo(details["dtype"])
        image = np.round(image / scale + zero_point).clip(limits.min, limits.max)
    engine.set_tensor(details["index"], image[None].astype(details["dtype"]))


def answer(engine: Any) -> Any:
    """The output for the one image as float32, whatever the file gives."""
    import numpy as np

    details = engine.get_output_details()[0]
    scale, zero_point = details["quantization"]
    found = engine.get_tensor(details["index"])[0].astype(np.float32)
    return (found - zero_point) * np.float32(scale) if scale else found


def answers(job: Job) -> Answer:
    """Save the file's outputs for all images, and tell the nodes of its graph as the engine has them."""
    import numpy as np

    engine = opened(job, job["path"], threads=1)
    found = []
    for image in np.load(job["images"]):
        feed(engine, image)
        engine.invoke()
        found.append(answer(engine))
    np.save(job["out"], np.stack(found))
    keys = ("inputs", "outputs")
    nodes = [
        {"index": int(node["index"]), "op_name": node["op_name"], **{key: [int(i) for i in node[key]] for key in keys}}
        for node in engine._get_ops_details()
    ]
    return {"nodes": nodes}


def calls(engine: Any, *, seconds: float, least: int) -> list[int]:
    """Nanoseconds of each call, for `seconds` and `least` times."""
    found: list[int] = []
    start = time.perf_counter_ns()
    while len(found) < least or time.perf_counter_ns() - start < seconds * 1e9:
        before = time.perf_counter_ns()
        engine.invoke()
        found.append(time.perf_counter_ns() - before)
    return found


def timed(job: Job) -> Answer:
    """The median nanoseconds of each of `paths`, over how many calls, and whether its time ran out."""
    import numpy as np

    rng = random.Random(job["seed"])
    count = len(job["paths"])
    image = np.load(job["images"])[0]
    engines = {}
    for index in rng.sample(range(count), count):
        engines[index] = opened(job, job["paths"][index], threads=job["threads"])
        feed(engines[index], image)
    gc.disable()
    limit_ns = job["limit_s"] * 1e9
    spent = [sum(calls(engines[index], seconds=WARM_UP_S, least=LEAST_WARM_UP)) for index in range(count)]
    samples: list[list[int]] = [[] for _ in range(count)]
    for _ in range(max(1, round(job["seconds"] / TURN_S))):
        for index in rng.sample(range(count), count):
            if spent[index] > limit_ns and samples[index]:
                continue
            untimed = calls(engines[index], seconds=0, least=1)
            turn = calls(engines[index], seconds=TURN_S, least=1)
            samples[index] += turn
            spent[index] += sum(untimed) + sum(turn)
    return {
        "medians_ns": [median(turns) for turns in samples],
        "calls": [len(turns) for turns in samples],
        "cut": [time_ns > limit_ns for time_ns in spent],
        "load_average": os.getloadavg()[0],
    }


def version(job: Job) -> Answer:
    """The engine's; raises if it is not there."""
    import_module(f"{job['package']}.interpreter")
    return {"version": importlib.metadata.version(job["package"].replace("_", "-"))}


if __name__ == "__main__":
    serve({"answers": answers, "time": timed, "version": version})
