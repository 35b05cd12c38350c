"""Speed of the service, as ratios to an empty FastAPI endpoint in the same run.

    python -m benchmarks.service

Two processes of uvicorn take turns; the client is a third one, with a few connections of its own.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from itertools import count
from typing import Any

ROUNDS, SECONDS, CLIENTS = 5, 2.0, 4

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


def load(port: int, path: str, bodies: Any) -> tuple[float, list[float]]:
    """Requests a second over all connections, and each one's seconds."""
    taken: list[float] = []
    end = time.perf_counter() + SECONDS

    def client() -> None:
        connection = HTTPConnection("127.0.0.1", port)
        while (start := time.perf_counter()) < end:
            body = json.dumps(next(bodies))
            connection.request("POST", path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise SystemExit(f"{path}: {response.status}")
            taken.append(time.perf_counter() - start)

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(taken) / SECONDS, taken


def main() -> None:
    empty, empty_port = started(EMPTY, "{port}")
    serve = ("serve", "--port", "{port}", "--processes", "1")
    service, port = started(SERVE, *serve, CONVCALC_ACCESS_LOG="false")
    numbers = count(1)
    same = iter(lambda: LAYER, None)
    new = ({**LAYER, "filters": next(numbers)} for _ in count())
    batches = ({"network": "resnet50", "batch": next(numbers)} for _ in count())
    known = iter(lambda: {"network": "resnet50"}, None)
    cases = {
        "`/v1/conv`, asked before": ("/v1/conv", same),
        "`/v1/conv`, each one new": ("/v1/conv", Locked(new)),
        "`/v1/analyze` of ResNet-50, asked before": ("/v1/analyze", known),
        "`/v1/analyze` of ResNet-50, each batch new": ("/v1/analyze", Locked(batches)),
    }
    print("| request | a second | of the empty endpoint's | median | p99 |")
    print("|---|---:|---:|---:|---:|")
    try:
        nothing = iter(lambda: {}, None)
        for title, (path, bodies) in cases.items():
            load(port, path, bodies)
            rates, ratios, taken = [], [], []
            for _ in range(ROUNDS):
                base, _ = load(empty_port, "/", nothing)
                rate, times = load(port, path, bodies)
                rates.append(rate)
                ratios.append(rate / base)
                taken += times
            taken.sort()
            print(
                f"| {title} | {statistics.median(rates):,.0f} | {statistics.median(ratios):.2f} | "
                f"{1e3 * statistics.median(taken):.1f} ms | "
                f"{1e3 * taken[len(taken) * 99 // 100]:.1f} ms |",
                flush=True,
            )
    finally:
        for process in (empty, service):
            process.kill()
            process.wait()


class Locked:
    """A generator that several threads share."""

    def __init__(self, of: Any) -> None:
        self.of, self.lock = of, threading.Lock()

    def __next__(self) -> Any:
        with self.lock:
            return next(self.of)


if __name__ == "__main__":
    main()
