"""What holds for all routes: problems, methods, headers, documents, probes, metrics."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from service_server import LAYER, Live, problem, serving

from convcalc.service import lifecycle, page
from convcalc.service.observe import DATA_POLICY, POLICY
from convcalc.service.problems import KINDS

MARK = "S3CRETmarker"


@pytest.mark.parametrize(
    "network",
    [
        MARK,
        {MARK: 1},
        {"layers": [{MARK: 5}]},
        {"input": [8, 8, 3], "layers": [MARK]},
        {"input": [8, 8, 3], "layers": [{"conv": {"filters": 3, MARK: 9}}]},
        {"input": [8, 8, 3], "layers": [{"conv": {"filters": MARK}, "name": MARK}]},
        {"input": [8, 8, 3], "layers": [{"conv": {"filters": 3, "kernel": 99}, "name": MARK}]},
        {"input": [8, 8, 3], "layers": [{"relu": None, "name": f"a'{MARK}\" b"}, {"from": MARK}]},
        {"input": [8, 8, 3], "layers": ["relu"], "outputs": [MARK]},
        {"class_name": MARK, "config": {"layers": [{"class_name": MARK, "config": {}}]}},
        {"class_name": "Sequential", "config": {"layers": [{"class_name": MARK, "config": {}}]}},
    ],
)
def test_nothing_is_echoed(service: Live, network: Any) -> None:
    response = service.post("/v1/analyze", json={"network": network})
    assert response.status_code == 422
    assert MARK not in response.text
    assert MARK not in str(response.headers)


@pytest.mark.parametrize(
    "body",
    [
        {MARK: MARK},
        {**LAYER, MARK: 1},
        {**LAYER, "kernel": MARK},
        {**LAYER, "padding": [MARK, MARK]},
        {**LAYER, "dtype": MARK},
        MARK,
        [MARK],
    ],
)
def test_nothing_of_a_wrong_body_is_echoed(service: Live, body: Any) -> None:
    response = service.post("/v1/conv", json=body)
    found = problem(response, "invalid")
    assert MARK not in response.text
    assert all(error["pointer"].startswith("#") for error in found["errors"])


@pytest.mark.parametrize("media", ["text/plain", "application/octet-stream"])
def test_nothing_of_an_upload_is_echoed(service: Live, media: str) -> None:
    text = f"from keras import {MARK}\n{MARK} = {MARK}.Sequential(['{MARK}'])\n"
    response = service.post("/v1/read", content=text, headers={"content-type": media})
    assert MARK not in problem(response, "unreadable")["detail"]


def test_a_layer_is_named_by_its_place(service: Live) -> None:
    layers = [{"activation": "relu"}, {"conv": {"filters": 3, "kernel": 99}, "name": MARK}]
    response = service.post("/v1/analyze", json={"network": {"input": [8, 8, 3], "layers": layers}})
    assert "layers[1] (conv) on 1x8x8x3" in problem(response, "unreadable")["detail"]


def test_where_a_field_is_wrong(service: Live) -> None:
    asked = {"network": "lenet5", "batch": 0, "dtype": "float31", "more": 1}
    found = problem(service.post("/v1/analyze", json=asked), "invalid")
    errors = {error["pointer"]: error["detail"] for error in found["errors"]}
    assert set(errors) == {"#/batch", "#/dtype", "#"}
    assert "float32" in errors["#/dtype"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("", "malformed"),
        ("{", "malformed"),
        ('{"input": [NaN, 3]}', "malformed"),
        ('{"input": [Infinity, 3]}', "malformed"),
        ('{"input": [1e999, 3]}', "invalid"),
        ('{"input": [1.5, 3]}', "invalid"),
        ('{"input": [true, 3]}', "invalid"),
        ('{"input": ["1", 3]}', "invalid"),
        ('{"input": [%s, 3]}' % (10**30), "invalid"),
        ('{"input": [%s, 3]}' % ("9" * 5000), "malformed"),
        ('{"input": [-1, 3]}', "invalid"),
        ("[" * 65536, "malformed"),
        ('{"input":' * 8000, "malformed"),
        ('"\\ud800"', "malformed"),
        (b"\xff\xfe", "malformed"),
        ("null", "invalid"),
    ],
)
def test_bodies_that_are_no_question(service: Live, body: Any, kind: str) -> None:
    headers = {"content-type": "application/json"}
    problem(service.post("/v1/conv", content=body, headers=headers), kind)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e308", "9" * 400, "-0.0"])
def test_numbers_inside_a_network(service: Live, number: str) -> None:
    body = '{"network": {"input": [8, 8, 3], "layers": [{"conv": [%s, 1]}, {"dropout": %s}]}}'
    headers = {"content-type": "application/json"}
    for layer in ("conv", "dense", "dropout", "leaky_relu"):
        text = body.replace("conv", layer) % (number, number)
        response = service.post("/v1/analyze", content=text, headers=headers)
        assert response.status_code in (200, 400, 422)
        assert not re.search(r"NaN|Infinity", response.text)


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "multipart/x"]
)
def test_wrong_media_types(service: Live, media: str) -> None:
    body = json.dumps(LAYER)
    problem(service.post("/v1/conv", content=body, headers={"content-type": media}), "media-type")


def test_no_media_type(service: Live) -> None:
    problem(service.post("/v1/conv", content=json.dumps(LAYER).encode()), "media-type")


def test_methods(service: Live) -> None:
    for method, path in (("GET", "/v1/conv"), ("DELETE", "/v1/zoo"), ("HEAD", "/v1/conv")):
        response = service.request(method, path)
        assert response.status_code == 405
        assert response.headers["allow"]
        assert response.headers["content-type"] == "application/problem+json"
    assert service.options("/v1/conv").headers["allow"] == "POST, OPTIONS"
    assert service.options("/v1/zoo").headers["allow"] == "GET, HEAD, OPTIONS"
    problem(service.get("/nothing"), "not-found")
    problem(service.get("/v1/zoo/"), "not-found")


@pytest.mark.parametrize("path", ["/v1/zoo", "/livez", "/docs", "/openapi.json", "/problems"])
def test_head(service: Live, path: str) -> None:
    head, get = service.head(path), service.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(get.content))
    assert head.headers["content-type"] == get.headers["content-type"]


def test_headers_of_every_answer(service: Live) -> None:
    answers = {"/livez": DATA_POLICY, "/nothing": DATA_POLICY, "/docs": POLICY, "/problems": POLICY}
    for path, policy in answers.items():
        response = service.get(path)
        assert response.headers["content-security-policy"] == policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert re.fullmatch("[0-9a-f]{16}", response.headers["x-request-id"])
        assert "access-control-allow-origin" not in response.headers
        assert "server" not in response.headers
    given = service.get("/livez", headers={"x-request-id": "from-a.proxy_1"})
    assert given.headers["x-request-id"] == "from-a.proxy_1"
    given = service.get("/livez", headers={"x-request-id": "<script>"})
    assert re.fullmatch("[0-9a-f]{16}", given.headers["x-request-id"])


def test_the_documentation_is_served_from_here(service: Live) -> None:
    text = service.get("/docs").text
    links = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert links.pop(0) == "data:,"
    assert len(links) == 3
    for link in links:
        assert service.get(f"/{link}").status_code == 200
    assert "//" not in "".join(links)
    assert "<script>" not in text
    assert "style=" not in text


def test_every_problem_has_a_description(service: Live) -> None:
    text = service.get("/problems").text
    for name in KINDS:
        assert f'<a id="{name}"></a>' in text


def test_the_openapi_document(service: Live) -> None:
    found = service.get("/openapi.json").json()
    for path, operations in found["paths"].items():
        for operation in operations.values():
            assert operation["description"], path
            for status, answer in operation["responses"].items():
                if status >= "400":
                    assert list(answer["content"]) == ["application/problem+json"]
    names = ("conv", "analyze", "compare", "memory", "filter", "fit", "advise", "sweep")
    for path in (f"/v1/{name}" for name in names):
        operation = found["paths"][path]["post"]
        assert {"200", "400", "406", "408", "413", "415", "422", "429", "431", "503"} <= set(
            operation["responses"]
        )
        name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        schema = found["components"]["schemas"][name.rpartition("/")[2]]
        for example in schema["examples"]:
            assert service.post(path, json=example).status_code == 200


def test_answers_fit_their_schemas(service: Live) -> None:
    found = service.get("/openapi.json").json()
    asked = {"network": "lenet5", "engine": "torch"}
    bodies = {
        **dict.fromkeys(("analyze", "memory", "fit", "advise"), asked),
        "conv": {**LAYER, "explain": True},
        "compare": {"left": "lenet5", "right": "alexnet"},
    }
    for path, body in bodies.items():
        operation = found["paths"][f"/v1/{path}"]["post"]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        validator = Draft202012Validator({**schema, "components": found["components"]})
        validator.validate(service.post(f"/v1/{path}", json=body).json())


def test_probes_and_metrics(service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    assert service.get("/livez").json() == {"status": "alive"}
    assert service.get("/readyz").json() == {"status": "ready"}
    monkeypatch.setattr(lifecycle, "draining", True)
    assert problem(service.get("/readyz"), "draining")
    assert service.get("/livez").status_code == 200
    service.request("DELETE", "/secret-path")
    text = service.get("/metrics").text
    assert "secret-path" not in text
    assert 'convcalc_requests_total{method="OTHER",route="other",status="404"} 1.0' in text
    assert 'convcalc_request_seconds_count{route="/livez"}' in text
    # One that is worn is replaced at the next question only.
    assert re.search(r"^convcalc_processes [12]\.0$", text, re.MULTILINE)


def test_keys() -> None:
    with serving(api_keys="one,two", processes=1) as client:
        problem(client.get("/v1/zoo"), "unauthorized")
        problem(client.get("/metrics", headers={"x-api-key": "three"}), "unauthorized")
        assert client.get("/livez").status_code == 200
        assert client.get("/docs").status_code == 200
        assert client.get("/v1/zoo", headers={"authorization": "Bearer two"}).status_code == 200
        assert client.get("/v1/zoo", headers={"x-api-key": "one"}).status_code == 200
        declared = client.get("/openapi.json").json()["paths"]["/v1/zoo"]["get"]["responses"]
        assert "401" in declared


def test_origins() -> None:
    with serving(cors_origins="https://one.example", processes=1) as client:
        headers = {"origin": "https://one.example", "access-control-request-method": "POST"}
        found = client.options("/v1/conv", headers=headers)
        assert found.headers["access-control-allow-origin"] == "https://one.example"
        found = client.post("/v1/conv", json=LAYER, headers={"origin": "https://two.example"})
        assert "access-control-allow-origin" not in found.headers


def test_the_page(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.html").write_text("<title>convcalc</title>")
    (tmp_path / "page.js").write_text("1")
    (tmp_path.parent / "outside").write_text("SECRET")
    monkeypatch.setattr(page, "directory", lambda: tmp_path)
    with serving(processes=1) as client:
        assert "convcalc" in client.get("/").text
        assert "javascript" in client.get("/page.js").headers["content-type"]
        assert client.head("/page.js").status_code == 200
        for path in ("/../outside", "/%2e%2e/outside", "/..%2foutside", "/page.js/../../outside"):
            assert "SECRET" not in client.get(path).text
            problem(client.get(path), "not-found")
        problem(client.get("/v1/nothing"), "not-found")
        assert client.get("/v1/conv").status_code == 405
        assert client.post("/v1/conv", json=LAYER).status_code == 200


def test_where_the_page_is(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "convcalc"
    monkeypatch.setattr(page.resources, "files", lambda name: package)
    assert page.directory() is None
    for folder in (tmp_path / "web", package / "web"):
        folder.mkdir(parents=True)
        (folder / "index.html").write_text("")
        assert page.directory() == folder
