"""Computing processes: each can be killed, none outlives its time, and few wait for one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from convcalc.service.observe import Metrics, log
from convcalc.service.problems import Problem
from convcalc.service.settings import ServiceSettings

#: Lengths of the two parts of a message: JSON, and bytes that are passed on as they are.
HEAD = struct.Struct("!II")

#: The service's environment has its keys; a process that reads strangers' files sees none of it.
PASSED_ON = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")


#: An answer is a function of the question and of this version; a browser may keep it that long.
CACHED = "private, max-age=3600"


class Reply(NamedTuple):
    """What a process has made of a question, or a part of it."""

    media: str
    body: bytes
    cache: str = CACHED


PassOn = Callable[[Reply], Awaitable[None]]


class Worker:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.to, self.back = process.stdin, process.stdout
        self.ready = False
        self.last = False

    @property
    def alive(self) -> bool:
        return self.process.returncode is None and not self.back.at_eof()

    async def ask(
        self, task: str, arguments: bytes, cpu_seconds: float, pass_on: PassOn | None
    ) -> Reply:
        """The answer to one question, or its last part, once all others are passed on.

        Raises:
            Problem: what the process says against the question.
            EOFError, OSError: it has ended.
        """
        if not self.ready:
            await self.receive()
            self.ready = True
        head = json.dumps({"task": task, "cpu_seconds": cpu_seconds}).encode()
        self.to.write(HEAD.pack(len(head), len(arguments)) + head + arguments)
        await self.to.drain()
        found, body = await self.receive()
        while "more" in found:
            assert pass_on is not None
            await pass_on(Reply(found["media"], body))
            found, body = await self.receive()
        self.last = found.get("last", False)
        if "failed" in found:
            log("error", "failed", task=task, **found["failed"])
            raise Problem("internal")
        if "problem" in found:
            raise Problem(found["problem"], found.get("detail"))
        return Reply(found["media"], body)

    async def receive(self) -> tuple[dict[str, Any], bytes]:
        """One message."""
        sizes = HEAD.unpack(await self.back.readexactly(HEAD.size))
        head = json.loads(await self.back.readexactly(sizes[0]))
        return head, await self.back.readexactly(sizes[1])

    def kill(self) -> None:
        """End it now."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.to.close()


class Pool:
    """At most `processes` at work, at most `queue` requests waiting for one."""

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.free = asyncio.Semaphore(settings.processes)
        self.waiting = 0
        self.idle: list[Worker] = []
        self.all: set[Worker] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Have all processes started; they load while the first requests come in."""
        self.loop = asyncio.get_running_loop()
        self.idle = [await self.spawn() for _ in range(self.settings.processes)]

    async def stop(self) -> None:
        """End every process."""
        for worker in self.all:
            worker.kill()
        await asyncio.gather(*(worker.process.wait() for worker in self.all))
        await asyncio.gather(*self.tasks)
        self.all.clear()

    async def spawn(self) -> Worker:
        """A new process."""
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "convcalc.service.worker"),
            *(str(self.settings.memory), str(self.settings.max_upload)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        worker = Worker(process)
        self.all.add(worker)
        self.metrics.processes.inc()
        return worker

    def end(self, worker: Worker, why: str) -> None:
        """Kill a process, and collect it when it has ended."""
        self.metrics.ended.labels(why).inc()
        self.metrics.processes.dec()
        self.all.discard(worker)
        worker.kill()
        task = asyncio.create_task(collect(worker))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def run(self, task: str, arguments: bytes, pass_on: PassOn | None = None) -> Reply:
        """The answer to a question, within the deadline, which passing on its parts must keep.

        Raises:
            Problem: too many wait, it took too long, the process was lost, or the question is bad.
        """
        if self.free.locked() and self.waiting >= self.settings.queue:
            raise Problem("overloaded")
        end = asyncio.get_running_loop().time() + self.settings.deadline
        self.waiting += 1
        self.metrics.waiting.inc()
        try:
            async with asyncio.timeout_at(end):
                await self.free.acquire()
        except TimeoutError:
            raise Problem("overloaded") from None
        finally:
            self.waiting -= 1
            self.metrics.waiting.dec()
        try:
            return await self.compute(task, arguments, end, pass_on)
        finally:
            self.free.release()

    async def compute(
        self, task: str, arguments: bytes, end: float, pass_on: PassOn | None
    ) -> Reply:
        """The answer from an idle process, or a new one."""
        worker = None
        while self.idle and worker is None:
            worker = self.idle.pop()
            if not worker.alive:
                # Somebody else ended it while it had nothing to do: nothing is lost.
                self.end(worker, "lost")
                worker = None
        worker = worker or await self.spawn()
        why = "lost"
        try:
            async with asyncio.timeout_at(end):
                reply = await worker.ask(task, arguments, self.settings.cpu_seconds, pass_on)
            why = "recycled" if worker.last else ""
            return reply
        except Problem:
            why = "recycled" if worker.last else ""
            raise
        except TimeoutError:
            why = "deadline"
            raise Problem("deadline") from None
        except (EOFError, OSError):
            raise Problem("lost") from None
        finally:
            # A cancelled request leaves its process in the middle of an answer: it goes as well.
            if why:
                self.end(worker, why)
            else:
                self.idle.append(worker)


async def collect(worker: Worker) -> None:
    """Wait for a killed process; what it has left in a pipe that was full keeps the pipe open."""
    with contextlib.suppress(OSError):
        await worker.back.read()
    await worker.process.wait()
