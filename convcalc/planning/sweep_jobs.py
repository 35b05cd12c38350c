"""Chunks of a sweep, computed by whoever is there: this process, several, or several machines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from convcalc.errors import MissingExtra, UsageError
from convcalc.planning.sweep import Sweep

#: Told how many rows of the product are done, and of how many.
Progress = Callable[[int, int], None]

#: Chunks for each worker that are under way at once.
AHEAD = 2


def in_order(
    executor: Executor | None,
    workers: int,
    table: Sweep,
    work: Callable[..., Any],
    tasks: Iterable[tuple[Any, ...]],
) -> Iterator[Any]:
    """``work(table or recipe, *task)`` for each task, in order; few results are held at once.

    `work` has no effects, so that a worker that is lost costs nothing but time where the executor
    tries again, as Dask's does: its results count once, here.

    Raises:
        UsageError: a worker was lost for good.
    """
    if executor is None:
        for task in tasks:
            yield work(table, *task)
        return
    waiting: deque[Future[Any]] = deque()
    try:
        for task in tasks:
            waiting.append(executor.submit(work, table.recipe, *task))
            if len(waiting) >= AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenExecutor:
        raise UsageError(
            "a worker process died; what was written is kept: run the same sweep again to go on"
        ) from None
    finally:
        for future in waiting:
            future.cancel()


@contextmanager
def workers(jobs: int = 1, dask: str | None = None) -> Iterator[tuple[Executor | None, int]]:
    """The executor for `--jobs` and `--dask`, and how many work; None for this process alone.

    Raises:
        UsageError: both are asked for, or the scheduler does not answer.
        MissingExtra: Dask is not installed.
    """
    if jobs < 1:
        raise UsageError(f"jobs must be at least 1, got {jobs}")
    if dask is None:
        if jobs == 1:
            yield None, 1
            return
        import multiprocessing

        # Threads and a fork do not go together; a spawned process starts clean.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            yield pool, jobs
        return
    if jobs != 1:
        raise UsageError("--jobs and --dask exclude each other")
    try:
        from distributed import Client
    except ImportError:
        raise MissingExtra("dask") from None
    try:
        client = Client(dask, timeout=10)
    except (OSError, ValueError) as error:
        raise UsageError(f"no Dask scheduler answers at '{dask}': {error}") from None
    with client:
        yield client.get_executor(), max(len(client.scheduler_info()["workers"]), 1)
