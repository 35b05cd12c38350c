"""Functions that a model brings along, put in the place of the nodes that call them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from convcalc.errors import ModelError
from convcalc.network import MAX_OPS
from convcalc.readers.onnx_wire import Attribute, Function, Graph, Model, Node

#: Functions within functions; exporters need one level for each module that contains another.
MAX_DEPTH = 64

Key = tuple[str, str, str]


def inlined(model: Model, graph: Graph) -> list[Node]:
    """The graph's nodes without calls.

    Raises:
        ModelError: functions call themselves, or unfold to more nodes than a network has.
    """
    for node in graph.nodes:
        node.opset = model.opset
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    if not any(key_of(node) in functions for node in graph.nodes):
        return graph.nodes
    sizes: dict[Key, int] = {}
    total = sum(size(key_of(node), functions, sizes, 0) for node in graph.nodes)
    if total > MAX_OPS:
        raise ModelError(f"its functions unfold to more than {MAX_OPS:,} nodes")
    found: list[Node] = []
    for number, node in enumerate(graph.nodes):
        found.extend(unfolded(node, functions, f"call{number}"))
    return found


def key_of(node: Node) -> Key:
    """What a node calls."""
    return ("" if node.domain == "ai.onnx" else node.domain, node.op_type, node.overload)


def size(key: Key, functions: Mapping[Key, Function], sizes: dict[Key, int], depth: int) -> int:
    """How many nodes a call becomes."""
    if key not in functions:
        return 1
    if key not in sizes:
        if depth > MAX_DEPTH:
            raise ModelError(f"its functions call themselves, or are {MAX_DEPTH} deep")
        inner = functions[key].nodes
        sizes[key] = sum(size(key_of(node), functions, sizes, depth + 1) for node in inner)
    return sizes[key]


def unfolded(node: Node, functions: Mapping[Key, Function], prefix: str) -> Iterator[Node]:
    """The nodes that stand for a call, with names of their own."""
    function = functions.get(key_of(node))
    if function is None:
        yield node
        return
    renamed = {"": ""}
    renamed.update(zip(function.inputs, node.inputs, strict=False))
    # Inputs that the call leaves out at the end are left out within.
    renamed.update(dict.fromkeys(function.inputs[len(node.inputs) :], ""))
    outputs = zip(function.outputs, node.outputs, strict=False)
    renamed.update({inner: outer for inner, outer in outputs if outer and inner not in renamed})
    for inner, outer in zip(function.outputs, node.outputs, strict=False):
        if outer and renamed[inner] != outer:
            yield Node("Identity", inputs=[renamed[inner]], outputs=[outer], opset=node.opset)
    for number, part in enumerate(function.nodes):
        names = [(name, renamed.setdefault(name, f"{prefix}/{name}")) for name in part.outputs]
        copy = replace(
            part,
            name="/".join(filter(None, (node.name or function.name, part.name))),
            inputs=[renamed.get(name, f"{prefix}/{name}") for name in part.inputs],
            outputs=[new for _, new in names],
            attributes={
                name: resolved(attribute, node, function)
                for name, attribute in part.attributes.items()
                if not attribute.reference or given(attribute, node, function)
            },
            opset=part.opset or node.opset,
        )
        yield from unfolded(copy, functions, f"{prefix}/{number}")


def given(attribute: Attribute, node: Node, function: Function) -> bool:
    """Whether the call, or the function's default, gives the value of a reference."""
    return attribute.reference in node.attributes or attribute.reference in function.defaults


def resolved(attribute: Attribute, node: Node, function: Function) -> Attribute:
    """An attribute with the value that its reference has in this call."""
    if not attribute.reference:
        return attribute
    source = node.attributes.get(attribute.reference) or function.defaults[attribute.reference]
    return replace(attribute, value=source.value, reference="")
