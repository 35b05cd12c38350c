"""Speed of the service, as ratios to an empty FastAPI endpoint in the same run; parts of a request.

    python -m benchmarks.service            # needs wrk (apt-get install wrk)
    python -m benchmarks.service --parts

Two processes of uvicorn take turns; wrk is the client, in a process of its own, with four
connections.  Each new question about a layer differs in its sizes, filters, kernel, stride and
padding from all before it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUNDS, SECONDS, CLIENTS = 7, 3, 4

EMPTY = """
import sys, uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.post("/")
async def empty(): return {}
uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False)
"""
SERVE = "from convcalc.cli import main; main()"
LAYER = {"input": [150, 100, 3], "filters": 200, "kernel": 5, "padding": "same"}

#: wrk's script: BODY is a Lua expression in n, which counts the requests of all rounds.
SCRIPT = """
local n = %d
function request()
  n = n + 1
  return wrk.format("POST", "%s", {["content-type"] = "application/json"}, %s)
end
"""
NEW_LAYER = """string.format(
  '{"input": [%d, %d, 3], "filters": %d, "kernel": %d, "stride": %d, "padding": "%s"}',
  32 + n % 997, 32 + n % 991, n % 4093 + 1, n % 7 + 1, n % 3 + 1,
  n % 2 == 0 and "same" or "valid")"""
NEW_BATCH = """string.format('{"network": "resnet50", "batch": %d}', n)"""


def started(code: str, *arguments: str, **environment: str) -> tuple[subprocess.Popen[bytes], int]:
    """A server on a port of its own, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", code, *(a.format(port=port) for a in arguments)]
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL
    )
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, port
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server does not start")


def load(port: int, path: str, body: str, first: int, seconds: float) -> tuple[float, float]:
    """Requests a second, and the 99th percentile in milliseconds."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT % (first, path, body))
        script.flush()
        command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds:.0f}", "--latency"]
        command += ["-s", script.name, f"http://127.0.0.1:{port}"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(said)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    late = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    assert rate, said
    assert late, said
    return float(rate[1]), float(late[1]) * {"us": 1e-3, "ms": 1, "s": 1e3}[late[2]]


def processor_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> float:
    """What a process and its children have used so far."""
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return sum(map(processor_seconds, (pid, *map(int, listed.stdout.split()))))


def rates() -> None:
    """The table of rates."""
    empty, empty_port = started(EMPTY, "{port}")
    serve = ("serve", "--port", "{port}", "--processes", "1")
    service, port = started(SERVE, *serve, CONVCALC_ACCESS_LOG="false")
    cases = {
        "one layer, each a new one": ("/v1/conv", NEW_LAYER),
        "one layer, asked before": ("/v1/conv", f"'{json.dumps(LAYER)}'"),
        "ResNet-50, each batch a new one": ("/v1/analyze", NEW_BATCH),
        "ResNet-50, asked before": ("/v1/analyze", '\'{"network": "resnet50"}\''),
    }
    print("| request | a second | of empty | a second of processor | of empty | p99 |")
    print("|---|---:|---:|---:|---:|---:|")
    first = 0
    try:
        for title, (path, body) in cases.items():
            load(port, path, body, 4 * 10**7, 1)
            found = []
            for _ in range(ROUNDS):
                before = family(empty.pid)
                base, _ = load(empty_port, "/", "'{}'", 0, SECONDS)
                base_each = SECONDS * base / (family(empty.pid) - before)
                before = family(service.pid)
                rate, late = load(port, path, body, first, SECONDS)
                each = SECONDS * rate / (family(service.pid) - before)
                found.append((rate, rate / base, each, each / base_each, late))
                first += 10**6
            rate, ratio, each, share, late = map(statistics.median, zip(*found, strict=True))
            cells = f"{rate:,.0f} | {ratio:.2f} | {each:,.0f} | {share:.2f} | {late:.1f} ms"
            print(f"| {title} | {cells} |", flush=True)
    finally:
        for process in (empty, service):
            process.kill()
            process.wait()


def least(call: Callable[[], object], count: int = 200, rounds: int = 60) -> float:
    """Processor microseconds of one call, the least of some rounds."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(count):
            call()
        taken.append((time.process_time() - start) / count)
    return 1e6 * min(taken)


def parts() -> None:
    """Where the processor time of one new layer goes, inside the server process."""
    from fastapi import FastAPI

    from convcalc.analysis import costs
    from convcalc.cli.conv import single
    from convcalc.service import answers, jobs
    from convcalc.service.app import create_app
    from convcalc.service.pool import Reply
    from convcalc.service.questions import ConvQuestion
    from convcalc.service.settings import ServiceSettings

    app: Any = create_app(ServiceSettings(access_log=False, processes=1, answers=0))
    other = FastAPI()

    @other.post("/")
    async def nothing() -> dict[str, str]:
        return {}

    body = json.dumps(LAYER).encode()
    question = ConvQuestion.model_validate(LAYER)
    asked = {**question.__dict__, "form": "json", "exact": False}
    window = {name: asked[name] for name in ("kernel", "stride", "padding", "dilation")}
    arguments = ((150, 100, 3), 200, window, 1, False, False, True, False)
    report = costs.analyze(single(*arguments))
    reply = Reply(*jobs.conv(asked))

    def request(app: Any, path: str, body: bytes) -> float:
        headers = [(b"content-type", b"application/json"), (b"host", b"x"), (b"accept", b"*/*")]
        headers.append((b"content-length", b"%d" % len(body)))

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            assert message.get("status", 200) == 200

        async def call() -> None:
            scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode()}
            scope |= {"headers": headers, "query_string": b"", "client": ("x", 1), "whole": True}
            scope |= {"http_version": "1.1", "server": ("x", 80), "scheme": "http", "root_path": ""}
            await app(scope, receive, send)

        async def several() -> float:
            taken = []
            for _ in range(60):
                start = time.process_time()
                for _ in range(200):
                    await call()
                taken.append((time.process_time() - start) / 200)
            return 1e6 * min(taken)

        return asyncio.run(several())

    build = least(lambda: single(*arguments))
    analysis = least(lambda: costs.analyze(single(*arguments))) - build
    whole = request(app, "/v1/conv", body)
    conv = least(lambda: jobs.conv(asked))
    value = json.loads(body)
    rows = {
        "JSON and validation": least(lambda: answers.from_json(body))
        + least(lambda: ConvQuestion.__pydantic_validator__.validate_python(value)),
        "the network of one layer: shapes, parameters": build,
        "costs, receptive field, memory by the book": analysis,
        "JSON of the report": least(lambda: jobs.as_json(report, False)),
        "headers and ETag": least(lambda: answers.tagged(reply)),
    }
    rows["attributes, defaults, the rest of the answer"] = conv - sum(
        rows[name] for name in list(rows)[1:4]
    )
    rows["routing, limits, metrics, request id, negotiation"] = whole - sum(rows.values())
    print("| part of a request | µs |")
    print("|---|---:|")
    for name, taken in rows.items():
        print(f"| {name} | {taken:.0f} |")
    print(f"| together | {whole:.0f} |")
    print(f"| the empty endpoint, the same way | {request(other, '/', b'{}'):.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", action="store_true", help="where a request's time goes")
    if parser.parse_args().parts:
        parts()
    else:
        rates()


if __name__ == "__main__":
    main()
