"""docs/api.md and docs/deploy.md say what is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from service_server import Live

from convcalc.service.settings import ServiceSettings

DOCS = Path(__file__).parent.parent.parent / "docs"
API = (DOCS / "api.md").read_text(encoding="utf-8")
DEPLOY = (DOCS / "deploy.md").read_text(encoding="utf-8")
LINES = re.findall(r"^\$ (curl .*)$", API, re.MULTILINE)


def test_every_route_has_a_line(service: Live) -> None:
    for path in service.get("/openapi.json").json()["paths"]:
        if path != "/livez":
            place = f"localhost:8000{path.partition('{')[0]}"
            assert any(place in line for line in LINES), path


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_curl_works(service: Live, line: str) -> None:
    _, *words = shlex.split(line)
    headers, body, url = {}, None, ""
    while words:
        word = words.pop(0)
        if word == "-H":
            name, _, value = words.pop(0).partition(": ")
            headers[name] = value
        elif word in ("-d", "--data-binary"):
            body = words.pop(0)
        elif word == "-o":
            words.pop(0)
        elif word != "-s":
            url = word
    if body == "@model.onnx":
        corpus = Path(__file__).parent.parent / "fuzz" / "corpus"
        content: bytes | str | None = next(corpus.glob("*.onnx")).read_bytes()
    else:
        content = body
    path = url.removeprefix("localhost:8000")
    method = "GET" if body is None else "POST"
    assert service.request(method, path, content=content, headers=headers).status_code == 200


def test_every_setting_is_described() -> None:
    described = set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", API, re.MULTILINE)))
    )
    assert described == set(ServiceSettings.model_fields)


def test_the_example_for_kubernetes() -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", DEPLOY, re.DOTALL | re.MULTILINE)
    objects = {each["kind"]: each for each in yaml.safe_load_all(block)}
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = {item["name"]: item["value"] for item in container["env"]}
    assert {name.removeprefix("CONVCALC_").lower() for name in given} <= set(
        ServiceSettings.model_fields
    )
    settings = ServiceSettings(processes=int(given["CONVCALC_PROCESSES"]))
    assert pod["terminationGracePeriodSeconds"] > settings.drain + settings.deadline
    needed = 150 + 2 * (int(given["CONVCALC_MEMORY"]) / 2**20 + 50)
    assert int(container["resources"]["limits"]["memory"].removesuffix("Mi")) >= needed
