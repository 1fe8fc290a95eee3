"""What a program computes of its weights and of plain numbers alone: PyTorch computes it here, once and for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import fx


def constant_nodes(program: torch.export.ExportedProgram) -> list[fx.Node]:
    """The nodes that no input reaches, in the order of execution; none that changes a tensor, or is random."""
    given = set(program.graph_signature.user_inputs)
    found: dict[fx.Node, None] = {}
    for node in program.graph.nodes:
        if node.name not in given and _is_repeatable(node) and all(source in found for source in node.all_input_nodes):
            found[node] = None
    return list(found)


def _is_repeatable(node: fx.Node) -> bool:
    import torch

    if node.op != "call_function":
        return bool(node.op == "placeholder")
    if not isinstance(node.target, torch._ops.OpOverload):
        return not isinstance(node.target, torch._ops.OperatorBase)
    return not node.target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in node.target.tags


def constants(program: torch.export.ExportedProgram) -> dict[fx.Node, Any]:
    """What each of `constant_nodes` holds."""
    import torch

    values: dict[fx.Node, Any] = {}
    held = _held(program)
    with torch.no_grad():
        for node in constant_nodes(program):
            if node.op == "placeholder":
                values[node] = held.get(node.name)
            else:
                arguments, keywords = torch.fx.node.map_arg((node.args, dict(node.kwargs)), values.__getitem__)
                values[node] = node.target(*arguments, **keywords)  # type: ignore[operator]
    return values


def _held(program: torch.export.ExportedProgram) -> dict[str, torch.Tensor | None]:
    """Parameters, buffers and constants by the name of their placeholder."""
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    tensors = {name: program.state_dict.get(target, program.constants.get(target)) for name, target in names.items()}
    tensors |= {name: program.constants[target] for name, target in signature.inputs_to_lifted_tensor_constants.items()}
    return {name: None if tensor is None else tensor.detach() for name, tensor in tensors.items()}


def on_sizes(node: fx.Node) -> bool:
    """Whether the node computes with sizes, or takes a list apart: Python's own operators and `sym_size`."""
    from torch._ops import OperatorBase

    return not isinstance(node.target, OperatorBase) or "sym_size" in str(node.target)
