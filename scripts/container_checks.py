"""Runs an image that buildah holds, as an engine would, and says what it keeps of its promises.

    scripts/container.sh                        # builds it and calls this

In name spaces of its own for mounts and processes: a read-only root, a temporary /tmp, the image's
user, environment, entry point and command, the entry point as process 1.  The network is the
machine's.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

#: What the layers of the slim image may add to its base: bytes as a registry holds and sends them.
SLIM = 80_000_000
#: Seconds from SIGTERM to the end.
STOP = 5
CONV = ["conv", "--input", "150x100x3", "--filters", "200", "--kernel", "5", "--padding", "same"]


def buildah(*words: str) -> str:
    """What a buildah command prints."""
    done = subprocess.run(["buildah", *words], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


@contextlib.contextmanager
def mounted(image: str) -> Iterator[Path]:
    """The root of a container of an image."""
    container = buildah("from", image)
    try:
        yield Path(buildah("mount", container))
    finally:
        buildah("rm", container)


class Image:
    """What the image's configuration says, and its files."""

    def __init__(self, name: str, root: Path) -> None:
        self.root = root
        self.name = name
        config = json.loads(buildah("inspect", "--type", "image", name))["Docker"]["config"]
        self.config: dict[str, Any] = config

    def start(
        self, words: Sequence[str], environment: Sequence[str] = (), **options: Any
    ) -> subprocess.Popen[str]:
        """A process of a container: read-only root, the image's user and environment."""
        root = shlex.quote(str(self.root))
        variables = [*self.config["Env"], *environment]
        command = shlex.join(
            ["env", "-i", f"--chdir={self.config['WorkingDir']}", *variables, *words]
        )
        script = f"""set -e
            mount --bind {root} {root}
            mount -o remount,ro,bind {root}
            mount -t proc proc {root}/proc
            mount -t tmpfs -o size=64m tmpfs {root}/tmp
            mount --rbind -o ro /dev {root}/dev
            exec setpriv --no-new-privs chroot --userspec={self.config["User"]} {root} {command}"""
        space = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", script]
        return subprocess.Popen(space, text=True, **options)

    def run(self, words: Sequence[str], environment: Sequence[str] = ()) -> tuple[int, str]:
        """Exit code and output."""
        process = self.start(words, environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output = process.communicate(timeout=600)[0]
        return process.returncode, output

    def cli(self, *words: str) -> tuple[int, str]:
        """The entry point with other words than the image's own."""
        return self.run([*self.config["Entrypoint"], *words])


def check(what: str, held: bool, found: object) -> None:
    """One promise, in one line; a broken one ends everything."""
    print(f"{'ok' if held else 'BROKEN':6} {what}: {found}", flush=True)
    if not held:
        raise SystemExit(1)


def sizes(image: str) -> tuple[int, int]:
    """Bytes that our layers add to the base: compressed, and as files."""
    # Each of our stages ends in one layer above those of the base.
    base = len(json.loads(buildah("inspect", "--type", "image", "localhost/convcalc-standin"))
               ["Docker"]["rootfs"]["diff_ids"])  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        buildah("push", "--quiet", "--format", "docker", image, f"dir:{folder}")
        layers = json.loads((Path(folder) / "manifest.json").read_text())["layers"][base:]
        sent = sum(layer["size"] for layer in layers)
        files = 0
        for layer in layers:
            packed = Path(folder) / layer["digest"].removeprefix("sha256:")
            listed = subprocess.run(
                ["tar", "--list", "--verbose", "--gzip", "--file", packed],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            files += sum(int(line.split()[2]) for line in listed.stdout.splitlines())
    return sent, files


def ask(url: str, body: object = None) -> tuple[int, str]:
    """Status and text of an answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def child(process: subprocess.Popen[str]) -> int:
    """The container's process 1, as this machine numbers it."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def memory(pid: int) -> int:
    """Resident bytes of a process and all below it, what they share counted once."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    own = sum(int(row.split()[1]) for row in rows if row.startswith("Pss:"))
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return 1024 * own + sum(memory(int(each)) for each in below)


def service(image: Image) -> None:
    """What the image does when it is run without a word."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, environment = f"http://127.0.0.1:{port}", [f"CONVCALC_PORT={port}"]
    started = time.monotonic()
    server = image.start(
        [*image.config["Entrypoint"], *image.config["Cmd"]],
        environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            with contextlib.suppress(OSError):
                if ask(f"{address}/readyz")[0] == 200:
                    break
            if server.poll() is not None or time.monotonic() - started > 60:
                check("ready", held=False, found="not within a minute")
            time.sleep(0.02)
        check("ready after", True, f"{time.monotonic() - started:.2f} s")
        first = child(server)
        status = dict(
            row.split(":", 1) for row in Path(f"/proc/{first}/status").read_text().splitlines()
        )
        check("its user", status["Uid"].split()[0] == "10001", status["Uid"].split()[0])
        check("no capabilities", int(status["CapEff"], 16) == 0, status["CapEff"].strip())
        question = {"input": [150, 100, 3], "filters": 200, "kernel": 5, "padding": "same"}
        code, text = ask(f"{address}/v1/conv", question)
        found = json.loads(text)["totals"]["params"] if code == 200 else text
        check("POST /v1/conv", found == 15_200, f"{code}, {found} parameters")
        code, text = ask(f"{address}/v1/analyze", {"network": "resnet50"})
        check("POST /v1/analyze", code == 200, code)
        code, text = ask(f"{address}/")
        check("the page", code == 200 and "<html" in text, f"{code}, {len(text)} bytes")
        code, text = ask(f"{address}/app.js")
        check("its module", code == 200 and "import" in text, f"{code}, {len(text)} bytes")
        check("resident memory", True, f"{memory(first) / 1e6:.0f} MB, {os.cpu_count()} processes")
        probe = image.config["Healthcheck"]["Test"][1:]
        check("HEALTHCHECK", image.run(probe, environment)[0] == 0, "healthy")
        begun = time.monotonic()
        os.kill(first, signal.SIGTERM)
        server.wait(timeout=60)
        taken = time.monotonic() - begun
        check(f"ends within {STOP} s of SIGTERM", taken < STOP, f"{taken:.2f} s")
        check("its exit code", server.returncode == 0, server.returncode)
        check("HEALTHCHECK afterwards", image.run(probe, environment)[0] == 1, "unhealthy")
    finally:
        if server.poll() is None:
            server.kill()


def main(target: str) -> None:
    """All checks."""
    name = f"localhost/convcalc:{target}"
    with mounted(name) as root:
        image = Image(name, root)
        config = image.config
        user = config["User"]
        check("numeric user", user.split(":")[0].isdigit() and user[0] != "0", user)
        check("entry point", config["Entrypoint"] == ["convcalc"], config["Entrypoint"])
        labels = [label for label in config["Labels"] if label.startswith("org.opencontainers")]
        check("OCI labels", len(labels) >= 5, len(labels))
        bill = json.loads((root / "opt/convcalc/sbom.cdx.json").read_text())
        check("SBOM", bill["bomFormat"] == "CycloneDX", f"{len(bill['components'])} packages")
        sent, files = sizes(name)
        held = target != "slim" or sent <= SLIM
        check(
            "added to the base", held, f"{sent / 1e6:.1f} MB to pull, {files / 1e6:.1f} MB on disk"
        )

        code, text = image.run(["python", "-c", "print(open('/proc/mounts').readline())"])
        check("read-only root", code == 0 and " ro," in text, " ".join(text.split()[1:4])[:60])
        packages = ["tensorflow", "torch", "jax", "keras"]
        find = f"import importlib.util as u; print([n for n in {packages} if u.find_spec(n)])"
        wanted = "[]" if target == "slim" else "['tensorflow', 'keras']"
        found = image.run(["python", "-c", find])[1].strip()
        check("frameworks", found == wanted, found)
        code, text = image.cli(*CONV)
        check("convcalc conv", code == 0 and "15,200 parameters" in text, f"exit code {code}")
        begun = time.monotonic()
        code, text = image.cli("analyze", "resnet50", "--json")
        macs = json.loads(text)["totals"]["macs"] if code == 0 else text
        taken = f"{macs} MACs in {time.monotonic() - begun:.2f} s"
        check("convcalc analyze resnet50", macs == 3_857_973_248, taken)
        code, text = image.cli("filter", "--sample", "bundled", "--output", "/tmp/map.png")
        check("convcalc filter", code == 0, f"exit code {code}")
        if target == "verify":
            code, text = image.cli("verify", "--conv", *CONV[1:], "--mode", "inference")
            print(text)
            check("convcalc verify", code == 0, f"exit code {code}")
        service(image)


if __name__ == "__main__":
    main(sys.argv[1])
