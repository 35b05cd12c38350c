"""The structure in an ONNX file, read from its protobuf encoding; the weights are stepped over.

A protobuf message is a sequence of fields, each a key (number and wire type) and a value; values of
varying length say how long they are.  So whatever is not wanted is skipped by adding its length to
the position, and of a file of 2 GB only a few hundred kilobytes are ever read.  The numbers below
are those of ``onnx.proto``.  Nothing that a file names elsewhere (external data) is opened.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from convcalc.arithmetic import INT64_MAX
from convcalc.errors import ModelError
from convcalc.network import MAX_OPS

#: Messages up to this size are read whole; of larger ones only windows of this size.
CHUNK = 1 << 14
#: Fields that are looked at in one file, about ten for each node.
MAX_FIELDS = 10_000_000
MAX_NAME = 4096
MAX_RANK = 64
#: Elements of a tensor whose values are read: shapes, indices, scales.
MAX_VALUES = 4096
#: The same for floats, which are weights if there are many.
MAX_FLOATS = 1024
#: Elements of an attribute's list that are read; a longer list is taken as not given.
MAX_LIST = 10_000

#: ``TensorProto.DataType`` by its number: our dtype, and how `struct` reads an element (or None).
DATA_TYPES: dict[int, tuple[str, str | None]] = {
    1: ("float", "f"),
    2: ("uint8", "B"),
    3: ("int8", "b"),
    4: ("int16", "H"),
    5: ("int16", "h"),
    6: ("int32", "i"),
    7: ("int64", "q"),
    9: ("bool", "?"),
    10: ("float", "e"),
    11: ("float", "d"),
    12: ("int32", "I"),
    13: ("int64", "Q"),
    14: ("complex64", None),
    15: ("complex128", None),
    16: ("float", None),
    17: ("float8", None),
    18: ("float8", None),
    19: ("float8", None),
    20: ("float8", None),
    21: ("uint8", None),
    22: ("int8", None),
    23: ("float8", None),
    24: ("float8", None),
    25: ("uint8", None),
    26: ("int8", None),
}
STRING = 8

#: What an attribute of a type is if no value was written: writers leave out zeros.
EMPTY = {1: 0.0, 2: 0, 3: "", 6: (), 7: (), 8: ()}


def varying(number: int) -> int:
    """The key of a field with a varint."""
    return number << 3


def sized(number: int) -> int:
    """The key of a field that says its length: text, message, packed list."""
    return number << 3 | 2


def fixed(number: int) -> int:
    """The key of a field of four bytes: a float."""
    return number << 3 | 5


@dataclass(slots=True)
class Tensor:
    """What is known of a stored tensor; `values` only if it has at most `MAX_VALUES` elements."""

    name: str = ""
    dims: tuple[int, ...] = ()
    data_type: int = 0
    values: tuple[Any, ...] | None = None


@dataclass(slots=True)
class Attribute:
    """A node's attribute; a value of None is there but cannot be had (a subgraph, a long list)."""

    name: str = ""
    value: Any = None
    reference: str = ""
    """The attribute of the enclosing function that gives the value."""


@dataclass(slots=True)
class Node:
    """One use of an ONNX operator; an empty name among the inputs is one that is left out."""

    op_type: str = ""
    domain: str = ""
    overload: str = ""
    name: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Attribute] = field(default_factory=dict)
    opset: int = 0
    """The version of the ONNX operators that it is written for; filled in by who knows it."""


@dataclass(slots=True)
class Value:
    """A tensor that the graph declares; a size is a number, a symbol, or None."""

    name: str = ""
    data_type: int = 0
    dims: tuple[int | str | None, ...] | None = None
    is_tensor: bool = True


@dataclass(slots=True)
class Graph:
    """The graph of a model."""

    name: str = ""
    nodes: list[Node] = field(default_factory=list)
    initializers: dict[str, Tensor] = field(default_factory=dict)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    declared: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True)
class Function:
    """A function that the model brings along."""

    name: str = ""
    domain: str = ""
    overload: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    defaults: dict[str, Attribute] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    opset: int = 0


@dataclass(slots=True)
class Model:
    """An ONNX file's structure."""

    opset: int = 0
    graph: Graph | None = None
    functions: list[Function] = field(default_factory=list)


class Window:
    """A file as a sequence of bytes, of which one chunk is held."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.start = 0
        self.chunk = b""

    def __getitem__(self, at: int) -> int:
        offset = at - self.start
        if not 0 <= offset < len(self.chunk):
            self.start, self.chunk = at, self.read(at, at + CHUNK)
            offset = 0
        return self.chunk[offset]

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`."""
        self.file.seek(start)
        return self.file.read(end - start)


Bytes = bytes | Window


