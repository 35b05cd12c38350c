"""Too much, too slow, too often: what is refused, and that others are served meanwhile."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic_core import to_json
from service_server import LAYER, Live, problem, serving

from convcalc.service import jobs
from convcalc.service.answers import Answers
from convcalc.service.limits import CLIENTS, Limits
from convcalc.service.pool import Reply
from convcalc.service.problems import Problem
from convcalc.service.settings import ServiceSettings


@pytest.fixture(scope="module")
def small() -> Iterator[Live]:
    """A service with little of everything."""
    limits = {
        "processes": 1,
        "queue": 1,
        "max_body": 4096,
        "max_upload": 20_000,
        "max_headers": 2048,
        "header_seconds": 0.5,
        "body_seconds": 0.5,
        "deadline": 15,
        "cpu_seconds": 0.5,
        "memory": 2**29,
    }
    with serving(**limits) as client:
        yield client


def raw(client: Live, *parts: bytes, pause: float = 0.0, wait: float = 10.0) -> bytes:
    """What the server says to bytes that come one after the other, until it closes."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=wait) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except OSError:
            pass
        found = b""
        try:
            while data := connection.recv(65536):
                found += data
        except OSError:
            pass
        return found


HEAD = b"POST /v1/conv HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_a_body_that_is_declared_too_large(small: Live) -> None:
    found = problem(small.post("/v1/conv", json={**LAYER, "more": "x" * 5000}), "too-large")
    assert "4,096" in found["detail"]
    gigabyte = raw(small, HEAD + b"content-length: 1073741824\r\n\r\n")
    assert status(gigabyte) == 413
    assert b"connection: close" in gigabyte.lower()


def test_a_body_that_is_too_large_in_pieces(small: Live) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    headers = {"content-type": "application/json"}
    problem(small.post("/v1/conv", content=pieces(), headers=headers), "too-large")
    headers = {"content-type": "application/octet-stream"}
    problem(small.post("/v1/read", content=pieces(), headers=headers), "too-large")


def test_pieces_within_the_limit(small: Live) -> None:
    body = json.dumps(LAYER).encode()
    pieces = (body[i : i + 7] for i in range(0, len(body), 7))
    headers = {"content-type": "application/json"}
    assert small.post("/v1/conv", content=pieces, headers=headers).status_code == 200


@pytest.mark.parametrize("length", [b"-1", b"x", b"1" * 30])
def test_lengths_that_are_none(small: Live, length: bytes) -> None:
    answer = raw(small, HEAD + b"content-length: " + length + b"\r\n\r\n", wait=3)
    assert status(answer) in (400, 413)


def test_headers_that_are_too_large(small: Live) -> None:
    problem(small.get("/v1/zoo", headers={"x-many": "y" * 3000}), "headers")
    endless = raw(small, b"GET / HTTP/1.1\r\n", *[b"x: " + b"y" * 500 + b"\r\n"] * 20, pause=0.01)
    assert endless.startswith(b"HTTP/1.1 431 ")


def test_headers_that_come_slowly(small: Live) -> None:
    start = time.monotonic()
    assert raw(small, b"GET /livez HT").startswith(b"HTTP/1.1 408 ")
    assert raw(small).startswith(b"HTTP/1.1 408 ")
    # Each byte in time, but not all of them; on a connection that has served before.
    whole = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
    answers = raw(small, whole, *(bytes([byte]) for byte in whole), pause=0.05)
    assert answers.count(b"HTTP/1.1 200 ") == 1
    assert answers.count(b"HTTP/1.1 408 ") == 1
    assert time.monotonic() - start < 8


def test_a_body_that_comes_slowly(small: Live) -> None:
    answer = raw(small, HEAD + b"content-length: 100\r\n\r\n", *[b" "] * 9, pause=0.1)
    assert status(answer) == 408
    assert small.post("/v1/conv", json=LAYER).status_code == 200


def test_connections_beyond_the_limit() -> None:
    with serving(processes=1, connections=3) as client:
        client.get("/livez")
        held = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(5)]
        time.sleep(0.2)
        lost = 0
        for connection in held:
            connection.settimeout(0.1)
            try:
                lost += connection.recv(1) == b""
            except ConnectionResetError:
                lost += 1
            except TimeoutError:
                pass
            connection.close()
        assert lost == 3
        assert client.get("/livez").status_code == 200


