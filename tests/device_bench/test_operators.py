"""Where the time goes: every operator once, shares that add up, and kinds that are counted as what they are."""

import pytest

from evit_edge.device_bench.device import connect
from evit_edge.device_bench.job import ProfileJob, ask
from evit_edge.device_bench.operators import bucket, kinds, memory_bound
from evit_edge.device_bench.record import OperatorTime, Profile
from evit_edge.models.errors import Unsupported

from .conftest import MakeArtifact
from .tflite_models import INPUTS, OUTPUTS, linear


@pytest.mark.parametrize(
    ("kind", "counted"),
    [
        ("Conv", "compute"),
        ("FusedMatMul", "compute"),
        ("QLinearConv", "compute"),
        ("QGemm", "compute"),
        ("aten::addmm", "compute"),
        ("aten::mm", "compute"),
        ("Reshape", "moving"),
        ("Add", "moving"),
        ("ReorderInput", "moving"),
        ("LayerNormalization", "moving"),
        ("aten::native_batch_norm", "moving"),
        ("Softmax", "elementwise"),
        ("QuantizeLinear", "elementwise"),
        ("ReduceMean", "elementwise"),
        ("aten::sum", "other"),
    ],
)
def test_a_kind_is_counted_as_what_it_is(kind: str, counted: str) -> None:
    assert bucket(kind) == counted


def test_kinds_are_summed_and_the_longest_comes_first() -> None:
    operators = [
        OperatorTime(name=name, kind=kind, ns=ns)
        for name, kind, ns in [("a", "Conv", 30.0), ("b", "Add", 10.0), ("c", "Conv", 50.0), ("d", "Relu", 10.0)]
    ]
    found = kinds(operators)
    assert [(kind.name, kind.count, kind.ns, kind.share) for kind in found] == [
        ("Conv", 2, 80.0, 0.8),
        ("Add", 1, 10.0, 0.1),
        ("Relu", 1, 10.0, 0.1),
    ]
    assert memory_bound(found) == pytest.approx((0.1, 0.2))


def test_nothing_has_no_kinds() -> None:
    assert kinds([]) == []
    assert memory_bound([]) == (0, 0)


def profiled(artifact: str, runtime: str) -> Profile:
    job = ProfileJob(artifact=artifact, runtime=runtime, threads=1, batch=2, seed=0)
    return ask(connect("local"), job, answer=Profile, timeout_s=120)


def test_onnxruntime_names_every_node_that_runs(make_artifact: MakeArtifact) -> None:
    found = profiled(str(make_artifact().folder), "onnxruntime")
    assert [each.kind for each in found.operators][-2:] == ["MatMul", "Softmax"]
    assert all(each.ns > 0 for each in found.operators)
    assert found.runs == 50


def test_an_engine_that_tells_nothing_is_refused(make_tflite: MakeArtifact) -> None:
    artifact = make_tflite(linear(), inputs=INPUTS, outputs=OUTPUTS)
    with pytest.raises(Unsupported, match="does not tell the time of operators"):
        profiled(str(artifact.folder), "litert")
