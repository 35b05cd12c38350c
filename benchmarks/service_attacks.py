"""The service under attack: how others fare meanwhile, and a soak with its memory.

    python -m benchmarks.service_attacks            # every attack, 15 seconds each
    python -m benchmarks.service_attacks --soak 10  # so many minutes of everything at once
    python -m benchmarks.service_attacks --table    # what was recorded, as the documentation has it

A neighbour, a process of its own, asks about layers that nobody has asked about, one after the
other, and takes a new connection for every tenth; each attack is a line of service_attacks.jsonl.
The soak writes a line every two seconds to service_soak.jsonl, and docs/images/service-soak.svg.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Awaitable, Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from benchmarks.service import SERVE, started

HERE = Path(__file__).parent
ATTACKS, SOAK = HERE / "service_attacks.jsonl", HERE / "service_soak.jsonl"
GRAPH = HERE.parent / "docs" / "images" / "service-soak.svg"

JSON = b"content-type: application/json\r\n"
HEAD = b"POST /v1/conv HTTP/1.1\r\nhost: x\r\n" + JSON
Seen = Counter[str]


def neighbour(port: int, seconds: float) -> dict[str, Any]:
    """What somebody else sees who asks new questions one after the other."""
    numbers = random.Random(os.getpid())
    taken, failed, connection = [], Counter[str](), HTTPConnection("127.0.0.1", port, timeout=60)
    end = time.monotonic() + seconds
    while (start := time.monotonic()) < end:
        size, filters = numbers.randrange(8, 4096), numbers.randrange(1, 10**6)
        body = json.dumps({"input": [size, size, 3], "filters": filters})
        try:
            connection.request("POST", "/v1/conv", body, {"content-type": "application/json"})
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                failed[str(response.status)] += 1
        except (OSError, HTTPException) as error:
            failed[type(error).__name__] += 1
            connection.close()
        taken.append(time.monotonic() - start)
        if len(taken) % 10 == 0:
            connection.close()
    taken.sort()
    return {
        "requests": len(taken),
        "failed": dict(failed),
        "median_ms": round(1e3 * taken[len(taken) // 2], 2),
        "p99_ms": round(1e3 * taken[len(taken) * 99 // 100], 2),
    }


async def said(reader: asyncio.StreamReader) -> str:
    """The status of an answer, or how the connection ended."""
    try:
        line = await reader.readline()
    except OSError as error:
        return type(error).__name__
    return line.split(b" ")[1].decode() if line.count(b" ") else "closed"


async def slow_loris(port: int, seen: Seen, count: int = 1500) -> None:
    """Connections that send a header's byte a second, and come back when they are cut off."""

    async def one() -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                answer = asyncio.ensure_future(said(reader))
                writer.write(HEAD + b"x: ")
                while not answer.done():
                    writer.write(b"y")
                    await asyncio.wait({answer}, timeout=1)
                seen[answer.result()] += 1
                writer.close()
            except OSError as error:
                seen[type(error).__name__] += 1
                await asyncio.sleep(1)

    await asyncio.gather(*(one() for _ in range(count)))


async def connections(port: int, seen: Seen, count: int = 10_000) -> None:
    """Connections that say nothing, and come back when they are cut off."""

    async def one(number: int) -> None:
        await asyncio.sleep(number / 2000)
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                seen["opened"] += 1
                seen[await said(reader)] += 1
                writer.close()
            except OSError as error:
                seen[type(error).__name__] += 1
            await asyncio.sleep(1)

    await asyncio.gather(*(one(number) for number in range(count)))


async def gigabytes(port: int, seen: Seen) -> None:
    """A body of a gigabyte, declared or in pieces, and another one as soon as it is refused."""
    piece = b"100000\r\n" + b" " * 2**20 + b"\r\n"

    async def one(declared: bool) -> None:
        while True:
            length = b"content-length: 1073741824" if declared else b"transfer-encoding: chunked"
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(HEAD + length + b"\r\n\r\n")
                answer = asyncio.ensure_future(said(reader))
                with contextlib.suppress(OSError):
                    for _ in range(1024):
                        writer.write(b" " * 2**20 if declared else piece)
                        await writer.drain()
                        seen["MiB sent"] += 1
                        if answer.done():
                            break
                seen[await answer] += 1
                writer.close()
            except OSError as error:
                seen[type(error).__name__] += 1

    await asyncio.gather(*(one(number % 2 == 0) for number in range(8)))