def test_more_requests_than_may_be_in_flight() -> None:
    with serving(processes=1, in_flight=1) as client:
        slow = socket.create_connection(("127.0.0.1", client.port))
        slow.sendall(HEAD + b"content-length: 10\r\n\r\n")
        deadline = time.monotonic() + 5
        while (answer := client.get("/v1/zoo")).status_code == 200:
            assert time.monotonic() < deadline
        problem(answer, "overloaded")
        assert answer.headers["retry-after"] == "1"
        assert client.get("/readyz").status_code == 200
        slow.close()
        while client.get("/v1/zoo").status_code == 503:
            assert time.monotonic() < deadline


def test_a_rate() -> None:
    with serving(processes=1, rate=0.5, burst=2) as client:
        answers = [client.get("/v1/zoo") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        problem(answers[2], "rate")
        assert answers[2].headers["retry-after"] == "2"
        assert client.get("/livez").status_code == 200
        assert client.get("/docs").status_code == 200


def test_a_rate_forgets_clients_and_gives_tokens_back() -> None:
    limits = Limits(app=None, settings=ServiceSettings(rate=2, burst=1))  # type: ignore[arg-type]
    limits.count("a", 0.0)
    with pytest.raises(Problem):
        limits.count("a", 0.1)
    limits.count("a", 0.6)
    for number in range(2 * CLIENTS):
        limits.count(str(number), 1.0)
    assert len(limits.clients) == CLIENTS


def ask(client: Live, **how: Any) -> Callable[[], Reply]:
    """Have a computing process do something that no route makes it do."""
    import asyncio

    pool = client.app.state.pool

    def call() -> Reply:
        future = asyncio.run_coroutine_threadsafe(
            pool.run("spin", to_json({"seconds": 0, "how": "", **how})), pool.loop
        )
        return future.result(30)

    return call


def refused(call: Callable[[], Reply]) -> str:
    with pytest.raises(Problem) as found:
        call()
    return found.value.kind


def impatient(client: Live, monkeypatch: pytest.MonkeyPatch, deadline: float) -> None:
    """Once its processes have started, give answers only so many seconds."""
    ask(client)()
    pool = client.app.state.pool
    monkeypatch.setattr(pool, "settings", pool.settings.model_copy(update={"deadline": deadline}))


def test_a_computation_that_hangs_is_killed(small: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(small, monkeypatch, 0.5)
    before = {worker.process.pid for worker in small.app.state.pool.all}
    assert refused(ask(small, seconds=60, how="sleep")) == "deadline"
    monkeypatch.undo()
    assert small.post("/v1/analyze", json={"network": "lenet5"}).status_code == 200
    assert not before & {worker.process.pid for worker in small.app.state.pool.all}
    for pid in before:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_computation_that_spins_is_stopped(small: Live) -> None:
    assert refused(ask(small, seconds=60)) == "too-expensive"


def test_a_computation_that_takes_memory_is_stopped(small: Live) -> None:
    assert ask(small, bytes=10**6)().body == b"1000000"
    assert refused(ask(small, bytes=2**30)) == "too-expensive"


def test_a_process_that_dies(small: Live) -> None:
    assert refused(ask(small, how="die")) == "lost"
    assert ask(small)().body == b"0"
    (worker,) = small.app.state.pool.idle
    os.kill(worker.process.pid, signal.SIGKILL)
    time.sleep(0.2)
    # It had nothing to do: nobody notices.
    assert ask(small)().body == b"0"


def test_what_fails_says_nothing(small: Live, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "convcalc.service"):
        assert refused(ask(small, how="fail")) == "internal"
    (record,) = [r for r in caplog.records if r.name == "convcalc.service"]
    line = json.loads(record.getMessage())
    assert line["error"] == "ZeroDivisionError"
    assert any("jobs.py" in place and "spin" in place for place in line["at"])
    assert "SECRET" not in caplog.text


def test_a_full_queue(small: Live) -> None:
    asked = [{"network": "lenet5", "batch": number} for number in range(100, 110)]
    with ThreadPoolExecutor(12) as threads:
        busy = threads.submit(ask(small, seconds=0.8, how="sleep"))
        time.sleep(0.2)
        answers = list(threads.map(lambda body: small.post("/v1/analyze", json=body), asked))
        busy.result()
    found = [answer.status_code for answer in answers]
    assert found.count(200) == 1
    assert found.count(503) == 9
    for answer in answers:
        if answer.status_code == 503:
            problem(answer, "overloaded")
    assert small.get("/livez").status_code == 200


def test_waiting_for_longer_than_the_deadline(small: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(small)()
    with ThreadPoolExecutor(1) as threads:
        busy = threads.submit(ask(small, seconds=1.5, how="sleep"))
        time.sleep(0.2)
        pool = small.app.state.pool
        settings = pool.settings.model_copy(update={"deadline": 0.2})
        monkeypatch.setattr(pool, "settings", settings)
        problem(small.post("/v1/analyze", json={"network": "lenet5", "batch": 99}), "overloaded")
        busy.result()


def zipped(data: bytes, **declared: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("config.json", data)
    found = file.getvalue()
    for size in declared.values():
        found = found.replace(len(data).to_bytes(4, "little"), size.to_bytes(4, "little"))
    return found


def test_zip_bombs(service: Live) -> None:
    headers = {"content-type": "application/zip"}
    bomb = zipped(b" " * 2**26)
    assert len(bomb) < 2**17
    problem(service.post("/v1/read", content=bomb, headers=headers), "unreadable")
    lying = zipped(b" " * 2**26, declared=100)
    problem(service.post("/v1/read", content=lying, headers=headers), "unreadable")


def test_pictures_that_are_bombs(service: Live) -> None:
    from PIL import Image

    file = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(file, "PNG")
    image = base64.b64encode(file.getvalue()).decode()
    found = service.post("/v1/filter", json={"image": image})
    problem(found, "too-expensive")
    data = file.getvalue()
    size = (10**6).to_bytes(4, "big") * 2
    head = data[12:16] + size + data[24:29]
    lying = data[:12] + head + zlib.crc32(head).to_bytes(4, "big") + data[33:]
    image = base64.b64encode(lying).decode()
    problem(service.post("/v1/filter", json={"image": image}), "unusable")


@pytest.mark.parametrize(
    ("body", "media"),
    [
        (b"[" * 65_000, "application/json"),
        (b'{"layers":' * 6_000, "application/json"),
        (b"a: &a [x]\n" + b"b: [*a, *a]\n" * 5_000, "application/yaml"),
        (b"(" * 60_000, "text/x-python"),
        (b"x = " + b"-" * 60_000 + b"1", "text/x-python"),
        (b"x = 9**9**9**9", "text/x-python"),
        (b"x" * 70_000, "text/x-python"),
        (b"\x08\x08\x3a" + b"\x0a\xff\xff\xff\xff\x0f" * 1000, "application/octet-stream"),
        (b"\x00" * 10_000, "application/octet-stream"),
    ],
)
def test_hostile_uploads(service: Live, body: bytes, media: str) -> None:
    response = service.post("/v1/read", content=body, headers={"content-type": media})
    assert response.status_code == 422, response.text
    assert len(response.text) < 1000


def test_a_network_of_many_layers(service: Live) -> None:
    layers = ["relu"] * 100_000
    body = {"network": {"input": [4, 4, 1], "layers": layers}}
    response = service.post("/v1/analyze", json=body)
    assert response.status_code in (200, 422)
    assert service.post("/v1/conv", json=LAYER).status_code == 200


def test_nothing_uploaded_is_kept(service: Live, tmp_path: Any) -> None:
    import tempfile

    before = set(os.listdir(tempfile.gettempdir()))
    for body in (b"{}", b"name: x"):
        service.post("/v1/read", content=body, headers={"content-type": "application/yaml"})
    left = set(os.listdir(tempfile.gettempdir())) - before
    assert not [name for name in left if name.startswith("convcalc-")]


def test_a_computing_process_sees_no_secrets(service: Live) -> None:
    (worker, *_) = service.app.state.pool.all
    with open(f"/proc/{worker.process.pid}/environ", "rb") as file:
        names = {entry.split(b"=")[0].decode() for entry in file.read().split(b"\0") if entry}
    assert not [name for name in names if name.startswith("CONVCALC_")]
    with open(f"/proc/{worker.process.pid}/limits") as file:
        limits = file.read()
    assert f"Max address space         {2**30}" in limits


def test_remembered_answers_are_bounded() -> None:
    answers = Answers(10_000)
    for number in range(100):
        answers.put(bytes([number]), Reply("x", b"y" * 500))
    assert len(answers.found) == 14
    assert answers.left == 10_000 - 14 * 700
    assert answers.get(bytes([99])) is not None
    assert answers.get(bytes([0])) is None
    answers.put(b"large", Reply("x", b"y" * 5_000))
    assert answers.get(b"large") is None


def test_plans_that_a_zoo_network_remembers_are_bounded() -> None:
    for batch in range(1, 40):
        net = jobs.network("lenet5", None)
        net.memo[f"plan {batch}"] = batch
    assert len(net.memo) <= jobs.PLANS + 2
