"""The files that `benchmark_model` writes: `--result_file_path`, and `--op_profiling_output_mode=proto`.

Their messages are described here, so that neither protoc nor generated code is needed: LiteRT's wheel has none for the
result, and that for the profile (`profiling_info_pb2`) needs a newer protobuf than TensorFlow takes. Field numbers are
those of `benchmark_result.proto` and `profiling_info.proto`. Times are milliseconds as float32, in a profile whole
microseconds.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Final

from pydantic import ValidationError

from ...models.errors import UnreadableOutput
from ..record import OperatorTime
from .outcome import ROUNDING, Outcome
from .printed import nanoseconds

MESSAGES: Final = {
    "BenchmarkResult": {2: "latency_metrics:LatencyMetrics", 3: "memory_metrics:MemoryMetrics",
                        4: "misc_metrics:MiscMetrics"},
    "LatencyMetrics": {1: "avg_ms:float", 2: "min_ms:float", 3: "max_ms:float", 4: "stddev_ms:float",
                       5: "median_ms:float", 6: "p5_ms:float", 7: "p95_ms:float", 8: "init_ms:float",
                       9: "first_inference_ms:float", 10: "average_warm_up_ms:float"},
    "MemoryMetrics": {1: "init_footprint_kb:int64", 2: "overall_footprint_kb:int64", 3: "peak_mem_mb:float"},
    "MiscMetrics": {2: "num_runs:int32", 3: "num_warmup_runs:int32"},
    "BenchmarkProfilingData": {3: "runtime_profile:ModelProfilingData"},
    "ModelProfilingData": {1: "subgraph_profiles:*SubGraphProfilingData"},
    "SubGraphProfilingData": {3: "per_op_profiles:*OpProfileData"},
    "OpProfileData": {1: "node_type:string", 2: "inference_microseconds:OpProfilingStat", 4: "times_called:int64",
                      5: "name:string", 6: "run_order:int64"},
    "OpProfilingStat": {3: "avg:int64", 9: "count:int64"},
}  # fmt: skip
PACKAGE: Final = "evit_edge.benchmark_model"
TIMES: Final = {
    "init_ns": "init_ms", "first_ns": "first_inference_ms", "warm_up_ns": "average_warm_up_ms", "mean_ns": "avg_ms",
    "min_ns": "min_ms", "max_ns": "max_ms", "std_ns": "stddev_ms",
}  # fmt: skip
PERCENTILES: Final = {"p5": "p5_ms", "p50": "median_ms", "p95": "p95_ms"}


def parse(content: bytes) -> Outcome:
    """The record of a result file; raises `UnreadableOutput` where a figure is missing. Never has placement in it."""
    found = _decoded("BenchmarkResult", content)
    latency, memory, misc = found.latency_metrics, found.memory_metrics, found.misc_metrics
    wanted = [(latency, name) for name in (*TIMES.values(), *PERCENTILES.values())]
    for message, name in [*wanted, (misc, "num_runs"), (misc, "num_warmup_runs")]:
        if not message.HasField(name):
            raise _fault(f"{name} is missing", content)
    try:
        return Outcome.model_validate(
            {
                "tool": "benchmark_model",
                "generation": "current",
                **{ours: _nanoseconds(getattr(latency, theirs)) for ours, theirs in TIMES.items()},
                "percentiles_ns": {
                    name: _nanoseconds(getattr(latency, theirs)) for name, theirs in PERCENTILES.items()
                },
                "inferences": misc.num_runs,
                "warm_ups": misc.num_warmup_runs,
                "memory": _memory(memory) if found.HasField("memory_metrics") else None,
            }
        )
    except (ValidationError, OverflowError) as error:
        raise _fault("its figures cannot be those of a measurement", content) from error


def operators(content: bytes) -> tuple[OperatorTime, ...]:
    """The operators of a profile in the order of a run, with mean times: of the model, not those within a delegate."""
    graphs = _decoded("BenchmarkProfilingData", content).runtime_profile.subgraph_profiles
    found = [each for graph in graphs for each in sorted(graph.per_op_profiles, key=lambda it: it.run_order)]
    if not found or any(not each.name or each.inference_microseconds.count < 1 for each in found):
        raise _fault("there is no whole profile in it", content)
    try:
        return tuple(
            OperatorTime(
                name=each.name, kind=each.node_type, ns=each.inference_microseconds.avg * 1000 * each.times_called
            )
            for each in found
        )
    except ValidationError as error:
        raise _fault("its figures cannot be those of a measurement", content) from error


def confirm(printed: Outcome, filed: Outcome) -> None:
    """Raises `UnreadableOutput` if a figure of the text is not that of the file, to the six digits that are printed."""
    pairs = {name: (getattr(printed, name), getattr(filed, name)) for name in (*TIMES, "inferences", "warm_ups")}
    pairs |= {name: (ns, filed.percentiles_ns.get(name)) for name, ns in printed.percentiles_ns.items()}
    for name, (one, other) in pairs.items():
        if one is not None and (other is None or not math.isclose(one, other, rel_tol=ROUNDING)):
            raise UnreadableOutput(
                f"benchmark_model: {name} is {one} in what it printed and {other} in its result file",
                "are the two of the same run?",
            )


def _nanoseconds(ms: float) -> float:
    """Seven digits are all that a float32 holds."""
    return nanoseconds(f"{ms:.7g}", "ms")


def _memory(message: Any) -> dict[str, int]:
    named = {"init_bytes": ("init_footprint_kb", 1024), "overall_bytes": ("overall_footprint_kb", 1024)}
    named["peak_bytes"] = ("peak_mem_mb", 1024**2)
    return {
        ours: round(getattr(message, name) * unit) for ours, (name, unit) in named.items() if message.HasField(name)
    }


def _fault(why: str, content: bytes) -> UnreadableOutput:
    return UnreadableOutput(
        f"benchmark_model's file: {why}",
        "see whether the tool ran to its end, and pull the file again",
        text=content.hex(),
    )


def _decoded(name: str, content: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return _classes()[name].FromString(content)
    except DecodeError as error:
        raise _fault("it is no protocol buffer, or not all of one", content) from error


@cache
def _classes() -> dict[str, Any]:
    """In a pool of their own: another library may know the same messages by other descriptions."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="benchmark_model.proto", package=PACKAGE)
    kinds = descriptor_pb2.FieldDescriptorProto
    scalars = {
        "float": kinds.TYPE_FLOAT,
        "int32": kinds.TYPE_INT32,
        "int64": kinds.TYPE_INT64,
        "string": kinds.TYPE_STRING,
    }
    for message_name, fields in MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for number, (name, _, kind) in ((number, text.partition(":")) for number, text in fields.items()):
            label = kinds.LABEL_REPEATED if kind.startswith("*") else kinds.LABEL_OPTIONAL
            field = message.field.add(name=name, number=number, label=label)
            field.type = scalars.get(kind, kinds.TYPE_MESSAGE)
            if kind not in scalars:
                field.type_name = f".{PACKAGE}.{kind.lstrip('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}
