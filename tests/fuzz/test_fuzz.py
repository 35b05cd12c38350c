"""Whatever stands in a file, a reader gives a network or an error of ours, and soon.

`make fuzz` runs each of these a hundred times longer than the tests do.  What fails then is kept in
`corpus/`, from which mutations start and which is always read as it is.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convcalc.analysis.costs import analyze
from convcalc.errors import ConvcalcError, ModelError
from convcalc.network import Network
from convcalc.readers import load
from convcalc.readers.source import load_source

CORPUS = Path(__file__).parent / "corpus"
EXAMPLES = int(os.environ.get("CONVCALC_FUZZ_EXAMPLES", "100"))
KEEP = "CONVCALC_FUZZ_EXAMPLES" in os.environ

fuzz = settings(
    max_examples=EXAMPLES,
    deadline=20_000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def seeds(ending: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(CORPUS.glob(f"*{ending}"))]


@contextlib.contextmanager
def kept(data: bytes, ending: str) -> Iterator[None]:
    """What makes a reader fail stays in the corpus, in long runs."""
    try:
        with contextlib.suppress(ConvcalcError):
            yield
    except BaseException:
        if KEEP:
            name = f"found-{hashlib.sha256(data).hexdigest()[:12]}{ending}"
            (CORPUS / name).write_bytes(data)
        raise


def check(net: Network) -> None:
    """A network that was read can be analysed, and written as one of our specs."""
    from convcalc.readers.spec import read_spec, write_spec

    analyze(net)
    # As text: Keras writes NaN where a setting is one, and that equals nothing.
    text = json.dumps(write_spec(net))
    assert json.dumps(write_spec(read_spec(json.loads(text)))) == text


@st.composite
def mutated(draw: st.DrawFn, start: list[bytes]) -> bytes:
    """A seed with a few pieces changed, cut out, copied or put in."""
    data = draw(st.sampled_from(start))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.sampled_from((1, 1, 2, 4, 8, 40)))
        piece = draw(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from(
                    (b"\xff" * 8, bytes(8), b"\xff\xff\xff\xff\x07", b"{", b"]", b"-1")
                ),
                st.just(data[at : at + length] * draw(st.sampled_from((1, 2, 50)))),
            )
        )
        how = draw(st.integers(0, 3))
        if how == 0:
            data = data[:at] + piece + data[at + len(piece) :]
        elif how == 1:
            data = data[:at] + piece + data[at:]
        elif how == 2:
            data = data[:at] + data[at + length :]
        else:
            data = data[: max(at, 1)]
    return data


def read_bytes(folder: Path, data: bytes, ending: str) -> None:
    path = folder / f"fuzz{ending}"
    path.write_bytes(data)
    with kept(data, ending):
        check(load(path))


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_the_corpus(path: Path) -> None:
    seed = not path.name.startswith("found")
    try:
        if path.suffix == ".txt":
            net = load_source(path.read_text(), input=(16, 16, 3))
        else:
            net = load(path)
        check(net)
    except ConvcalcError:
        assert not seed, "the seeds are good files"


@fuzz
@given(data=mutated(seeds(".keras")))
def test_zips(tmp_path: Path, data: bytes) -> None:
    read_bytes(tmp_path, data, ".keras")


@fuzz
@given(data=mutated(seeds(".json") + seeds(".yaml")))
def test_text(tmp_path: Path, data: bytes) -> None:
    read_bytes(tmp_path, data, ".json")


@fuzz
@given(data=mutated(seeds(".onnx")))
def test_onnx(tmp_path: Path, data: bytes) -> None:
    read_bytes(tmp_path, data, ".onnx")


@st.composite
def protobuf(draw: st.DrawFn, depth: int = 0) -> bytes:
    """Messages with the field numbers of ONNX and values of every kind."""
    out = b""
    for _ in range(draw(st.integers(0, 6))):
        field = draw(st.sampled_from((1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 20, 25)))
        kind = draw(st.sampled_from((0, 1, 2, 2, 2, 2, 5)))
        out += bytes([(field << 3 | kind) & 127 | (128 if field > 15 else 0)])
        out += b"\x01" if field > 15 else b""
        if kind == 0:
            out += draw(st.sampled_from((b"\x00", b"\x01", b"\x07", b"\xff" * 9 + b"\x01")))
        elif kind in (1, 5):
            out += draw(st.binary(min_size=8 if kind == 1 else 4, max_size=8 if kind == 1 else 4))
        else:
            words = st.sampled_from((b"Conv", b"x", b"y", b"kernel_shape", b"Reshape", b""))
            body = draw(words if depth > 3 else st.one_of(words, protobuf(depth + 1)))[:120]
            out += bytes([len(body)]) + body
    return out


@fuzz
@given(data=protobuf())
def test_onnx_messages(tmp_path: Path, data: bytes) -> None:
    read_bytes(tmp_path, b"\x08\x08\x3a" + bytes([len(data) & 127]) + data, ".onnx")


JSON_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 9),
        st.sampled_from((2**31, 2**63, -(2**70), 1e308, float("nan"), float("inf"), 0.5)),
        st.sampled_from(("", "same", "relu", "channels_first", "x", "conv", "Conv2D", "in", "...")),
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(("class_name", "config", "name", "layers", "a")), inner)
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a value can be replaced."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in items:
        yield (*path, key)
        if isinstance(part, (dict, list)):
            yield from places(part, (*path, key))


@st.composite
def rewritten(draw: st.DrawFn, start: list[Any]) -> Any:
    """A configuration with other values, missing or doubled parts in some places."""
    config = copy.deepcopy(draw(st.sampled_from(start)))
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(list(places(config)) or [()]))
        if not path:
            break
        *front, last = path
        holder = config
        for key in front:
            holder = holder[key]
        how = draw(st.integers(0, 3))
        if how == 0:
            del holder[last]
        elif how == 1 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        else:
            holder[last] = draw(JSON_VALUES)
    return config


def as_mappings(ending: str) -> list[Any]:
    import yaml

    # What was found may be no mapping any more.
    parsed = [yaml.safe_load(data) for data in seeds(ending)]
    return [config for config in parsed if isinstance(config, dict)]


@fuzz
@given(config=rewritten(as_mappings(".json") + as_mappings(".yaml")))
def test_configurations(config: Any) -> None:
    data = json.dumps(config).encode()
    with kept(data, ".json"):
        check(load(config))


@fuzz
@given(config=rewritten(as_mappings(".json")), junk=st.binary(max_size=20))
def test_configurations_in_zips(tmp_path: Path, config: Any, junk: bytes) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", junk)
    read_bytes(tmp_path, file.getvalue(), ".keras")


WORDS = (
    *("(", ")", "[", "]", ",", "=", "*", "-1", "0", "10**9", "'same'", "model", "x", "for", "in"),
    *("range(3)", "lambda:", "self", "None", "\n", "    ", "def f(x):", "return", "while True:"),
    *("nn.Conv2d", "layers.Conv2D", "Model", "f(f)", "if", "else", "import os", "**{}", "%", "@"),
)


@st.composite
def edited(draw: st.DrawFn, start: list[bytes]) -> str:
    """Source with words and lines exchanged, removed and put in."""
    lines = draw(st.sampled_from(start)).decode().split("\n")
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(lines) - 1))
        how = draw(st.integers(0, 3))
        if how == 0:
            lines[at] = ""
        elif how == 1:
            lines.insert(at, draw(st.sampled_from(lines)))
        else:
            words = lines[at].split(" ")
            words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(WORDS))
            lines[at] = " ".join(words)
    return "\n".join(lines)


@fuzz
@given(text=edited(seeds(".txt")))
def test_source(text: str) -> None:
    with kept(text.encode(), ".txt"):
        check(load_source(text, input=(16, 16, 3)))


HDF5 = """
import random, sys
from pathlib import Path
from convcalc.errors import ConvcalcError
from convcalc.readers import load
seed, path, out = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), random.Random(0)
for number in range(int(sys.argv[3])):
    data = bytearray(seed)
    for _ in range(out.randint(1, 6)):
        data[out.randrange(len(data))] = out.choice((0, 1, 127, 255, out.randrange(256)))
    path.write_bytes(data[: out.randrange(8, len(data))] if number % 4 == 0 else data)
    try:
        load(path)
    except ConvcalcError as error:
        assert "\\n" not in str(error)
"""


def test_hdf5_in_a_process_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    path = tmp_path / "fuzz.h5"
    command = [sys.executable, "-c", HDF5, str(CORPUS / "tiny.h5"), str(path), str(EXAMPLES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=EXAMPLES, check=False)
    if done.returncode and KEEP:
        name = f"found-{random.getrandbits(32):08x}.h5"
        (CORPUS / name).write_bytes(path.read_bytes())
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_a_fuzzer_may_not_let_pass() -> None:
    with pytest.raises(ZeroDivisionError), kept(b"", ".json"):
        raise ZeroDivisionError
    with kept(b"", ".json"):
        raise ModelError("fine")