def bomb() -> bytes:
    """A .keras archive that grows a thousandfold."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("config.json", b" " * 2**26)
    return file.getvalue()


def hostile() -> list[tuple[str, str, bytes]]:
    """Path, media type and body of questions that are meant to hurt."""
    layers = json.dumps({"network": {"input": [4, 4, 1], "layers": ["relu"] * 50_000}}).encode()
    return [
        ("/v1/read", "application/zip", bomb()),
        (
            "/v1/read",
            "application/octet-stream",
            b"\x08\x08\x3a" + b"\x0a\xff\xff\xff\xff\x0f" * 999,
        ),
        ("/v1/read", "text/x-python", b"x = 9**9**9**9"),
        ("/v1/conv", "application/json", b"[" * 65_536),
        ("/v1/conv", "application/json", b'{"input": [NaN, 3]}'),
        ("/v1/conv", "application/json", b'{"input": [%s, 3]}' % (b"9" * 4000)),
        ("/v1/analyze", "application/json", layers),
        ("/v1/sweep", "application/json", b'{"network": "lenet5", "batch": "1:100000"}'),
        ("/v1/conv", "text/plain", b"?"),
    ]


async def questions(port: int, seen: Seen) -> None:
    """Bombs, brackets, code and networks of 50,000 layers, eight at once."""

    async def one(number: int) -> None:
        choose = random.Random(number)
        asked = hostile()
        while True:
            path, media, body = choose.choice(asked)
            head = f"POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            head += f"content-type: {media}\r\ncontent-length: {len(body)}\r\n\r\n"
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(head.encode() + body)
                seen[await said(reader)] += 1
                with contextlib.suppress(OSError):
                    await reader.read()
                writer.close()
            except OSError as error:
                seen[type(error).__name__] += 1

    await asyncio.gather(*(one(number) for number in range(8)))


def children(pid: int) -> list[int]:
    """The processes below one, itself included."""
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [pid, *(c for child in listed.stdout.split() for c in children(int(child)))]


def killer(what: str, seconds: float) -> Callable[[int, Seen], Awaitable[None]]:
    """Ends a process whose command line has `what` with SIGKILL, every so many seconds."""

    async def kill(root: int, seen: Seen) -> None:
        while True:
            await asyncio.sleep(seconds)
            found = [
                pid
                for pid in children(root)[1:]
                if what in Path(f"/proc/{pid}/cmdline").read_bytes().decode()
            ]
            if found:
                os.kill(random.choice(found), signal.SIGKILL)
                seen["killed"] += 1

    return kill


async def analyses(port: int, seen: Seen, clients: int = 4) -> None:
    """Ordinary work for the computing processes: LeNet-5 at ever new batches."""
    numbers = random.Random(1)

    async def one() -> None:
        while True:
            batch = numbers.randrange(1, 2**24)
            body = json.dumps({"network": "lenet5", "batch": batch}).encode()
            head = b"POST /v1/analyze HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + JSON
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
                seen[await said(reader)] += 1
                await reader.read()
                writer.close()
            except OSError as error:
                seen[type(error).__name__] += 1

    await asyncio.gather(*(one() for _ in range(clients)))


#: Name: (what is done to the port, what is done to the processes, settings of the service).
CASES: dict[str, tuple[Any, Any, dict[str, str]]] = {
    "nothing": (None, None, {}),
    "1,500 slow-lorises": (slow_loris, None, {}),
    "10,000 silent connections, 12,000 allowed": (
        connections,
        None,
        {"CONVCALC_CONNECTIONS": "12000"},
    ),
    "10,000 silent connections, 2,048 allowed": (connections, None, {}),
    "8 bodies of a gigabyte": (gigabytes, None, {}),
    "8 clients with hostile questions": (questions, None, {}),
    "4 clients with ordinary analyses": (analyses, None, {}),
    "the same, a computing process killed each second": (
        analyses,
        killer("service.worker", 1.0),
        {},
    ),
    "a server process of two killed every 3 seconds": (
        analyses,
        killer("spawn_main", 3.0),
        {"CONVCALC_WORKERS": "2"},
    ),
}


def service(**settings: str) -> tuple[subprocess.Popen[bytes], int]:
    """The service with two computing processes."""
    given = ("serve", "--port", "{port}", "--processes", "2", "--drain", "0")
    found = started(SERVE, *given, CONVCALC_ACCESS_LOG="false", **settings)
    time.sleep(3)
    return found


def held(root: int) -> dict[str, int]:
    """Proportional bytes of the server process and of the computing processes."""
    found = {"http": 0, "computing": 0}
    for pid in children(root):
        with contextlib.suppress(OSError):
            path = Path(f"/proc/{pid}")
            lines = (path / "smaps_rollup").read_text().splitlines()
            pss = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
            kind = "computing" if b"service.worker" in (path / "cmdline").read_bytes() else "http"
            found[kind] += pss
    return found


async def attacked(name: str, seconds: float) -> dict[str, Any]:
    """One attack, and what the neighbour says of it."""
    attack, killing, settings = CASES[name]
    process, port = service(**settings)
    seen: Seen = Counter()
    tasks = [asyncio.ensure_future(attack(port, seen))] if attack else []
    tasks += [asyncio.ensure_future(killing(process.pid, seen))] if killing else []
    try:
        await asyncio.sleep(6 if attack is connections else 2)
        command = [sys.executable, "-m", "benchmarks.service_attacks", "--neighbour"]
        other = await asyncio.create_subprocess_exec(
            *command, str(port), str(seconds), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await other.communicate()
        memory = held(process.pid)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        end(process)
    return {"attack": name, **json.loads(out), "attackers": dict(seen), "bytes": memory}


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a service and its processes."""
    for pid in reversed(children(process.pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


async def soak(minutes: float) -> None:
    """Everything at once for so long; memory every two seconds."""
    process, port = service()
    seen: Seen = Counter()
    attacks = (
        *(slow_loris(port, seen, 200), questions(port, seen), gigabytes(port, seen)),
        *(analyses(port, seen, 2), killer("service.worker", 10.0)(process.pid, seen)),
    )
    tasks = [asyncio.ensure_future(attack) for attack in attacks]
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.service_attacks", "--neighbour"),
        *(str(port), str(60 * minutes)),
        stdout=asyncio.subprocess.PIPE,
    )
    start = time.monotonic()
    try:
        with SOAK.open("w") as file:
            while (now := time.monotonic() - start) < 60 * minutes:
                line = {"seconds": round(now, 1), **held(process.pid), "attackers": dict(seen)}
                file.write(json.dumps(line) + "\n")
                file.flush()
                await asyncio.sleep(2)
            out, _ = await other.communicate()
            file.write(json.dumps({"neighbour": json.loads(out)}) + "\n")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        end(process)


def graph(lines: list[dict[str, Any]]) -> str:
    """Memory over time as SVG."""
    points = [line for line in lines if "seconds" in line]
    last = points[-1]["seconds"]
    top = max(line["http"] + line["computing"] for line in points) * 1.15
    width, height, left, low = 640, 260, 60, 220

    def path(value: Callable[[dict[str, Any]], int]) -> str:
        steps = (
            f"{left + (width - left - 20) * line['seconds'] / last:.1f},"
            f"{low - (low - 20) * value(line) / top:.1f}"
            for line in points
        )
        return " ".join(steps)

    series = {
        "all processes": ("#1b6ca8", path(lambda line: line["http"] + line["computing"])),
        "the server process": ("#c4541a", path(lambda line: line["http"])),
    }
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="sans-serif" font-size="12">',
        "<title>Memory of the service over a soak under attack</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    step = 10 ** (len(str(int(top))) - 1)
    for tick in range(0, int(top), step if top / step < 8 else 2 * step):
        y = low - (low - 20) * tick / top
        parts.append(f'<path d="M{left} {y:.1f}H{width - 20}" stroke="#ddd"/>')
        label = f"{tick / 1e6:,.0f} MB"
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for minute in range(int(last // 60) + 1):
        x = left + (width - left - 20) * 60 * minute / last
        parts.append(f'<text x="{x:.1f}" y="{low + 16}" text-anchor="middle">{minute}</text>')
    parts.append(f'<text x="{width - 20}" y="{low + 32}" text-anchor="end">minutes</text>')
    for number, (name, (colour, steps)) in enumerate(series.items()):
        parts.append(f'<polyline fill="none" stroke="{colour}" points="{steps}"/>')
        place = f'x="{left + 10 + 120 * number}" y="{low + 32}"'
        parts.append(f'<text {place} fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def table() -> str:
    """The attacks in Markdown."""
    rows = ["| meanwhile | a second | median | p99 | failed |", "|---|---:|---:|---:|---:|"]
    for line in read(ATTACKS):
        failed = sum(line["failed"].values())
        rows.append(
            f"| {line['attack']} | {line['requests'] / line['seconds']:,.0f} | "
            f"{line['median_ms']:.1f} ms | {line['p99_ms']:.1f} ms | "
            f"{failed:,} of {line['requests']:,} |"
        )
    return "\n".join(rows) + "\n"


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--neighbour", nargs=2, type=float, help=argparse.SUPPRESS)
    parser.add_argument("--soak", type=float, metavar="MINUTES")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--only", default="", help="attacks whose name contains this")
    options = parser.parse_args()
    if options.neighbour:
        port, seconds = options.neighbour
        print(json.dumps(neighbour(int(port), seconds)))
    elif options.soak:
        asyncio.run(soak(options.soak))
        GRAPH.write_text(graph(read(SOAK)))
    elif not options.table:
        names = [name for name in CASES if options.only in name]
        kept = [line for line in read(ATTACKS) if line["attack"] not in names]
        for name in names:
            line = {**asyncio.run(attacked(name, options.seconds)), "seconds": options.seconds}
            print(line, file=sys.stderr, flush=True)
            kept.append(line)
            kept.sort(key=lambda line: list(CASES).index(line["attack"]))
            ATTACKS.write_text("".join(json.dumps(line) + "\n" for line in kept))
    if options.table:
        print(table(), end="")


if __name__ == "__main__":
    main()
