"""ONNX files that nobody means well with: a clear error, in bounded time and memory."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convcalc.errors import ModelError
from convcalc.network import MAX_OPS
from convcalc.readers import onnx as reader

onnx = pytest.importorskip("onnx")
helper, TensorProto = onnx.helper, onnx.TensorProto


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def sized(number: int, content: bytes | str) -> bytes:
    """A field of text or of a message."""
    data = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(data)) + data


def model_of(graph: bytes) -> bytes:
    """A model around a graph: version 8, opset 17."""
    return b"\x08\x08" + sized(8, b"\x10\x11") + sized(7, graph)


def small_model() -> bytes:
    """A network of most kinds of nodes that exporters write, in a few hundred bytes."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("BatchNormalization", ["c", "b", "b", "b", "b"], ["n"]),
        helper.make_node("Clip", ["n", "low", "high"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Shape", ["p"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["g"]),
        helper.make_node("Unsqueeze", ["g", "axes"], ["u"]),
        helper.make_node("Concat", ["u", "rest"], ["t"], axis=0),
        helper.make_node("Reshape", ["p", "t"], ["f"]),
        helper.make_node("Gemm", ["f", "d"], ["y"], "fc", transB=1),
        helper.make_node("Softmax", ["y"], ["z"]),
    ]
    floats = {"w": [4, 3, 3, 3], "b": [4], "d": [5, 16]}
    tensors = [
        helper.make_tensor(name, 1, dims, [0.5] * int(onnx.numpy_helper.np.prod(dims)))
        for name, dims in floats.items()
    ]
    tensors += [helper.make_tensor(n, 1, [], [v]) for n, v in (("low", 0.0), ("high", 6.0))]
    tensors += [helper.make_tensor("zero", 7, [], [0]), helper.make_tensor("axes", 7, [1], [0])]
    tensors.append(helper.make_tensor("rest", 7, [1], [-1]))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", 1, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("z", 1, ["N", 5])],
        tensors,
    )
    opsets = [helper.make_opsetid("", 17)]
    found: bytes = helper.make_model(graph, opset_imports=opsets).SerializeToString()
    return found


SMALL = small_model()


def refused(path: Path, data: bytes) -> str:
    """The message with which bytes are refused."""
    path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        reader.read(path)
    message = str(caught.value)
    assert message.startswith(f"'{path}'")
    assert "\n" not in message
    return message


def test_the_small_model_is_read(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    path.write_bytes(SMALL)
    net = reader.read(path)
    assert net.tensors[net.outputs[0]].shape == (1, 5)


def test_truncated_at_every_byte(tmp_path: Path) -> None:
    # Behind the graph only the opset is left: what ends there is a whole, if older, model.
    graph = SMALL.index(sized(7, b"")[:1], 2)
    whole = 0
    for end in range(len(SMALL)):
        path = tmp_path / "short.onnx"
        path.write_bytes(SMALL[:end])
        try:
            reader.read(path)
            whole += 1
            assert end > graph + 100
        except ModelError:
            pass
    assert whole <= 2


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_changed_bytes_give_a_model_or_a_model_error(tmp_path: Path, data: st.DataObject) -> None:
    changed = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(changed) - 1))
        kind = data.draw(st.integers(0, 2))
        if kind == 0:
            changed[at] = data.draw(st.integers(0, 255))
        elif kind == 1:
            del changed[at : at + data.draw(st.integers(1, 12))]
        else:
            changed[at:at] = data.draw(st.binary(min_size=1, max_size=12))
        if not changed:
            break
    path = tmp_path / "changed.onnx"
    path.write_bytes(changed)
    start = time.process_time()
    try:
        net = reader.read(path)
    except ModelError:
        pass
    else:
        assert net.ops
    assert time.process_time() - start < 2


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "holds no graph"),
    "text": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "no ONNX file"),
    "no graph": (lambda: b"\x08\x08", "holds no graph"),
    "two graphs": (lambda: SMALL + SMALL, "two graphs"),
    "endless number": (lambda: b"\x08" + b"\xff" * 100, "never ends"),
    "lying length": (lambda: model_of(b"")[:-1] + b"\xff\xff\xff\xff\x7f", "longer than what is"),
    "group": (lambda: b"\x0b" * 50, "unknown kind"),
    "long name": (lambda: model_of(sized(2, "n" * 100_000)), "a name of 100,000 bytes"),
    "no operator": (lambda: model_of(sized(1, b"")), "without an operator"),
    "no input": (lambda: model_of(sized(1, sized(4, "Relu"))), "no input"),
    "negative size": (
        lambda: model_of(sized(5, b"\x08" + varint(2**64 - 5) + b"\x10\x01" + sized(8, "w"))),
        "negative size",
    ),
    "huge tensor": (
        lambda: model_of(sized(5, (b"\x08" + varint(2**62)) * 8 + b"\x10\x01" + sized(8, "w"))),
        "more than 2^63 - 1 elements",
    ),
    "many axes": (lambda: model_of(sized(5, b"\x08\x01" * 100)), "too many axes"),
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_files_are_refused_in_words(name: str, tmp_path: Path) -> None:
    make, words = BAD[name]
    assert words in refused(tmp_path / "bad.onnx", make())


def value_info(name: str) -> bytes:
    """An input of 1x3x8x8 floats."""
    dims = b"".join(sized(1, b"\x08" + varint(n)) for n in (1, 3, 8, 8))
    return sized(1, name) + sized(2, sized(1, b"\x08\x01" + sized(2, dims)))


