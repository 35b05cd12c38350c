"""Each route's answers, held against the Python API's, and its refusals."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_server import LAYER, Live, problem, serving

import convcalc
from convcalc import zoo
from convcalc.analysis.comparison import compare
from convcalc.memory.predict import job_for
from convcalc.memory.profile import profile
from convcalc.readers.spec import read_spec, write_spec

LENET = json.loads(json.dumps(write_spec(convcalc.load("lenet5"))))
CORPUS = Path(__file__).parent.parent / "fuzz" / "corpus"


def plain(report: Any) -> Any:
    """A report as it comes back from JSON."""
    return json.loads(report.model_dump_json())


def test_one_layer(service: Live) -> None:
    report = service.post("/v1/conv", json=LAYER).json()
    (layer,) = report["layers"]
    assert (layer["params"], layer["macs"]) == (15_200, 225_000_000)
    assert layer["output_shape"] == [1, 150, 100, 200]
    assert layer["output_bytes"] == 12_000_000
    assert "derivation" not in report


def test_one_layer_explained(service: Live) -> None:
    asked = {**LAYER, "explain": True, "neuron": [0, 99]}
    steps = service.post("/v1/conv", json=asked).json()["derivation"]
    found = {step["quantity"]: step["result"] for step in steps}
    assert found["parameters"] == 15_200
    assert any("neuron (0, 99)" in quantity for quantity in found)


@pytest.mark.parametrize(
    ("more", "shape"),
    [
        ({"stride": [1, 2, 2, 1]}, [1, 75, 50, 200]),
        ({"stride": [2, 1]}, [1, 75, 100, 200]),
        ({"padding": [0, 0, 1, 2], "kernel": [3, 3]}, [1, 148, 101, 200]),
        ({"padding": 2, "dilation": 2}, [1, 146, 96, 200]),
        ({"depthwise": True, "filters": 6}, [1, 150, 100, 6]),
        ({"transposed": True, "stride": 2}, [1, 300, 200, 200]),
        ({"layout": "nchw"}, [1, 200, 150, 100]),
        ({"batch": 7}, [7, 150, 100, 200]),
        ({"input": [20, 3], "padding": "causal"}, [1, 20, 200]),
        ({"input": [9, 8, 7, 3]}, [1, 9, 8, 7, 200]),
    ],
)
def test_layers_of_every_kind(service: Live, more: dict[str, Any], shape: list[int]) -> None:
    found = service.post("/v1/conv", json={**LAYER, **more}).json()
    assert found["layers"][0]["output_shape"] == shape


@pytest.mark.parametrize(
    "more",
    [
        {"filters": None},
        {"stride": [2, 2, 2, 1]},
        {"stride": [1, 2, 3]},
        {"padding": [1, 1]},
        {"neuron": [1]},
        {"neuron": [150, 0]},
        {"groups": 2},
        {"depthwise": True, "transposed": True},
        {"kernel": 999, "padding": "valid"},
    ],
)
def test_layers_that_make_no_sense(service: Live, more: dict[str, Any]) -> None:
    found = problem(service.post("/v1/conv", json={**LAYER, **more}), "unusable")
    assert "--" not in found["detail"]


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        ("resnet50", {"batch": 32, "optimizer": "adam"}),
        ("lenet5", {"engine": "torch", "optimizer": "adam", "dtype": "mixed_float16"}),
        ("lenet5", {"convention": "fvcore", "input": [32, 32, 1]}),
        (LENET, {"input": {next(iter(LENET["inputs"])): [40, 40, 1]}}),
    ],
)
def test_analyze(service: Live, network: Any, settings: dict[str, Any]) -> None:
    report = service.post("/v1/analyze", json={"network": network, **settings}).json()
    assert report == plain(convcalc.analyze(network, **settings))


def test_analyze_a_configuration_of_keras(service: Live) -> None:
    benchmarks = Path(__file__).parent.parent.parent / "benchmarks"
    config = json.loads(gzip.decompress((benchmarks / "resnet50_keras.json.gz").read_bytes()))
    found = service.post("/v1/analyze", json={"network": config}).json()
    assert found["totals"] == plain(convcalc.analyze("resnet50").totals)


def test_compare(service: Live) -> None:
    asked = {"left": "vgg16", "right": "vgg19", "batch": 2, "right_batch": 4}
    found = service.post("/v1/compare", json=asked).json()
    sides = convcalc.analyze("vgg16", batch=2), convcalc.analyze("vgg19", batch=4)
    assert found == plain(compare(*sides))


def test_memory(service: Live) -> None:
    asked = {"network": "lenet5", "batch": 8, "engine": "torch", "mode": "training"}
    found = service.post("/v1/memory", json=asked).json()
    job = job_for("training", "float32", "adam", "gpu")
    assert found == plain(profile(convcalc.load("lenet5"), "torch", job, 8))


@pytest.mark.parametrize(
    "route", ["conv", "analyze", "compare", "memory", "fit", "advise", "sweep"]
)
def test_tables(service: Live, route: str) -> None:
    asked = {
        "conv": LAYER,
        "analyze": {"network": "lenet5"},
        "compare": {"left": "lenet5", "right": "alexnet"},
        "memory": {"network": "lenet5", "engine": "torch"},
        "fit": {"network": "lenet5"},
        "advise": {"network": "lenet5"},
        "sweep": {"network": "lenet5", "batch": [1, 2]},
    }[route]
    found = service.post(f"/v1/{route}", json=asked, headers={"accept": "text/csv"})
    assert found.headers["content-type"] == "text/csv; charset=utf-8"
    head, *rows = csv.reader(io.StringIO(found.text.split("\n\n")[0]))
    assert len(head) > 2
    assert rows
    found = service.post(
        f"/v1/{route}", json=asked, headers={"accept": "text/markdown, text/csv;q=0.5"}
    )
    assert found.headers["content-type"] == "text/markdown; charset=utf-8"
    assert found.text.startswith("| ")


def test_compare_two_settings_of_one(service: Live) -> None:
    asked = {"left": "lenet5", "right_dtype": "float16", "engine": "torch"}
    found = service.post("/v1/compare", json=asked).json()
    sides = (convcalc.analyze("lenet5", engine="torch", dtype=d) for d in ("float32", "float16"))
    assert found == plain(compare(*sides))


def test_memory_on_a_device(service: Live) -> None:
    asked = {"network": "lenet5", "engine": "torch", "device": "rtx-3060"}
    assert service.post("/v1/memory", json=asked).json()["device"] == "gpu"


def test_fit(service: Live) -> None:
    asked = {"network": "lenet5", "memory": "256MiB", "engine": "torch", "mode": "training"}
    found = service.post("/v1/fit", json=asked).json()
    settings = {"memory": "256MiB", "engine": "torch", "mode": "training"}
    assert found == plain(convcalc.fit("lenet5", **settings))
    asked |= {"largest_input": True, "network": "resnet18", "batch": 4, "memory": 2**30}
    found = service.post("/v1/fit", json=asked).json()
    assert found["largest"] == "input"
    problem(service.post("/v1/fit", json={"network": "lenet5", "memory": "8 apples"}), "unusable")
    problem(service.post("/v1/fit", json={"network": "lenet5", "device": "x"}), "invalid")


def test_advise(service: Live) -> None:
    asked = {"network": "lenet5", "memory": "16MiB", "batch": 512}
    found = service.post("/v1/advise", json=asked).json()
    assert found == plain(convcalc.advise("lenet5", memory="16MiB", batch=512))


@pytest.mark.parametrize("route", ["advise", "memory", "fit", "analyze"])
@pytest.mark.parametrize("engine", ["tensorflow", "tensorflow-xla", "torch", "jax"])
def test_a_batch_beyond_all_memory(service: Live, route: str, engine: str) -> None:
    asked = {"network": "lenet5", "batch": 2**53 - 1, "engine": engine}
    if route == "fit":
        asked |= {"largest_input": True}
    status = service.post(f"/v1/{route}", json=asked).status_code
    assert status in (200, 422)


def test_sweep(service: Live) -> None:
    asked = {
        "network": "lenet5",
        "batch": "1:8",
        "input": [[28, 28, 1], [32, 32, 1]],
        "set": {"conv_1.filters": [6, 12]},
        "where": "batch > 6",
    }
    response = service.post("/v1/sweep", json=asked)
    assert response.headers["content-type"] == "application/x-ndjson"
    rows = [json.loads(line) for line in response.text.splitlines()]
    assert len(rows) == 2 * 2 * 2
    assert {row["batch"] for row in rows} == {7, 8}
    assert rows[0]["macs"] == convcalc.analyze("lenet5").totals.macs
    assert len(service.post("/v1/sweep", json={**asked, "limit_rows": 3}).text.splitlines()) == 3
    best = service.post("/v1/sweep", json={**asked, "pareto": ["macs", "params"]}).text
    assert 0 < len(best.splitlines()) < len(rows)


def test_rows_of_a_sweep_come_as_they_are_made(service: Live) -> None:
    asked = {"network": "lenet5", "batch": "1:100000", "limit_rows": 10_000}
    with service.stream("POST", "/v1/sweep", json=asked) as response:
        assert response.headers["transfer-encoding"] == "chunked"
        assert "etag" not in response.headers
        parts = list(response.iter_raw())
    assert len(parts) > 10
    rows = [json.loads(line) for line in b"".join(parts).splitlines()]
    assert [row["batch"] for row in rows] == list(range(1, 10_001))


def test_a_sweep_that_nobody_reads_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(processes=1, deadline=3) as client:
        body = json.dumps({"network": "lenet5", "batch": "1:1000000", "limit_rows": 100_000})
        with socket.create_connection(("127.0.0.1", client.port)) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            head = "POST /v1/sweep HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            slow.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
            time.sleep(5)
            # The one computing process is free again, and the answer was cut off, not ended.
            assert client.post("/v1/analyze", json={"network": "lenet5"}).status_code == 200
            slow.settimeout(20)
            received = b""
            while part := slow.recv(2**20):
                received += part
        assert received.startswith(b"HTTP/1.1 200")
        assert not received.endswith(b"0\r\n\r\n")


def test_a_sweep_that_breaks_off(service: Live) -> None:
    asked = {"network": "resnet50", "batch": [*range(1, 1000), 2**31 - 1]}
    with service.stream("POST", "/v1/sweep", json=asked) as response:
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            response.read()
    # Nothing has been sent yet: it can still be said why.
    asked["batch"] = [1, 2**31 - 1]
    problem(service.post("/v1/sweep", json=asked), "inexact")


@pytest.mark.parametrize(
    "more",
    [
        {"batch": "1:9999999"},
        {"where": "nothing < 3"},
        {"where": "__import__('os')"},
        {"set": {"nothing.filters": [1]}},
        {"pareto": ["nothing"]},
    ],
)
def test_sweeps_that_make_no_sense(service: Live, more: dict[str, Any]) -> None:
    response = service.post("/v1/sweep", json={"network": "lenet5", **more})
    assert response.json()["type"] in ("/problems#unusable", "/problems#unreadable")


def test_devices(service: Live) -> None:
    found = service.get("/v1/devices").json()
    assert found == [plain(device) for device in convcalc.devices().values()]
    assert service.get("/v1/devices", headers={"accept": "text/csv"}).text.startswith("name,title")


def test_filter(service: Live) -> None:
    from PIL import Image

    asked: dict[str, Any] = {"sample": "bundled", "kernel": [[0, 1], [1, 0]], "stride": 2}
    found = service.post("/v1/filter", json=asked)
    assert found.headers["content-type"] == "image/png"
    size = Image.open(io.BytesIO(found.content)).size
    image = base64.b64encode(found.content).decode()
    again = service.post("/v1/filter", json={"image": image, "padding": [1, 1, 0, 0]})
    assert again.status_code == 200
    width, height = Image.open(io.BytesIO(again.content)).size
    # The filter has 7 x 7 cells: 6 fewer positions, and 2 rows of padding.
    assert (width, height) == (size[0] - 6, size[1] - 4)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"sample": "bundled", "image": "aaaa"},
        {"image": "not base64!"},
        {"image": "aaaa"},
        {"sample": "bundled", "feature": 1},
        {"sample": "bundled", "kernel": [[1], [1, 2]]},
        {"sample": "bundled", "stride": [1, 2, 3]},
    ],
)
def test_filters_that_make_no_sense(service: Live, asked: dict[str, Any]) -> None:
    problem(service.post("/v1/filter", json=asked), "unusable")


def test_a_filter_is_never_a_path(service: Live) -> None:
    found = problem(service.post("/v1/filter", json={"kernel": "/etc/passwd"}), "invalid")
    assert found["errors"][0]["pointer"] == "#/kernel"


def read(service: Live, data: bytes | str, media: str, **query: Any) -> httpx.Response:
    return service.post("/v1/read", content=data, headers={"content-type": media}, params=query)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("tiny*")), ids=lambda path: path.name)
def test_read_every_format(service: Live, path: Path) -> None:
    if path.suffix == ".txt":
        found = read(service, path.read_bytes(), "text/plain", input="16x16x3")
        net = convcalc.load_source(path.read_text(), input=(16, 16, 3))
    else:
        found = read(service, path.read_bytes(), "application/octet-stream")
        net = convcalc.load(path)
    assert found.status_code == 200, found.text
    assert found.headers["cache-control"] == "no-store"
    assert read_spec(found.json()).ops == net.ops


def test_what_is_read_can_be_analysed(service: Live) -> None:
    code = "nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.Flatten(), nn.Linear(3456, 10))"
    spec = read(service, code, "text/x-python", input="28x28x1").json()
    report = service.post("/v1/analyze", json={"network": spec}).json()
    assert report["totals"]["params"] == 6 * (25 + 1) + 10 * (3456 + 1)


def test_sizes_by_name(service: Live) -> None:
    name = next(iter(LENET["inputs"]))
    found = read(service, json.dumps(LENET), "application/json", input=f"{name}=40x40x1").json()
    assert found["inputs"][name] == [40, 40, 1]
    twice = [f"{name}=40x40x1", f"{name}=50x50x1"]
    found = read(service, json.dumps(LENET), "application/json", input=twice)
    problem(found, "unusable")
    problem(read(service, "x", "text/plain", input="in=5x5x1"), "unusable")
    problem(read(service, "x", "text/plain", input="0x5"), "invalid")


@pytest.mark.parametrize(
    ("data", "media", "kind"),
    [
        (b"", "application/octet-stream", "bad-request"),
        (b"PK\x03\x04", "application/zip", "unreadable"),
        (b"\x89HDF\r\n\x1a\n", "application/x-hdf5", "unreadable"),
        (b"import os", "text/x-python", "unreadable"),
        (b"layers: [conv: 3", "application/yaml", "unreadable"),
        (b"{}", "application/pdf", "media-type"),
        (b"{}", "", "media-type"),
    ],
)
def test_read_what_cannot_be_read(service: Live, data: bytes, media: str, kind: str) -> None:
    found = problem(read(service, data, media), kind)
    assert "upload.py" not in found["detail"]
    assert "/tmp" not in found["detail"]


def test_a_network_of_the_zoo_as_a_spec(service: Live) -> None:
    """What /v1/zoo/NAME gives is the network of that name."""
    spec = service.get("/v1/zoo/resnet50").json()
    asked = {"batch": 2, "engine": "torch"}
    report = service.post("/v1/analyze", json={"network": spec, **asked}).json()
    assert report == service.post("/v1/analyze", json={"network": "resnet50", **asked}).json()
    problem(service.get("/v1/zoo/nothing"), "invalid")


def test_zoo(service: Live) -> None:
    response = service.get("/v1/zoo")
    assert response.json() == zoo.index()
    assert response.headers["cache-control"] == "public, max-age=3600"
    etag = response.headers["etag"]
    again = service.get("/v1/zoo", headers={"if-none-match": f'"other", W/{etag}'})
    assert (again.status_code, again.content) == (304, b"")
    table = service.get("/v1/zoo", headers={"accept": "text/csv"})
    assert table.headers["etag"] != etag
    assert len(list(csv.reader(io.StringIO(table.text)))) == len(zoo.index()) + 1
    assert "| resnet50 |" in service.get("/v1/zoo", headers={"accept": "text/markdown"}).text


def test_answers_are_remembered_by_question_and_form(service: Live) -> None:
    before = service.app.state.metrics.remembered._value.get()
    asked = {"network": "lenet5", "batch": 77}
    first, second = (service.post("/v1/analyze", json=asked) for _ in range(2))
    assert first.content == second.content
    assert first.headers["etag"] == second.headers["etag"]
    assert first.headers["cache-control"] == "private, max-age=3600"
    assert service.app.state.metrics.remembered._value.get() == before + 1
    other = service.post("/v1/analyze", json=asked, headers={"accept": "text/csv"})
    assert other.headers["content-type"].startswith("text/csv")
    assert service.app.state.metrics.remembered._value.get() == before + 1


@pytest.mark.parametrize(
    ("accept", "status", "media"),
    [
        ("*/*", 200, "application/json"),
        ("application/*;q=0.2, text/markdown;q=0.1", 200, "application/json"),
        ("text/*", 200, "text/csv; charset=utf-8"),
        ("application/json;q=0, */*", 200, "text/csv; charset=utf-8"),
        ("application/json;q=nonsense", 406, "application/problem+json"),
        ("application/json;q=7", 406, "application/problem+json"),
        ("image/png", 406, "application/problem+json"),
    ],
)
def test_negotiation(service: Live, accept: str, status: int, media: str) -> None:
    found = service.post("/v1/conv", json=LAYER, headers={"accept": accept})
    assert (found.status_code, found.headers["content-type"]) == (status, media)


def test_integers_that_javascript_would_round(service: Live) -> None:
    asked = {"input": [10**6, 10**6, 10], "filters": 10_000, "kernel": 1}
    problem(service.post("/v1/conv", json=asked), "inexact")
    found = service.post(
        "/v1/conv", json=asked, headers={"accept": "application/json; integers=exact"}
    )
    assert found.json()["totals"]["macs"] == 10**17
    table = service.post("/v1/conv", json=asked, headers={"accept": "text/csv"})
    assert f",{10**17}," in table.text
    network = {"input": [10**6, 10**6, 10], "layers": [{"conv": [10_000, 1], "name": "c"}]}
    network["layers"] = [{"conv": {"filters": 10_000, "kernel": 1}}]
    problem(service.post("/v1/analyze", json={"network": network}), "inexact")


def test_digits_in_a_name_are_no_integer(service: Live) -> None:
    name = ",1234567890123456789"
    network = {"name": name, "input": [4], "layers": [{"dense": {"units": 3}}]}
    found = service.post("/v1/analyze", json={"network": network})
    assert found.json()["network"] == name
