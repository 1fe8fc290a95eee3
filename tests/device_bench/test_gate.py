"""Which engine judges a new artifact, and what is said where the file is right and the machine is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from evit_edge.converters.artifact import read
from evit_edge.converters.conversion import Conversion, plan
from evit_edge.converters.convert import SelfCheck, convert
from evit_edge.converters.onnx import host
from evit_edge.device_bench.gate import engines
from evit_edge.device_bench.session import RUNTIMES, default_runtime, execute
from evit_edge.models.errors import ParityFailed, Unsupported
from evit_edge.models.spec import ModelRequest, find

from .conftest import MakeArtifact
from .test_session import logits, pixels

EXACT = "onnxruntime_exact"


def conversion(precision: str, target: str = "onnx", **options: str) -> Conversion:
    spec = find(ModelRequest(name="efficientvit_m0", weights="demo"))
    return plan(spec, target, precision=precision, images=2, seed=11, options=options)


def test_exact_arithmetic_is_nobodys_default_and_never_timed() -> None:
    assert default_runtime("onnx") == default_runtime("onnx", timed=True) == "onnxruntime"
    assert RUNTIMES.load("onnxruntime-exact") is RUNTIMES.load(EXACT)
    assert (RUNTIMES.load(EXACT).opens("onnx"), RUNTIMES.load(EXACT).opens("tflite")) == (True, False)
    assert (RUNTIMES.load(EXACT).timed, RUNTIMES.load("onnxruntime").timed) == (False, True)


def test_exact_arithmetic_is_graph_optimisation_off(make_artifact: MakeArtifact) -> None:
    import onnxruntime

    levels, artifact = onnxruntime.GraphOptimizationLevel, make_artifact()
    for name, level in ((EXACT, levels.ORT_DISABLE_ALL), ("onnxruntime", levels.ORT_ENABLE_ALL)):
        session = RUNTIMES.load(name).open(artifact, threads=1)
        assert session._engine.get_session_options().graph_optimization_level == level
        session.close()


def test_exact_arithmetic_answers_as_any_runtime_does(make_artifact: MakeArtifact) -> None:
    images = pixels(3)
    found = execute(make_artifact().folder, {"pixels": images}, runtime="onnxruntime-exact")[1]
    assert abs(found - logits(images)).max() <= 1e-4


def test_a_request_to_time_it_is_refused_in_plain_words(make_artifact: MakeArtifact) -> None:
    from evit_edge.device_bench.job import TimeJob
    from evit_edge.device_bench.trial import timed

    job = TimeJob(artifact=str(make_artifact().folder), runtime=EXACT, threads=1, batch=1, seed=0, effort="quick")
    with pytest.raises(Unsupported, match="is not timed") as caught:
        timed(job)
    assert caught.value.hint == "it is onnxruntime, graph optimisations off; leave it to parity and predict"


@pytest.mark.parametrize(
    ("here", "options", "engine"),
    [
        ("x86-vnni", {}, "onnxruntime"),
        ("x86-vnni", {"host": "x86-avx2"}, "onnxruntime"),
        ("x86-vnni", {"host": "arm64"}, "onnxruntime"),
        ("arm64", {"host": "x86-vnni"}, "onnxruntime"),
        ("x86-avx2", {}, "onnxruntime"),
        ("x86-avx2", {"host": "x86-avx2"}, "onnxruntime"),
        ("x86-avx2", {"host": "x86-vnni"}, EXACT),
        ("x86-avx2", {"host": "arm64"}, EXACT),
    ],
)
def test_a_file_for_another_cpu_is_judged_exactly_where_this_one_saturates(
    monkeypatch: pytest.MonkeyPatch, here: host.Host, options: dict[str, str], engine: str
) -> None:
    monkeypatch.setattr(host, "measured_host", lambda: here)
    judge, check = engines(conversion("int8", **options))
    assert judge == engine
    assert (check is None) == (engine == EXACT)


@pytest.mark.parametrize(
    ("precision", "options", "advice"),
    [
        ("int8", {"host": "x86-vnni"}, "this CPU's integers saturate: take --host x86-avx2"),
        ("int8", {"host": "x86-avx2"}, ""),
        ("fp32", {}, ""),
        ("w8", {}, ""),
    ],
)
def test_a_failure_is_checked_again_in_exact_arithmetic(
    monkeypatch: pytest.MonkeyPatch, precision: str, options: dict[str, str], advice: str
) -> None:
    monkeypatch.setattr(host, "measured_host", lambda: "x86-vnni")
    assert engines(conversion(precision, **options)) == ("onnxruntime", SelfCheck(engine=EXACT, advice=advice))


@pytest.mark.parametrize(("target", "precision"), [("tflite", "fp32"), ("coreml", "fp16")])
def test_other_targets_have_their_own_default_and_nothing_behind_it(target: str, precision: str) -> None:
    assert engines(conversion(precision, target)) == (default_runtime(target), None)


def wrong_in(*broken: str) -> Any:
    """Channels swapped by the engines that are named."""

    def run(folder: Path, feeds: Mapping[str, NDArray[Any]], *, runtime: str | None = None) -> Sequence[NDArray[Any]]:
        turned = {name: feed[:, ::-1] if runtime in broken else feed for name, feed in feeds.items()}
        return execute(folder, turned, runtime=runtime)

    return run


@pytest.mark.parametrize(
    ("broken", "message", "hint"),
    [
        (
            ["onnxruntime"],
            "onnx-fp32: the file is right, it passes in onnxruntime_exact; this machine runs it wrongly: ",
            "buy another; nothing was written under its name",
        ),
        pytest.param(
            ["onnxruntime", EXACT],
            "onnx-fp32 does not compute what the model computes: ",
            "nothing was written",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_wrong_file_and_a_wrong_machine_are_told_apart(
    tmp_path: Path, broken: list[str], message: str, hint: str
) -> None:
    asked, check = conversion("fp32"), SelfCheck(engine=EXACT, advice="buy another")
    with pytest.raises(ParityFailed, match="in onnxruntime ") as caught:
        convert(asked, tmp_path, execute=wrong_in(*broken), engine="onnxruntime", self_check=check)
    assert message in caught.value.message
    assert caught.value.hint.startswith(hint)
    (kept,) = tmp_path.iterdir()
    verdict = read(kept).manifest.parity
    assert kept.name == f"{asked.folder_name}.failed"
    assert verdict is not None
    assert (verdict.engine, verdict.passed) == ("onnxruntime", False)
