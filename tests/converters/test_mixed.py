"""The choice of what stays float: the costliest under a budget, what helps alone, and refusals that say why."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evit_edge.converters import mixed
from evit_edge.converters.inspection import Inspection, Layer
from evit_edge.converters.mixed import Budget, choose
from evit_edge.models.errors import ConversionFailed, PrecisionNotMet


class Additive:
    """Each operator adds noise of its own, a direction apart from all others'."""

    def __init__(self, costs: Mapping[str, float], macs: Mapping[str, int], float_macs: int = 0) -> None:
        self.costs = costs
        self.macs = macs
        self.float_macs = float_macs
        self.asked: list[frozenset[str]] = []

    def answers(self, integer: Collection[str]) -> NDArray[Any]:
        self.asked.append(frozenset(integer))
        meant = np.eye(4, len(self.costs) + 4) * 10
        for place, (name, cost) in enumerate(self.costs.items()):
            meant[:, 4 + place] += cost if name in integer else 0
        return meant


def even(costs: Mapping[str, float]) -> Additive:
    return Additive(costs, dict.fromkeys(costs, 10))


def test_the_costliest_stay_float_as_far_as_the_budget_goes() -> None:
    form = even({f"layer{cost}": cost for cost in range(1, 11)})
    chosen = choose(form, Budget(least_int8=0.8))
    assert [each.name for each in chosen.kept] == ["layer10", "layer9"]
    assert chosen.int8_share == pytest.approx(0.8)
    assert chosen.db > chosen.kept[0].after_db > chosen.plain_db
    assert chosen.alone_db["layer10"] == pytest.approx(chosen.kept[0].alone_db)
    assert min(chosen.alone_db, key=chosen.alone_db.__getitem__) == "layer10"


def test_each_operator_is_looked_at_alone() -> None:
    form = even({"a": 1, "b": 2, "c": 3})
    choose(form, Budget(least_int8=1))
    assert {frozenset("a"), frozenset("b"), frozenset("c"), frozenset(), frozenset("abc")} == set(form.asked)


def test_a_large_operator_makes_way_for_small_ones_that_fit() -> None:
    form = Additive({"large": 9, "small": 5, "rest": 0.1}, {"large": 50, "small": 5, "rest": 45})
    assert choose(form, Budget(least_int8=0.9)).names == {"small"}


def test_what_costs_next_to_nothing_stays_int8() -> None:
    form = even({"much": 10, "nothing": 0.01, "little": 0.02})
    assert choose(form, Budget(least_int8=0.5)).names == {"much"}


def test_what_does_not_help_in_company_goes_back() -> None:
    class Cancelling(Additive):
        """One error makes good another: together they cost nothing."""

        def answers(self, integer: Collection[str]) -> NDArray[Any]:
            meant = super().answers(set(integer) - {"plus", "minus"})
            meant[:, -1] += 5.0 * ("plus" in integer) - 5.0 * ("minus" in integer)
            return meant

    form = Cancelling({"plus": 0, "minus": 0, "other": 1}, dict.fromkeys(("plus", "minus", "other"), 1))
    assert choose(form, Budget(least_int8=0.5)).names == {"other"}


def test_enough_is_enough() -> None:
    class Flipping(Additive):
        """The first class of a fourth of the images changes while `bad` is int8."""

        def answers(self, integer: Collection[str]) -> NDArray[Any]:
            meant = super().answers(integer)
            meant[0, 1] += 20.0 * ("bad" in integer)
            return meant

    costs = {"bad": 1.0, "next": 8, "third": 7, "fourth": 1}
    stopped = choose(Flipping(costs, dict.fromkeys(costs, 1)), Budget(least_int8=0.5, most_changed=0.0))
    assert stopped.names == {"bad"}
    assert stopped.changed == 0
    with pytest.raises(PrecisionNotMet, match=r"25.0% of the images .* more than 0.0%"):
        choose(Flipping(costs, dict.fromkeys(costs, 1)), Budget(least_int8=1, most_changed=0.0))


def test_a_budget_that_the_float_operators_already_break_is_refused() -> None:
    with pytest.raises(PrecisionNotMet, match=r"80.00% of the MACs can be int8 at most"):
        choose(Additive({"a": 1}, {"a": 80}, float_macs=20), Budget(least_int8=0.9))


def test_a_graph_without_an_operator_for_int8_is_refused() -> None:
    with pytest.raises(ConversionFailed, match="no operator"):
        choose(Additive({}, {}, float_macs=3), Budget(least_int8=0.9))


def test_an_answer_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ConversionFailed, match="not finite"):
        choose(even({"a": np.inf, "b": 1}), Budget(least_int8=0.5))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(1, 1000)), min_size=1, max_size=12),
    st.integers(0, 300),
    st.floats(0.5, 1),
)
def test_the_budget_is_kept_and_nothing_gets_worse(
    operators: list[tuple[float, int]], fixed: int, least: float
) -> None:
    form = Additive(
        {f"op{i}": cost for i, (cost, _) in enumerate(operators)},
        {f"op{i}": macs for i, (_, macs) in enumerate(operators)},
        fixed,
    )
    total = sum(macs for _, macs in operators) + fixed
    if (total - fixed) / total < least:
        with pytest.raises(PrecisionNotMet):
            choose(form, Budget(least_int8=least))
        return
    chosen = choose(form, Budget(least_int8=least))
    kept = sum(form.macs[name] for name in chosen.names)
    assert chosen.int8_share == pytest.approx((total - fixed - kept) / total)
    assert chosen.int8_share >= least
    assert chosen.db >= chosen.plain_db


def test_the_notes_name_each_operator_and_why() -> None:
    notes = choose(even({"patch_embed": 10, "head": 1}), Budget(least_int8=0.5)).notes
    assert notes[0].startswith("mixed: 50.0% of the MACs in int8, SQNR ")
    assert len(notes) == 2
    assert notes[1].startswith("in float: patch_embed (50.00% of the MACs), alone in int8 ")


def layer(arithmetic: str, macs: int) -> Layer:
    return Layer(
        name="", kind="Conv", weights=macs, weight_dtype="int8", weight_bytes=1, arithmetic=arithmetic, macs=macs
    )


def test_a_file_with_less_in_int8_than_promised_is_refused() -> None:
    written = Inspection(operators={}, layers=(layer("int8", 89), layer("float32", 11)), inputs=(), outputs=())
    mixed.verify(written, Budget(least_int8=0.89))
    with pytest.raises(PrecisionNotMet, match=r"89.00% of its MACs in int8, less than 90.0%"):
        mixed.verify(written, Budget(least_int8=0.9))
