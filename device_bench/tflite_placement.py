"""How much of a TFLite file the delegate took."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from .record import Placement

DELEGATE: Final = "DELEGATE"

Node = Mapping[str, Any]


def placement(engine: Any, *, delegate: str | None) -> Placement | None:
    """What `delegate` runs of an allocated `Interpreter`'s main graph; None if this version does not list its nodes.

    The interpreter keeps the file's nodes and appends one `DELEGATE` node a partition, without saying which
    nodes it stands for. They are found from its outputs backwards to its inputs, and their number is the one that
    the interpreter itself logs ("Replacing 304 out of 372 node(s)") where its log can be made that talkative.
    """
    nodes: list[Node] = []
    # The list is private and differs between versions: a measurement must not be lost for it.
    with suppress(AttributeError, ValueError, RuntimeError):
        nodes = engine._get_ops_details()
    if not nodes:
        return None
    own = [node for node in nodes if node["op_name"] != DELEGATE]
    partitions = [node for node in nodes if node["op_name"] == DELEGATE]
    makers = {int(tensor): node for node in own for tensor in node["outputs"]}
    taken = set().union(*(_behind(partition, makers) for partition in partitions))
    return Placement(delegate=delegate, nodes_taken=len(taken), nodes=len(own), partitions=len(partitions))


def _behind(partition: Node, makers: Mapping[int, Node]) -> set[int]:
    """The indices of the nodes that lead from the inputs of `partition` to its outputs."""
    seen = {int(tensor) for tensor in partition["inputs"]}
    pending = [int(tensor) for tensor in partition["outputs"]]
    found: set[int] = set()
    while pending:
        tensor = pending.pop()
        if tensor in seen or tensor not in makers:
            continue
        seen.add(tensor)
        found.add(int(makers[tensor]["index"]))
        pending.extend(int(source) for source in makers[tensor]["inputs"])
    return found