def read_model(path: Path) -> Model:
    """The structure of an ONNX file.

    Raises:
        ModelError: it cannot be opened, is no ONNX, breaks off, or is larger than any network.
    """
    try:
        with path.open("rb", buffering=0) as file:
            return Parser().model(Window(file), path.stat().st_size)
    except OSError as error:
        raise ModelError(f"it cannot be read: {error.strerror}") from None
    except IndexError:
        raise ModelError("it became shorter while it was read") from None


def varint(buf: Bytes, pos: int, end: int) -> tuple[int, int]:
    """A number in base 128, and where it ends."""
    value = shift = 0
    while pos < end and shift < 70:
        byte = buf[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, pos
        shift += 7
    raise ModelError("it is no ONNX file, or damaged: a number breaks off or never ends")


def signed(value: int) -> int:
    """A varint as the int64 that it stands for."""
    return value - (1 << 64) if value >> 63 else value


class Parser:
    """Reads messages; counts the fields that it looks at, so that no file can keep it busy."""

    def __init__(self) -> None:
        self.left = MAX_FIELDS

    def fields(self, buf: Bytes, pos: int, end: int) -> Iterator[tuple[int, int, int]]:
        """(key, number, 0) or (key, start, end) of each field between `pos` and `end`."""
        while pos < end:
            self.left -= 1
            if self.left < 0:
                raise ModelError(f"it has more than {MAX_FIELDS:,} fields, more than any network")
            key = buf[pos]
            pos += 1
            if key >= 0x80:
                key, pos = varint(buf, pos - 1, end)
            wire = key & 7
            if wire == 0:
                number, pos = varint(buf, pos, end)
                yield key, number, 0
                continue
            if wire == 2:
                size, pos = varint(buf, pos, end)
            elif wire == 5:
                size = 4
            elif wire == 1:
                size = 8
            else:
                raise ModelError("it is no ONNX file, or damaged: a field of an unknown kind")
            if size > end - pos or key < 8:
                raise ModelError("it is truncated or damaged: a field is longer than what is left")
            yield key, pos, pos + size
            pos += size

    def message(self, buf: Bytes, start: int, end: int) -> Iterator[tuple[Bytes, int, int, int]]:
        """The fields of a message, with the bytes that they lie in: in memory if it is small."""
        if isinstance(buf, Window) and end - start <= CHUNK:
            buf = buf.read(start, end)
            start, end = 0, len(buf)
        for key, a, b in self.fields(buf, start, end):
            yield buf, key, a, b

    def model(self, buf: Bytes, size: int) -> Model:
        """ModelProto."""
        found = Model()
        for inner, key, a, b in self.message(buf, 0, size):
            if key == sized(7):
                if found.graph is not None:
                    raise ModelError("it has two graphs")
                found.graph = self.graph(inner, a, b)
            elif key == sized(8):
                domain, version = self.opset(inner, a, b)
                if domain in ("", "ai.onnx"):
                    found.opset = version
            elif key == sized(25):
                found.functions.append(self.function(inner, a, b))
        if found.graph is None:
            raise ModelError("it holds no graph, so it is no ONNX model")
        return found

    def opset(self, buf: Bytes, start: int, end: int) -> tuple[str, int]:
        """OperatorSetIdProto."""
        domain, version = "", 0
        for inner, key, a, b in self.message(buf, start, end):
            if key == sized(1):
                domain = text(inner, a, b)
            elif key == varying(2):
                version = signed(a)
        return domain, version

    def graph(self, buf: Bytes, start: int, end: int) -> Graph:
        """GraphProto."""
        # Counted before any is made: a million nodes take a while, ten million fail at once.
        count = 0
        for key, _, _ in self.fields(buf, start, end):
            count += key == sized(1)
            if count > MAX_OPS:
                raise ModelError(f"it has more than {MAX_OPS:,} nodes")
        found = Graph()
        for inner, key, a, b in self.message(buf, start, end):
            if key == sized(1):
                found.nodes.append(self.node(inner, a, b))
            elif key == sized(2):
                found.name = text(inner, a, b)
            elif key == sized(5):
                tensor = self.tensor(inner, a, b)
                found.initializers[tensor.name] = tensor
            elif key in (sized(11), sized(12), sized(13)):
                value = self.value(inner, a, b)
                found.declared[value.name] = value
                if key == sized(11):
                    found.inputs.append(value)
                elif key == sized(12):
                    found.outputs.append(value)
            elif key == sized(15):
                tensor = self.sparse(inner, a, b)
                found.initializers[tensor.name] = tensor
        return found

    def function(self, buf: Bytes, start: int, end: int) -> Function:
        """FunctionProto."""
        found = Function()
        for inner, key, a, b in self.message(buf, start, end):
            if key == sized(1):
                found.name = text(inner, a, b)
            elif key == sized(4):
                found.inputs.append(text(inner, a, b))
            elif key == sized(5):
                found.outputs.append(text(inner, a, b))
            elif key == sized(7):
                found.nodes.append(self.node(inner, a, b))
            elif key == sized(9):
                domain, version = self.opset(inner, a, b)
                if domain in ("", "ai.onnx"):
                    found.opset = version
            elif key == sized(10):
                found.domain = text(inner, a, b)
            elif key == sized(11):
                default = self.attribute(inner, a, b)
                found.defaults[default.name] = default
            elif key == sized(13):
                found.overload = text(inner, a, b)
        for node in found.nodes:
            node.opset = found.opset
        return found

    def node(self, buf: Bytes, start: int, end: int) -> Node:
        """NodeProto."""
        found = Node()
        for inner, key, a, b in self.message(buf, start, end):
            if key == 0x0A:
                found.inputs.append(text(inner, a, b))
            elif key == 0x12:
                found.outputs.append(text(inner, a, b))
            elif key == 0x1A:
                found.name = text(inner, a, b)
            elif key == 0x22:
                found.op_type = text(inner, a, b)
            elif key == 0x2A:
                attribute = self.attribute(inner, a, b)
                found.attributes[attribute.name] = attribute
            elif key == 0x3A:
                found.domain = text(inner, a, b)
            elif key == 0x42:
                found.overload = text(inner, a, b)
        if not found.op_type:
            raise ModelError("it has a node without an operator")
        return found

    def attribute(self, buf: Bytes, start: int, end: int) -> Attribute:
        """AttributeProto; a subgraph is not looked into, so no nesting is too deep."""
        found = Attribute()
        items: list[Any] = []
        full = False
        empty: Any = None
        for inner, key, a, b in self.message(buf, start, end):
            if key == sized(1):
                found.name = text(inner, a, b)
            elif key == sized(21):
                found.reference = text(inner, a, b)
            elif key == fixed(2):
                (found.value,) = struct.unpack("<f", cut(inner, a, b))
            elif key == varying(3):
                found.value = signed(a)
            elif key == sized(4):
                found.value = text(inner, a, b) if b - a <= MAX_NAME else None
            elif key == sized(5):
                found.value = self.tensor(inner, a, b)
            elif len(items) > MAX_LIST:
                full = True
            elif key == fixed(7):
                items.extend(struct.unpack("<f", cut(inner, a, b)))
            elif key == sized(7):
                full |= b - a > 4 * MAX_LIST
                items.extend(() if full else numbers(inner, a, b, "f"))
            elif key == varying(8):
                items.append(signed(a))
            elif key == sized(8):
                full |= b - a > MAX_LIST
                items.extend(() if full else varints(inner, a, b))
            elif key == sized(9):
                items.append(text(inner, a, b) if b - a <= MAX_NAME else "")
            elif key == varying(20):
                empty = EMPTY.get(a)
        if full:
            found.value = None
        elif items:
            found.value = tuple(items)
        elif found.value is None and not found.reference:
            found.value = empty
        return found

    def tensor(self, buf: Bytes, start: int, end: int) -> Tensor:
        """TensorProto without its data, unless they are few numbers."""
        found = Tensor()
        dims: list[int] = []
        stored: tuple[Bytes, int, int, int] | None = None
        single: list[Any] = []
        external = False
        for inner, key, a, b in self.message(buf, start, end):
            if key == varying(1):
                dims.append(signed(a))
            elif key == sized(1):
                if b - a > 10 * MAX_RANK:
                    raise ModelError("a tensor has too many axes")
                dims.extend(varints(inner, a, b))
            elif key == varying(2):
                found.data_type = a
            elif key == sized(8):
                found.name = text(inner, a, b)
            elif key in (sized(4), sized(5), sized(7), sized(9), sized(10), sized(11)):
                stored = (inner, key >> 3, a, b)
            elif key in (varying(5), varying(7), varying(11)) and len(single) <= MAX_VALUES:
                single.append(signed(a))
            elif key == fixed(4) and len(single) <= MAX_VALUES:
                single.extend(struct.unpack("<f", cut(inner, a, b)))
            elif key == sized(13) or (key == varying(14) and a == 1):
                external = True
            if len(dims) > MAX_RANK:
                raise ModelError("a tensor has too many axes")
        found.dims = checked(dims, found.name)
        count = prod(found.dims)
        most = MAX_FLOATS if found.data_type == 1 else MAX_VALUES
        if not external and count <= most:
            values = decode(found.data_type, count, *stored) if stored else tuple(single)
            found.values = values if len(values) == count else None
        return found

    def sparse(self, buf: Bytes, start: int, end: int) -> Tensor:
        """SparseTensorProto: the name of its values, and its own sizes."""
        name, dims, data_type = "", [], 0
        for inner, key, a, b in self.message(buf, start, end):
            if key == sized(1):
                values = self.tensor(inner, a, b)
                name, data_type = values.name, values.data_type
            elif key == varying(3):
                dims.append(signed(a))
            elif key == sized(3) and b - a <= 10 * MAX_RANK:
                dims.extend(varints(inner, a, b))
            if len(dims) > MAX_RANK:
                raise ModelError("a tensor has too many axes")
        return Tensor(name, checked(dims, name), data_type)

    def value(self, buf: Bytes, start: int, end: int) -> Value:
        """ValueInfoProto; types other than tensors (sequences, maps) are not looked into."""
        found = Value(is_tensor=False)
        for inner, key, a, b in self.message(buf, start, end):
            if key == sized(1):
                found.name = text(inner, a, b)
            elif key == sized(2):
                for kind, key_of, c, d in self.message(inner, a, b):
                    if key_of in (sized(1), sized(8)):
                        found.is_tensor = True
                        self.tensor_type(found, kind, c, d)
        return found

    def tensor_type(self, found: Value, buf: Bytes, start: int, end: int) -> None:
        """TypeProto.Tensor."""
        for inner, key, a, b in self.message(buf, start, end):
            if key == varying(1):
                found.data_type = a
            elif key == sized(2):
                dims: list[int | str | None] = []
                for shape, key_of, c, d in self.message(inner, a, b):
                    if key_of == sized(1):
                        dims.append(self.dimension(shape, c, d))
                    if len(dims) > MAX_RANK:
                        raise ModelError(f"'{found.name}' has too many axes")
                found.dims = tuple(dims)

    def dimension(self, buf: Bytes, start: int, end: int) -> int | str | None:
        """TensorShapeProto.Dimension; sizes below 1 are what exporters write for unknown ones."""
        size: int | str | None = None
        for inner, key, a, b in self.message(buf, start, end):
            if key == varying(1):
                size = signed(a) if signed(a) > 0 else None
            elif key == sized(2):
                size = text(inner, a, b) or None
        return size


def cut(buf: Bytes, start: int, end: int) -> bytes:
    """A few bytes."""
    return buf.read(start, end) if isinstance(buf, Window) else buf[start:end]


def text(buf: Bytes, start: int, end: int) -> str:
    """A name."""
    if end - start > MAX_NAME:
        raise ModelError(f"it has a name of {end - start:,} bytes; names have at most {MAX_NAME:,}")
    return cut(buf, start, end).decode("utf-8", "replace")


def varints(buf: Bytes, start: int, end: int) -> list[int]:
    """A packed list of int64."""
    data = cut(buf, start, end)
    found, pos = [], 0
    while pos < len(data):
        value, pos = varint(data, pos, len(data))
        found.append(signed(value))
    return found


def numbers(buf: Bytes, start: int, end: int, kind: str) -> tuple[Any, ...]:
    """A packed list of numbers of fixed width; what is left over is no number."""
    width = struct.calcsize(kind)
    count = (end - start) // width
    return struct.unpack(f"<{count}{kind}", cut(buf, start, start + count * width))


def decode(
    data_type: int, count: int, buf: Bytes, number: int, start: int, end: int
) -> tuple[Any, ...]:
    """The values of a small tensor, from `raw_data` or one of the typed lists; () if unreadable."""
    if end - start > 16 * MAX_VALUES:
        return ()
    kind = DATA_TYPES.get(data_type, ("", None))[1]
    if kind is None:
        return ()
    if number == 9:
        return numbers(buf, start, end, kind)
    if number == 4:
        return numbers(buf, start, end, "f")
    if number == 10:
        return numbers(buf, start, end, "d")
    found = varints(buf, start, end)
    if kind == "e":
        return struct.unpack(f"<{len(found)}e", struct.pack(f"<{len(found)}H", *half(found)))
    return tuple(found)


def half(bits: list[int]) -> list[int]:
    """float16 as `int32_data` keeps them: their bits."""
    return [bit & 0xFFFF for bit in bits]


def checked(dims: list[int], name: str) -> tuple[int, ...]:
    """Sizes that can be sizes.

    Raises:
        ModelError: one is negative, or the elements do not fit an int64.
    """
    if any(size < 0 for size in dims):
        raise ModelError(f"tensor '{name:.80}' has a negative size: {dims}")
    if prod(dims) > INT64_MAX:
        raise ModelError(f"tensor '{name:.80}' has more than 2^63 - 1 elements")
    return tuple(dims)
