"""`convcalc serve` as a process: settings, draining, several server processes; /v1/verify."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_server import LAYER, problem, serving

from convcalc.cli import main
from convcalc.errors import ModelError
from convcalc.service import lifecycle, page, server, verify
from convcalc.service.protocol import Protocol


@contextmanager
def process(*flags: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command on a free port, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-c",
        "from convcalc.cli import main; main()",
        "serve",
        "--port",
        str(port),
        *flags,
    ]
    started = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                httpx.get(f"{address}/livez")
                break
            except httpx.TransportError:
                assert started.poll() is None
                time.sleep(0.1)
        yield started, address
    finally:
        started.kill()
        started.communicate()


def spawned(pid: int) -> bool:
    """Whether a process is a server process, not what keeps account of them."""
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_draining_and_the_log() -> None:
    with process("--processes", "1", "--drain", "1.5") as (started, address):
        answer = httpx.post(f"{address}/v1/conv", json=LAYER, timeout=30)
        assert answer.status_code == 200
        assert "server" not in answer.headers
        started.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert httpx.get(f"{address}/readyz").status_code == 503
        assert httpx.post(f"{address}/v1/conv", json=LAYER).status_code == 200
        _, log = started.communicate(timeout=30)
    lines = [json.loads(line) for line in log.splitlines()]
    (served,) = [line for line in lines if line.get("status") == 200 and line["route"] != "/livez"][
        :1
    ]
    assert served["route"] == "/v1/conv"
    assert served["request_id"] == answer.headers["x-request-id"]
    assert {"time", "level", "event", "method", "bytes", "ms"} <= set(served)
    assert "Traceback" not in log


def test_a_server_process_that_is_killed_is_replaced() -> None:
    with process("--workers", "2", "--processes", "1", "--drain", "0") as (started, address):
        servers: list[int] = []
        for _ in range(100):
            listed = subprocess.check_output(["pgrep", "-P", str(started.pid)], text=True)
            servers = [int(pid) for pid in listed.split() if spawned(int(pid))]
            if len(servers) == 2:
                break
            time.sleep(0.1)
        assert len(servers) == 2
        os.kill(servers[0], signal.SIGKILL)
        good = 0
        for _ in range(40):
            try:
                good += httpx.post(f"{address}/v1/conv", json=LAYER, timeout=30).status_code == 200
            except httpx.TransportError:
                time.sleep(0.1)
        # Only a request that the killed process had taken may fail.
        assert good >= 38
        started.terminate()
        started.communicate(timeout=30)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The settings that would be served."""
    found: list[Any] = []
    monkeypatch.setattr(server, "run", found.append)
    for name in [name for name in os.environ if name.startswith("CONVCALC_")]:
        monkeypatch.delenv(name)
    return found


def command(monkeypatch: pytest.MonkeyPatch, *flags: str) -> int:
    monkeypatch.setattr(sys, "argv", ["convcalc", "serve", *flags])
    before = dict(os.environ)
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
    return 0


def test_flags(ran: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVCALC_QUEUE", "5")
    flags = ("--port", "81", "--memory", "512MiB", "--max-body", "2MB", "--verify", "--rate", "3")
    assert command(monkeypatch, *flags) == 0
    (settings,) = ran
    assert (settings.port, settings.memory, settings.max_body) == (81, 2**29, 2_000_000)
    assert (settings.queue, settings.verify, settings.rate) == (5, True, 3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--port", "99999"), "port: "),
        (("--max-body", "many"), "'many' is not a size"),
        (("--verify", "--host", "0.0.0.0"), "needs a loopback --host"),
    ],
)
def test_flags_that_make_no_sense(
    ran: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    message: str,
) -> None:
    assert command(monkeypatch, *flags) == 2
    assert message in capsys.readouterr().err
    assert not ran


def test_without_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "convcalc.service.server", None)
    assert command(monkeypatch) == 5
    assert "convcalc[serve]" in capsys.readouterr().err


def test_what_a_server_process_serves(monkeypatch: pytest.MonkeyPatch, ran: list[Any]) -> None:
    monkeypatch.setenv("CONVCALC_CONNECTIONS", "7")
    monkeypatch.setattr(server, "log_to_stderr", lambda: None)
    monkeypatch.setattr(Protocol, "connections_limit", 1)
    assert server.served().state.settings.connections == 7
    assert Protocol.connections_limit == 7


def test_uvicorn_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(server.uvicorn, "run", lambda app, **rest: given.update(rest, app=app))
    monkeypatch.setattr(server, "log_to_stderr", lambda: None)
    server.run(server.ServiceSettings(port=1, deadline=3))
    assert (given["port"], given["timeout_graceful_shutdown"]) == (1, 8)
    assert (given["http"], given["server_header"]) == (Protocol, False)


def test_draining_is_put_off_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    monkeypatch.setattr(lifecycle, "draining", False)
    try:
        with lifecycle.drained(0.2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
            assert lifecycle.draining
            assert not stopped
            time.sleep(0.4)
            assert stopped == [signal.SIGTERM]
        with lifecycle.drained(0):
            os.kill(os.getpid(), signal.SIGTERM)
        assert len(stopped) == 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_verify_is_switched_on_and_local(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"network": "lenet5", "mode": "inference"}
    monkeypatch.setattr(verify, "measured", lambda question: b'[{"mode": "inference"}]')
    with serving(processes=1, verify=True) as client:
        assert client.post("/v1/verify", json=asked).json() == [{"mode": "inference"}]
        other = {"host": "rebound.example"}
        problem(client.post("/v1/verify", json=asked, headers=other), "forbidden")
        monkeypatch.setattr(verify, "loopback", lambda host: False)
        problem(client.post("/v1/verify", json=asked), "forbidden")
        monkeypatch.undo()

        def refuse(question: Any) -> bytes:
            raise ModelError("'S3CRET' no")

        monkeypatch.setattr(verify, "measured", refuse)
        asked["batch"] = 2
        assert (
            "S3CRET" not in problem(client.post("/v1/verify", json=asked), "unreadable")["detail"]
        )
    with serving(processes=1) as client:
        problem(client.post("/v1/verify", json=asked), "not-found")


def test_verify_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    import convcalc.cli.verify as command_verify
    from convcalc.service.questions import VerifyQuestion

    runs: list[Any] = []

    class Verdict:
        def to_json(self) -> dict[str, str]:
            return {"mode": runs[-1].mode}

    def judged(net: Any, request: Any, tolerance: Any, record: Any) -> Verdict:
        runs.append(request)
        return Verdict()

    monkeypatch.setattr(command_verify, "verdict_of", judged)
    found = json.loads(verify.measured(VerifyQuestion(network="lenet5", framework="jax")))
    assert found == [{"mode": "inference"}, {"mode": "training"}]
    assert {run.method for run in runs} == {"compiled"}


def test_loopback() -> None:
    assert all(map(verify.loopback, ("127.0.0.1", "::1", "localhost", "127.1.2.3")))
    assert not any(map(verify.loopback, ("0.0.0.0", "10.0.0.1", "example", "")))


def test_no_page_yet(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "directory", lambda: None)
    with serving(processes=1) as client:
        problem(client.get("/"), "not-found")
