"""What is held against what: side by side where it can be measured, by history where it cannot, never mixed up."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from evit_edge.device_bench import comparison, duel, plan
from evit_edge.device_bench.plan import Cell
from evit_edge.device_bench.result import Result
from evit_edge.models.errors import Unsupported

from .conftest import DEVICE, MakeArtifact, MakeResult, make_trial

MS = 1_000_000


def trials(factor: float, *, count: int = 20, place: int = 0) -> tuple[Any, ...]:
    """Rounds in which the machine itself varies by more than the factor; who is first takes turns."""
    found = []
    for number in range(count):
        ns = round(2 * MS * factor * (1 + 0.05 * (number % 5)))
        trial = make_trial(number, samples_ns=(ns, ns + 1000, ns + 2000))
        found.append(trial.model_copy(update={"order": (number + place) % 2}))
    return tuple(found)


class Machine:
    """Gives results of a session of its own, 20 % slower for artifacts called so."""

    def __init__(self, make_result: MakeResult) -> None:
        self.make_result = make_result
        self.sessions = 0
        self.factor = 1.2

    def __call__(self, cells: Sequence[Cell]) -> list[Result]:
        self.sessions += 1
        return [
            self.make_result(
                session=f"new {self.sessions}",
                trials=trials(self.factor if "slow" in cell.artifact.folder.name else 1.0, place=min(place, 1)),
                artifact_digest=cell.artifact.digest,
                artifact_path=str(cell.artifact.folder),
            )
            for place, cell in enumerate(cells)
        ]


@pytest.fixture
def machine(make_result: MakeResult) -> Machine:
    return Machine(make_result)


def kinds(found: Sequence[comparison.Comparison]) -> list[str]:
    return [each.verdict.kind for each in found]


def test_the_first_artifact_is_the_baseline_of_the_others(make_artifact: MakeArtifact, machine: Machine) -> None:
    cells = plan.cells([make_artifact(name) for name in ("a", "b", "slow")])
    found = duel.settle(duel.of_cells(cells), machine)
    assert machine.sessions == 1
    assert [each.baseline.artifact_path for each in found] == [str(cells[0].artifact.folder)] * 2
    assert kinds(found) == ["same", "slower"]
    assert found[1].verdict.change == pytest.approx(0.2, abs=0.001)
    assert found[1].is_regression(0.05)
    assert not found[1].is_regression(0.3)
    assert not found[0].is_regression(0.0)


def test_other_threads_and_batches_are_not_held_against_each_other(make_artifact: MakeArtifact) -> None:
    cells = plan.cells([make_artifact("a"), make_artifact("b")], threads=[1, 2])
    found = duel.of_cells(cells)
    assert [(each.baseline.threads, each.candidate.threads) for each in found] == [(1, 1), (2, 2)]


def test_one_thing_alone_has_nothing_to_be_compared_with(make_artifact: MakeArtifact, make_result: MakeResult) -> None:
    with pytest.raises(Unsupported, match="nothing to compare"):
        duel.of_cells(plan.cells([make_artifact()]))
    with pytest.raises(Unsupported, match="side by side"):
        duel.of_results([make_result(session="one"), make_result(session="two")])


def test_results_of_one_session_are_judged_without_measuring(make_result: MakeResult, machine: Machine) -> None:
    results = [make_result(trials=trials(1.0)), make_result(trials=trials(1.2, place=1), precision="int8")]
    assert kinds(duel.settle(duel.of_results(results), machine)) == ["slower"]
    assert machine.sessions == 0


def test_a_baseline_at_hand_is_measured_again_side_by_side(
    make_artifact: MakeArtifact, make_result: MakeResult, machine: Machine
) -> None:
    old, new = make_artifact("old"), make_artifact("slow")
    # What was found then, on a machine that was twice as slow, does not count any more.
    record = make_result(artifact_digest=old.digest, artifact_path=str(old.folder), trials=trials(2.0))
    (found,) = duel.settle(duel.against([record], [new]), machine)
    assert machine.sessions == 1
    assert found.verdict.kind == "slower"
    assert found.verdict.change == pytest.approx(0.2, abs=0.001)


@pytest.mark.parametrize("how", ["gone", "changed", "not recorded"])
def test_a_baseline_that_is_not_there_any_more_leaves_a_suspicion(
    make_artifact: MakeArtifact, make_result: MakeResult, machine: Machine, how: str
) -> None:
    old, new = make_artifact("old"), make_artifact("slow")
    path = {"gone": str(old.folder / "gone"), "changed": str(old.folder), "not recorded": None}[how]
    digest = "9" * 64 if how == "changed" else old.digest
    record = make_result(session="old", artifact_digest=digest, artifact_path=path, trials=trials(1.0))
    (found,) = duel.settle(duel.against([record], [new]), machine)
    assert machine.sessions == 1
    assert (found.verdict.kind, found.verdict.suspected) == ("inconclusive", True)
    assert found.is_regression(0.05)


def test_results_find_their_own_baseline_and_the_latest_of_it(make_result: MakeResult, machine: Machine) -> None:
    old = [
        make_result(session="1", trials=trials(3.0)),
        make_result(session="2", trials=trials(1.0)),
        make_result(session="2", threads=2, trials=trials(9.0)),
    ]
    new = [make_result(session="3", trials=trials(1.0)), make_result(session="3", runtime="other")]
    (found,) = duel.settle(duel.against(old, new), machine)
    assert (found.baseline, found.candidate) == (old[1], new[0])
    assert (found.verdict.kind, found.verdict.suspected) == ("inconclusive", False)


def test_what_has_no_baseline_at_all_is_refused(make_artifact: MakeArtifact, make_result: MakeResult) -> None:
    with pytest.raises(Unsupported, match="baseline"):
        duel.against([make_result()], [make_result(batch=2)])
    with pytest.raises(Unsupported, match="baseline"):
        duel.against([make_result(precision="int8")], [make_artifact()])


def test_records_of_different_machines_raise_no_suspicion(make_result: MakeResult) -> None:
    other = DEVICE.model_copy(update={"cpu": "Another CPU"})
    old, new = make_result(session="1", trials=trials(1.0)), make_result(session="2", trials=trials(3.0))
    (suspected,) = comparison.with_history([(old, new)])
    (told,) = comparison.with_history([(old, new.model_copy(update={"device": other}))])
    assert suspected.verdict.suspected
    assert (told.verdict.suspected, told.verdict.reason) == (False, "measured on different machines")


def test_a_change_within_the_noise_of_its_machine_is_none(make_result: MakeResult) -> None:
    pair = (make_result(trials=trials(1.0)), make_result(trials=trials(1.2, place=1)))
    (quiet,) = comparison.side_by_side([pair], noise_floor=lambda device: None)
    (noisy,) = comparison.side_by_side([pair], noise_floor=lambda device: 0.3 if device == DEVICE else None)
    assert (quiet.verdict.kind, noisy.verdict.kind) == ("slower", "inconclusive")
    assert "within the noise of 30.0%" in noisy.verdict.reason


def test_a_regression_is_measured_again_where_it_can_be(
    make_artifact: MakeArtifact, make_result: MakeResult, machine: Machine
) -> None:
    cells = plan.cells([make_artifact("a"), make_artifact("slow"), make_artifact("b")])
    recorded = duel.Duel(
        baseline=make_result(trials=trials(1.0)), candidate=make_result(trials=trials(1.5, place=1), precision="int8")
    )
    duels = [*duel.of_cells(cells), recorded]
    found = duel.settle(duels, machine)
    slower = duel.regressed(duels, found, machine, most=0.05)
    assert machine.sessions == 2
    assert len(slower.again) == len(slower.confirmed) == 1
    assert slower.confirmed[0].candidate.artifact_path == str(cells[1].artifact.folder)
    assert [each.candidate.precision for each in slower.recorded] == ["int8"]
    calm = Machine(make_result)
    calm.factor = 1.0
    assert not duel.regressed(duels, found, calm, most=0.05).confirmed
    assert not duel.regressed(duels, found, calm, most=0.6).again


def test_of_many_comparisons_some_differ_by_chance(make_result: MakeResult) -> None:
    pair = (make_result(trials=trials(1.0, count=10)), make_result(trials=trials(1.2, count=10, place=1)))
    same = (make_result(trials=trials(1.0, count=10)), make_result(trials=trials(1.0, count=10, place=1)))
    assert kinds(comparison.side_by_side([pair])) == ["slower"]
    assert kinds(comparison.side_by_side([pair, *[same] * 20])).count("slower") == 0


def test_the_minimum_can_stand_for_a_process(make_result: MakeResult) -> None:
    def noisy(factor: float) -> tuple[Any, ...]:
        return tuple(
            trial.model_copy(
                update={
                    "timing": trial.timing.model_copy(
                        update={"samples_ns": (*trial.timing.samples_ns[:1], 10**9, 10**9)}
                    )
                }
            )
            for trial in trials(factor, place=int(factor > 1))
        )

    pair = (make_result(trials=noisy(1.0)), make_result(trials=noisy(1.2)))
    assert kinds(comparison.side_by_side([pair], metric="median")) == ["same"]
    assert kinds(comparison.side_by_side([pair], metric="min")) == ["slower"]


def test_a_row_reads_as_a_person_would_say_it(make_result: MakeResult) -> None:
    (found,) = comparison.side_by_side(
        [(make_result(trials=trials(1.0)), make_result(trials=trials(1.2, place=1), precision="int8", threads=2))]
    )
    (row,) = comparison.rows([found])
    cells = comparison.cells(row)
    assert cells[:3] == ["linear onnx fp32 in onnxruntime", "linear onnx int8 in onnxruntime, 2 threads", "slower"]
    assert cells[3].startswith("+20.0% [")
    assert cells[5] == "20"
    assert len(cells) == len(comparison.COLUMNS)


def test_json_is_of_the_published_schema(make_result: MakeResult) -> None:
    published = Path(__file__).parents[2] / "docs" / "compare.schema.json"
    assert json.loads(published.read_text()) == comparison.schema()
    pairs = [(make_result(), make_result(session="other")), (make_result(), make_result(trials=()))]
    for found in (comparison.side_by_side(pairs), comparison.with_history(pairs[:1])):
        jsonschema.validate([asdict(row) for row in comparison.rows(found)], comparison.schema())
