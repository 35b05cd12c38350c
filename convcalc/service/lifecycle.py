"""Stopping: from SIGTERM on /readyz says no, and a while later the server stops accepting."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Whether this process has been told to stop.
draining = False


@contextmanager
def drained(seconds: float) -> Iterator[None]:
    """Put off the server's own way of stopping by so many seconds, once.

    Nothing changes where the server handles no signals, or not in this thread.
    """
    stop = signal.getsignal(signal.SIGTERM)
    if not seconds or not callable(stop) or threading.current_thread() != threading.main_thread():
        yield
        return

    def put_off(number: int, frame: FrameType | None) -> None:
        global draining
        if draining:
            stop(number, frame)
            return
        draining = True
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, put_off)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, stop)