def node(kind: str, inputs: list[str], outputs: list[str]) -> bytes:
    """A NodeProto."""
    parts = [sized(1, name) for name in inputs] + [sized(2, name) for name in outputs]
    return sized(1, b"".join(parts) + sized(4, kind))


def test_a_cycle_is_named(tmp_path: Path) -> None:
    graph = sized(11, value_info("x")) + node("Add", ["x", "b"], ["a"]) + node("Relu", ["a"], ["b"])
    assert "cycle" in refused(tmp_path / "c.onnx", model_of(graph + sized(12, value_info("b"))))


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    graph = sized(11, value_info("x")) + node("Relu", ["a"], ["b"]) + node("Abs", ["x"], ["a"])
    path = tmp_path / "o.onnx"
    path.write_bytes(model_of(graph + sized(12, value_info("b"))))
    assert [op.layer_type for op in reader.read(path).ops] == ["Abs", "Relu"]


def test_a_tensor_made_twice_or_by_nobody_is_named(tmp_path: Path) -> None:
    head = sized(11, value_info("x"))
    twice = head + node("Relu", ["x"], ["a"]) * 2 + sized(12, value_info("a"))
    assert "two nodes" in refused(tmp_path / "t.onnx", model_of(twice))
    nobody = head + node("Relu", ["ghost"], ["a"]) + sized(12, value_info("a"))
    assert "reads 'ghost', which nothing makes" in refused(tmp_path / "n.onnx", model_of(nobody))
    output = head + node("Relu", ["x"], ["a"]) + sized(12, value_info("other"))
    assert "output 'other'" in refused(tmp_path / "u.onnx", model_of(output))


def test_a_chain_of_a_thousand_nested_graphs_is_not_followed(tmp_path: Path) -> None:
    inner = b""
    for _ in range(1000):
        inner = node_with_graph(inner)
    path = tmp_path / "deep.onnx"
    graph = sized(11, value_info("x")) + inner + sized(12, value_info("y"))
    path.write_bytes(model_of(graph))
    (op,) = reader.read(path).ops
    assert (op.layer_type, op.operator.missing()) == ("If", ("arithmetic", "memory"))


def node_with_graph(inner: bytes) -> bytes:
    """An `If` whose branch holds `inner`."""
    attribute = sized(1, "then_branch") + sized(6, inner) + b"\xa0\x01\x05"
    return sized(1, sized(1, "x") + sized(2, "y") + sized(4, "If") + sized(5, attribute))


def test_ten_million_nodes_fail_fast(tmp_path: Path) -> None:
    path = tmp_path / "many.onnx"
    one = node("R", ["x"], ["y"])
    start = time.process_time()
    message = refused(path, model_of(one * 10 * MAX_OPS))
    assert f"more than {MAX_OPS:,} nodes" in message
    assert time.process_time() - start < 20


def test_more_fields_than_a_network_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convcalc.readers.onnx_wire.MAX_FIELDS", 1000)
    assert "fields" in refused(tmp_path / "f.onnx", model_of(b"\x58\x01" * 2000))


def functions(count: int, calls: int) -> bytes:
    """Functions of which each calls the next one `calls` times; the last calls the first."""
    out = b""
    for index in range(count):
        call = sized(1, "a") + sized(2, "b") + sized(4, f"F{(index + 1) % count}") + sized(7, "d")
        body = sized(1, f"F{index}") + sized(4, "a") + sized(5, "b") + sized(10, "d")
        out += sized(25, body + sized(7, call) * calls)
    return out


def test_functions_that_call_themselves_are_refused(tmp_path: Path) -> None:
    call = sized(1, sized(1, "x") + sized(2, "y") + sized(4, "F0") + sized(7, "d"))
    graph = sized(11, value_info("x")) + call + sized(12, value_info("y"))
    data = model_of(graph) + functions(3, 1)
    assert "call themselves" in refused(tmp_path / "f.onnx", data)


def test_functions_that_unfold_without_end_are_refused(tmp_path: Path) -> None:
    call = sized(1, sized(1, "x") + sized(2, "y") + sized(4, "F0") + sized(7, "d"))
    graph = sized(11, value_info("x")) + call + sized(12, value_info("y"))
    last = sized(1, sized(1, "a") + sized(2, "b") + sized(4, "Relu"))
    bomb = functions(40, 2).replace(sized(4, "F0"), sized(4, "G0")) + last
    assert "unfold to more than" in refused(
        tmp_path / "b.onnx", model_of(graph) + bomb[: -len(last)]
    )


def test_external_data_is_never_opened(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    tensor = TensorProto(name="d", data_type=1, dims=[5, 192])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", str(marker)), ("offset", "0"), ("length", "3840")):
        tensor.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["f"]),
            helper.make_node("Gemm", ["f", "d"], ["y"], transB=1),
        ],
        "external",
        [helper.make_tensor_value_info("x", 1, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", 1, [1, 5])],
        [tensor],
    )
    path = tmp_path / "external.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    code = (
        "import sys, pathlib\n"
        "opened = []\n"
        "hook = lambda event, args: opened.append(args[0]) if event == 'open' else None\n"
        "sys.addaudithook(hook)\n"
        "from convcalc.readers import onnx\n"
        f"net = onnx.read(pathlib.Path({str(path)!r}))\n"
        "print(net.params[net.ops[-1].name][0].shape)\n"
        "assert not any('marker' in str(name) for name in opened)\n"
        "heavy = {'onnx', 'torch', 'tensorflow', 'keras', 'onnxruntime'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(192, 5)"
    assert not marker.exists()
