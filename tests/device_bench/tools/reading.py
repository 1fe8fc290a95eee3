"""The samples, and which parser reads each of them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from evit_edge.device_bench.tools import benchmark_model, benchncnn, litert, onnxruntime_perf_test
from evit_edge.device_bench.tools.outcome import Outcome

SAMPLES: Final = Path(__file__).parent / "samples"
Read = Callable[[str], tuple[Outcome, ...]]


def one(parse: Callable[[str], Outcome]) -> Read:
    return lambda text: (parse(text),)


PARSERS: Final[dict[str, Read]] = {
    "benchmark_model_2019.txt": one(benchmark_model.parse),
    "benchmark_model_2020.txt": one(benchmark_model.parse),
    "benchmark_model_2020_profile.txt": one(partial(benchmark_model.parse, operators=True)),
    "benchmark_model_current.txt": one(benchmark_model.parse),
    "benchmark_model_current_profile.txt": one(partial(benchmark_model.parse, operators=True)),
    "benchmark_model_current_same.txt": one(benchmark_model.parse),
    "litert_cpp.txt": one(litert.parse),
    "litert_python.txt": one(litert.parse),
    "litert_python.json": one(litert.parse),
    "onnxruntime_perf_test_old.txt": one(onnxruntime_perf_test.parse),
    "onnxruntime_perf_test_current.txt": one(onnxruntime_perf_test.parse),
    "benchncnn.txt": benchncnn.parse,
}


def sample(name: str) -> str:
    return (SAMPLES / name).read_text()
