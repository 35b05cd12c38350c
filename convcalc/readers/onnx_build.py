"""From an ONNX graph with known input sizes to a network: one walk that knows all shapes so far.

Shapes come from our own operators.  What depends on constants alone is not part of the network:
it is computed where it is small (`onnx_fold`), or waits until an op needs it as a tensor.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from convcalc.arithmetic import product
from convcalc.errors import ModelError, ShapeError
from convcalc.network import MAX_OPS, Network, Op, check_size, infer
from convcalc.ops import Operator
from convcalc.ops.opaque import Constant, Opaque
from convcalc.readers import custom, onnx_fold
from convcalc.readers.onnx_ops import RULES, Edge, Made, NotStatic, Use, dtype_of
from convcalc.readers.onnx_wire import Graph, Node, Tensor, Value
from convcalc.tensors import TensorSpec

DOMAINS = ("", "ai.onnx")
#: What follows a layer's name in the name of its weight.
WEIGHT = re.compile(r"(?P<layer>.+?)[._/](weight|kernel|weights|scale|gamma|[wW])(_\d+)?(:0)?")


def build(
    nodes: Sequence[Node],
    graph: Graph,
    inputs: Mapping[str, TensorSpec],
    name: str,
    *,
    batch: int = 1,
    trusted: bool = True,
) -> Network:
    """The network of `nodes`, which are in order, on `inputs`.

    `batch` is the size that the file has where the inputs here have one sample.  What the file
    itself says of shapes that we do not know is believed if `trusted`.

    Raises:
        ModelError: a node cannot take its inputs; the message names it.
    """
    builder = GraphBuilder(nodes, graph, inputs, batch, graph.declared if trusted else {})
    for node in nodes:
        builder.add(node)
    outputs = builder.outputs(value.name for value in graph.outputs)
    return Network(name, tuple(builder.ops), dict(builder.inputs), outputs, "channels_first")


class GraphBuilder:
    """The ops so far, and what runs along each edge of the graph."""

    def __init__(
        self,
        nodes: Sequence[Node],
        graph: Graph,
        inputs: Mapping[str, TensorSpec],
        batch: int,
        declared: Mapping[str, Value],
    ) -> None:
        self.batch = batch
        self.initializers = graph.initializers
        self.declared = declared
        leads = (value.dims[0] for value in graph.inputs if value.dims)
        self.batches = {size for size in leads if isinstance(size, str)}
        self.ops: list[Op] = []
        self.inputs: dict[str, TensorSpec] = {}
        self.names: set[str] = set()
        self.layers: set[str] = set()
        self.numbers: Counter[str] = Counter()
        self.uses = Counter(name for node in nodes for name in node.inputs)
        self.claims: dict[str, tuple[str, str]] = {}
        self.variables: dict[str, Any] = {}
        self.edges: dict[str, Edge] = {}
        self.layer = self.layer_type = ""
        for tensor in graph.initializers.values():
            self.edges[tensor.name] = stored_edge(tensor)
        for value in graph.inputs:
            if value.name in inputs:
                spec = inputs[value.name]
                own = self.fresh(clean(value.name), self.names)
                self.inputs[own] = spec
                self.edges[value.name] = Edge(spec, own)
            elif value.name not in self.edges:
                weight = Tensor(value.name, sizes(value), value.data_type)
                self.edges[value.name] = stored_edge(weight)
        self.layers.update(self.names)

    def fresh(self, wanted: str, taken: set[str]) -> str:
        """A name that nothing has, and that from now on something has."""
        name = wanted
        while name in taken:
            self.numbers[wanted] += 1
            name = f"{wanted}_{self.numbers[wanted]}"
        taken.add(name)
        return name

    def add(self, node: Node) -> None:
        """The edges that a node makes."""
        edges = [self.find(name, node) for name in node.inputs]
        self.layer, self.layer_type = "", node.op_type
        use = Use(self, node, edges)
        try:
            made = self.evaluate(use) or self.translate(use)
        except (ModelError, ArithmeticError) as error:
            raise self.failure(node, edges, error) from None
        except (TypeError, AttributeError, LookupError, ValueError) as error:
            reason = ShapeError(f"an attribute has a value that it cannot have ({error})")
            raise self.failure(node, edges, reason) from None
        for name, edge in zip(node.outputs, made, strict=False):
            if name:
                self.edges[name] = edge

    def find(self, name: str, node: Node) -> Edge | None:
        """What runs along an edge; None for one that is left out."""
        if not name:
            return None
        if name not in self.edges:
            raise ModelError(f"{label(node)} reads '{clean(name):.80}', which nothing makes")
        return self.edges[name]

    def failure(self, node: Node, edges: Iterable[Edge | None], error: Exception) -> ModelError:
        """The error of a node, with its name and what it was given."""
        shapes = " and ".join(str(edge.spec) for edge in edges if edge is not None)
        return ModelError(f"{label(node)} on {shapes or 'no input':.200}: {clean(str(error)):.300}")

    def evaluate(self, use: Use) -> list[Edge] | None:
        """The constants that a node makes, if it makes nothing else and they are computed."""
        node = use.node
        if node.domain not in DOMAINS:
            return None
        if node.op_type == "Constant":
            return [self.constant_node(use)]
        if node.op_type in ("Shape", "Size") and use.edge(0).spec.known:
            dims = use.edge(0).dims
            if node.op_type == "Size":
                return [number_edge(product(dims), ())]
            part = dims[use.integer("start", 0) : use.integer("end", len(dims))]
            return [number_edge(part, (len(part),))]
        known = [edge for edge in use.edges if edge is not None]
        if not known or any(edge.value is None or edge.stored for edge in known):
            return None
        if node.op_type == "ConstantOfShape" and known[0].root in self.initializers:
            return None
        attributes = {name: given.value for name, given in node.attributes.items()}
        attributes["outputs"] = len(node.outputs)
        if isinstance(attributes.get("value"), Tensor):
            attributes["value"] = stored_edge(attributes["value"]).value
        inputs = [None if edge is None else edge.value for edge in use.edges]
        values = onnx_fold.fold(node.op_type, inputs, attributes, len(node.outputs))
        if values is None:
            return None
        made = [value_edge(value) for value in values]
        for name, edge in zip(node.outputs, made, strict=False):
            edge.root = name
        return made

    def constant_node(self, use: Use) -> Edge:
        """The constant that a node holds in an attribute."""
        for name, attribute in use.node.attributes.items():
            value = attribute.value
            if isinstance(value, Tensor):
                edge = stored_edge(value)
                edge.stored, edge.root = False, next(iter(use.node.outputs), "")
                return edge
            if name in ("value_int", "value_ints", "value_float", "value_floats"):
                if value is None:
                    break
                return number_edge(value, (len(value),) if isinstance(value, tuple) else ())
        return Edge(TensorSpec(None, batch_axis=None))

    def translate(self, use: Use) -> list[Edge]:
        """What the node's rule makes; one opaque op where there is no rule, or no shape."""
        node = use.node
        self.layer = self.layer_name(use)
        rule = RULES.get(node.op_type) if node.domain in DOMAINS else None
        known = all(edge is None or edge.spec.known for edge in use.edges)
        describe = custom.find(f"{node.domain}>{node.op_type}", node.op_type)
        if describe is not None and known:
            return self.described(use, describe)
        if rule is not None and known:
            before = len(self.ops)
            try:
                made = rule(use)
                return made if isinstance(made, list) else [made]
            except NotStatic:
                # Constants that were already made for it stay: others may read them.
                del self.ops[before + sum(is_constant(op) for op in self.ops[before:]) :]
        return self.opaque(use)

    def described(self, use: Use, describe: custom.Describe) -> list[Edge]:
        """What the user says a node is made of; the constants it reads are the description's."""
        node = use.node
        edges = [edge for edge in use.edges if edge is not None and edge.name]
        name = self.fresh(self.layer, self.names)
        sources = {edge.name: edge.spec for edge in edges}
        whole = Op(name, Opaque(node.op_type), tuple(sources), self.layer, self.layer_type)
        config = {key: attribute.value for key, attribute in node.attributes.items()}
        ops = custom.described(describe, config, whole, list(sources.values()))
        _, results, _ = infer(ops, sources)
        self.ops.extend(ops)
        return [Edge(spec, whole.output(i)) for i, spec in enumerate(results[name])]

    def opaque(self, use: Use) -> list[Edge]:
        """An op that is known by its name only, and by what the file says of its outputs."""
        node = use.node
        edges = [edge for edge in use.edges if edge is not None and (edge.name or edge.stored)]
        edges = [edge for edge in edges if not edge.spec.known or product(edge.dims)]
        shapes = tuple(self.declared_shape(name) for name in node.outputs)
        return self.emit(Opaque(node.op_type, shapes or (None,), whole=True), edges, force=True)

    def declared_shape(self, name: str) -> tuple[int, ...] | None:
        """The shape that the file declares, for one sample; None if it is not known in full."""
        value = self.declared.get(name)
        if value is None or not value.dims:
            return None
        first, *rest = value.dims
        samples = first in self.batches or (self.batch > 1 and first == self.batch)
        sizes = (1 if samples else first, *rest)
        found = tuple(size for size in sizes if isinstance(size, int))
        return found if len(found) == len(sizes) else None

    def emit(
        self,
        operator: Operator,
        inputs: Sequence[Edge],
        weights: Sequence[Edge] = (),
        *,
        force: bool = False,
    ) -> list[Edge]:
        """The edges that an operator makes: an op of the network, unless all is constant.

        Raises:
            ShapeError: it cannot take the inputs, or makes something too large.
        """
        if not force and not weights and inputs and not any(edge.name for edge in inputs):
            return self.deferred(operator, inputs)
        names = tuple(self.tensor(edge) for edge in inputs)
        specs = [edge.spec for edge in inputs]
        return self.append(operator, names, specs, weights)

    def append(
        self,
        operator: Operator,
        names: tuple[str, ...],
        specs: Sequence[TensorSpec],
        weights: Sequence[Edge] = (),
    ) -> list[Edge]:
        """One more op."""
        if len(self.ops) >= MAX_OPS:
            raise ShapeError(f"the network has more than {MAX_OPS:,} ops")
        outputs = operator.outputs(*specs)
        for spec in outputs:
            check_size(spec.shape, "the output")
        own = self.layer if self.layer not in self.names else f"{self.layer}/{operator.type}"
        name = self.fresh(own, self.names)
        key = self.claim(weights, operator, specs, name) if weights else name
        dtypes = tuple(map(self.stored_as, weights))
        dtypes = dtypes if any(dtype != "float" for dtype in dtypes) else ()
        op = Op(name, operator, names, self.layer, self.layer_type, key, not dtypes, dtypes)
        self.ops.append(op)
        return [Edge(spec, op.output(i)) for i, spec in enumerate(outputs)]

    def deferred(self, operator: Operator, inputs: Sequence[Edge]) -> list[Edge]:
        """Constants that follow from constants: nothing is made until an op reads them."""
        specs = operator.outputs(*(edge.spec for edge in inputs))
        made = Made(operator, tuple(inputs))
        stored = any(edge.stored for edge in inputs)
        for spec in specs:
            check_size(spec.shape, "the output")
        root = inputs[0].root
        return [
            Edge(spec, constant=True, stored=stored, root=root, made=made, index=index)
            for index, spec in enumerate(specs)
        ]

    def tensor(self, edge: Edge) -> str:
        """The network's tensor for an edge; a constant is made, and what it follows from."""
        waiting = [edge]
        while waiting:
            last = waiting[-1]
            if last.name:
                waiting.pop()
            elif last.made is None:
                last.name = self.constant(last)
            elif last.made.names:
                last.name = last.made.names[last.index]
            elif missing := [source for source in last.made.inputs if not source.name]:
                waiting.extend(missing)
            else:
                names = tuple(source.name for source in last.made.inputs)
                specs = [source.spec for source in last.made.inputs]
                made = self.append(last.made.operator, names, specs)
                last.made.names = tuple(target.name for target in made)
        return edge.name

    def constant(self, edge: Edge) -> str:
        """A constant as an op of the layer that reads it first; a variable counts once."""
        stored = edge.stored and edge.root not in self.claims
        if stored:
            self.claims[edge.root] = (edge.root, "constant")
        operator = Constant(edge.dims, stored, stored, edge.spec.dtype)
        layer = self.layer or self.fresh(clean(edge.root) or "constant", self.layers)
        self.layer = layer
        return self.append(operator, (), ())[0].name

    def literal(self, shape: tuple[int, ...], dtype: str) -> Edge:
        """A constant that the network makes up, such as the zeros of a padding."""
        spec = TensorSpec(shape, dtype, None)
        check_size(spec.shape, "a constant")
        return Edge(spec, constant=True)

    def torn(self, weights: Sequence[Edge], kind: str) -> bool:
        """Whether variables that a `kind` of op would store are read apart, or by other kinds."""
        own = (" ".join(edge.root for edge in weights), kind)
        return len({self.uses[edge.root] for edge in weights}) > 1 or any(
            self.claims.get(edge.root, own) != own for edge in weights
        )

    def stored_as(self, edge: Edge) -> str:
        """The element type in which the file has a variable; quantized ones are not trained."""
        stored = self.initializers.get(edge.root)
        return edge.spec.dtype if stored is None else dtype_of(stored.data_type)

    def shared(self, weights: Sequence[Edge]) -> bool:
        """Whether an op has some of these variables already, or other nodes read them."""
        return any(
            edge.root in self.claims or (edge.made is None and self.uses[edge.root] > 1)
            for edge in weights
        )

    def claim(
        self,
        weights: Sequence[Edge],
        operator: Operator,
        specs: Sequence[TensorSpec],
        name: str,
    ) -> str:
        """The key under which an op's variables count: that of the op that has the same ones."""
        roots = [edge.root for edge in weights]
        key = " ".join(roots)
        for root in roots:
            self.claims.setdefault(root, (key, operator.type))
        if not all(roots) or not any(self.uses[root] > 1 for root in roots):
            return name
        variables = operator.params(*specs)
        return key if self.variables.setdefault(key, variables) == variables else name

    def outputs(self, names: Iterable[str]) -> tuple[str, ...]:
        """The network's outputs by the names of its own tensors."""
        found: dict[str, None] = {}
        for name in names:
            if name not in self.edges:
                raise ModelError(f"the output '{clean(name):.80}' is made by no node")
            edge = self.edges[name]
            self.layer, self.layer_type = "", "Constant"
            if edge.name or (edge.spec.known and product(edge.dims)):
                found[self.tensor(edge)] = None
        if not found:
            raise ModelError("the graph has no output")
        return tuple(found)

    def layer_name(self, use: Use) -> str:
        """A node's name, or that of its weight, or that of what it makes."""
        node = use.node
        name = clean(node.name).strip("/")
        if not name or numbered(name):
            slots = [use.maybe(i) for i in range(1, len(use))]
            weight = next((e.root for e in slots if e and e.constant and e.root), "")
            stem = WEIGHT.fullmatch(clean(weight))
            if stem:
                name = stem["layer"]
            elif not name:
                output = clean(node.outputs[0]) if node.outputs else ""
                named = output and not numbered(output)
                name = output if named else node.op_type.lower()
        return self.fresh(name.strip("/") or node.op_type, self.layers)


