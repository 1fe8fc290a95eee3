import pickle

import pytest

from evit_edge.models import errors
from evit_edge.models.errors import EdgeError, UnknownName, error_named


def every_kind(kind: type[EdgeError] = EdgeError) -> list[type[EdgeError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in every_kind(child))]


OURS = [kind for kind in every_kind() if kind.__module__ == errors.__name__]


def test_the_tree_in_the_docstring_is_the_tree_with_its_exit_codes() -> None:
    lines = [line.split() for line in (errors.__doc__ or "").splitlines() if "─" in line]
    drawn = {words[1] if words[0] != "│" else words[2]: int(next(w for w in words if w.isdigit())) for words in lines}
    assert drawn == {kind.__name__: kind.exit_code for kind in OURS if kind is not EdgeError}


@pytest.mark.parametrize("kind", OURS)
def test_an_error_keeps_its_kind_message_and_hint_across_processes(kind: type[EdgeError]) -> None:
    again = pickle.loads(pickle.dumps(kind("what", "do")))
    assert (type(again), again.message, again.hint) == (kind, "what", "do")
    assert error_named(kind.__name__) is kind


def test_a_mistyped_name_is_answered_with_the_nearest() -> None:
    assert "did you mean efficientvit_m4?" in str(
        UnknownName.among("model", "eficientvit_m4", ["efficientvit_m4", "x"])
    )
    assert "known: a, b" in str(UnknownName.among("model", "zzzz", ["b", "a"]))
