"""A computing process: reads questions on stdin, answers on stdout, until there are no more.

It has a limit on memory, on the size of files, and for each question one on processor time.  The
service kills it at the deadline, and when it has died for any reason starts another one.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
from types import FrameType
from typing import Any, BinaryIO

HEAD = struct.Struct("!II")

#: A process that has taken this much of its memory is replaced after its answer.
WORN = 0.6
#: And one that has given this many answers, whatever leaks.
ANSWERS = 20_000


class TooLongError(BaseException):
    """The processor time is over.  No reader catches it."""


def main() -> None:
    """Answer until stdin ends."""
    memory, upload = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, too_long)
    # What anything prints must not get between the answers.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from convcalc.service import jobs

    jobs.preload()
    confine(memory, upload)
    send(out, {"ready": True})
    count = 0
    while head := sys.stdin.buffer.read(HEAD.size):
        sizes = HEAD.unpack(head)
        question = json.loads(sys.stdin.buffer.read(sizes[0]))
        arguments = sys.stdin.buffer.read(sizes[1])
        answer, body = answered(out, question["task"], arguments, question["cpu_seconds"])
        count += 1
        if (
            resident() > WORN * memory
            or count >= ANSWERS
            or answer.get("problem") == "too-expensive"
        ):
            answer["last"] = True
        send(out, answer, body)


def resident() -> int:
    """Bytes of memory that this process holds; getrusage's peak is that of its parent at first."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def answered(
    out: BinaryIO, task: str, arguments: bytes, cpu_seconds: float
) -> tuple[dict[str, Any], bytes]:
    """The answer's head and body; whatever happens is one.  All parts but the last are sent."""
    from convcalc.errors import MissingExtra, ModelError, UsageError
    from convcalc.service import jobs
    from convcalc.service.mask import masked

    given: dict[str, Any] = {}
    try:
        try:
            signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
            given = json.loads(arguments)
            media, body = jobs.TASKS[task](given)
            if not isinstance(body, bytes):
                for part in body:
                    send(out, {"media": media, "more": True}, part)
                body = b""
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        return {"media": media}, body
    except jobs.Inexact:
        return {"problem": "inexact"}, b""
    except (UsageError, ModelError) as error:
        kind = "unusable" if isinstance(error, UsageError) else "unreadable"
        return {"problem": kind, "detail": masked(str(error), given)}, b""
    except MissingExtra as error:
        return {"problem": "missing-extra", "detail": str(error)}, b""
    except (MemoryError, RecursionError, TooLongError):
        return {"problem": "too-expensive"}, b""
    except Exception as error:
        from convcalc.service.observe import where

        return {"failed": where(error)}, b""


def send(out: BinaryIO, head: dict[str, Any], body: bytes = b"") -> None:
    """One message."""
    text = json.dumps(head).encode()
    out.write(HEAD.pack(len(text), len(body)) + text + body)
    out.flush()


def too_long(signum: int, frame: FrameType | None) -> None:
    """The processor time of a question is over."""
    raise TooLongError


def confine(memory: int, upload: int) -> None:
    """Take away what no question needs."""
    for what, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, upload),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(what, (limit, limit))


if __name__ == "__main__":
    main()