def is_constant(op: Op) -> bool:
    return isinstance(op.operator, Constant)


def clean(name: str) -> str:
    """A name without what ends lines, or tells the outputs of an op apart (":")."""
    name = name.replace(":", "_")
    return name if name.isprintable() else "".join(c if c.isprintable() else "?" for c in name)


def numbered(name: str) -> bool:
    """Whether a name is one that exporters number through: the weight's name says more."""
    plain = name.replace("_", "", 1)
    return name.startswith("node_") or (plain.isalnum() and name[-1].isdigit())


def label(node: Node) -> str:
    """What a message calls a node."""
    named = node.name or (node.outputs[0] if node.outputs else "")
    return f"node '{clean(named):.80}' ({clean(node.op_type):.40})"


def stored_edge(tensor: Tensor) -> Edge:
    """A tensor of the file.  A single number without axes is no variable: exporters write the
    literals of the source so."""
    dtype = dtype_of(tensor.data_type) if tensor.data_type != 8 else "uint8"
    value = None
    if tensor.values is not None:
        value = onnx_fold.array(tensor.values, tensor.data_type, tensor.dims)
    spec = TensorSpec(tensor.dims, dtype, None)
    variable = dtype == "float" and bool(tensor.dims)
    return Edge(spec, constant=True, value=value, stored=variable, root=tensor.name)


def value_edge(value: Any) -> Edge:
    """A constant of which the numbers are known."""
    dtype = {"f": "float", "b": "bool"}.get(value.dtype.kind, "int64")
    return Edge(TensorSpec(value.shape, dtype, None), constant=True, value=value)


def number_edge(values: Any, shape: tuple[int, ...]) -> Edge:
    """A constant of a number or a list of numbers."""
    import numpy as np

    numbers = [values] if not shape else list(values)
    whole = all(isinstance(number, int) for number in numbers)
    return value_edge(np.array(numbers, dtype="int64" if whole else "float64").reshape(shape))


def sizes(value: Value) -> tuple[int, ...]:
    """The sizes of a graph input that is a weight."""
    return tuple(size for size in value.dims or () if isinstance(size, int))
