"""A sweep in a file: written in parts, each whole or not there, so that it can be interrupted.

While a sweep runs, each of its chunks is a file of its own in ``FILE.parts``, put there by renaming
once it is complete.  An interrupted run is continued by the same one: chunks that are there are not
computed again.  At the end the parts are joined, and the file appears by renaming as well.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from convcalc.errors import MissingExtra, UsageError
from convcalc.planning.sweep import RESULTS, UNKNOWN, Block, Sweep, from_recipe
from convcalc.planning.sweep_jobs import Progress, in_order


def write(
    table: Sweep,
    path: str | PathLike[str],
    kind: str,
    *,
    executor: Executor | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> int:
    """Write the rows that pass to a file, "csv" or "parquet"; gives their number.

    `executor` computes the chunks, two for each of `workers` at a time; `progress` is told how many
    rows of the product are done, and of how many.  If the run is interrupted, calling it again
    continues it.

    Raises:
        UsageError: the file cannot be written (what is done is kept), or parts of another sweep
            are in its way.
        MissingExtra: PyArrow is not installed.
    """
    if kind == "parquet":
        arrow()
    path = Path(path)
    parts = path.with_name(path.name + ".parts")
    chunks = list(enumerate(table.chunks()))
    with told(parts):
        begin(table, parts, kind)
        there = {entry.name for entry in os.scandir(parts)}
        missing = [(n, span) for n, span in chunks if part_name(n, kind) not in there]
        done = len(table) - sum(stop - start for _, (start, stop) in missing)
        if progress is not None:
            progress(done, len(table))
        tasks = ((start, stop, kind) for _, (start, stop) in missing)
        results = in_order(executor, workers, table, encoded, tasks)
        for (number, (start, stop)), data in zip(missing, results, strict=True):
            put(parts / part_name(number, kind), data)
            done += stop - start
            if progress is not None:
                progress(done, len(table))
        join = join_csv if kind == "csv" else join_parquet
        rows = join(table, [parts / part_name(n, kind) for n, _ in chunks], path)
        shutil.rmtree(parts)
    return rows


@contextmanager
def told(parts: Path) -> Iterator[None]:
    """A disk's errors in words."""
    try:
        yield
    except OSError as error:
        kept = f"; what is done is kept in '{parts}': run the same sweep again to go on"
        raise UsageError(
            f"cannot write '{error.filename or parts}': {error.strerror}"
            + (kept if parts.is_dir() else "")
        ) from None


def part_name(number: int, kind: str) -> str:
    """The file of a chunk."""
    return f"{number:08}.{kind}"


def begin(table: Sweep, parts: Path, kind: str) -> None:
    """Make the folder of parts, or recognise one that the same sweep has left.

    Raises:
        UsageError: it is another sweep's.
    """
    from convcalc import __version__

    chunks = next(iter(table.chunks()))
    identity = f"{__version__} {kind} {chunks} {table.recipe}"
    digest = hashlib.sha256(identity.encode()).hexdigest()
    mark = parts / "sweep"
    parts.mkdir(parents=True, exist_ok=True)
    if mark.exists():
        if mark.read_text("ascii", "replace") == digest:
            return
        raise UsageError(
            f"'{parts}' holds parts of another sweep; remove it or choose another file"
        )
    if any(parts.iterdir()):
        raise UsageError(f"'{parts}' holds files that are no sweep's; remove it")
    put(mark, digest.encode())


def put(path: Path, data: bytes) -> None:
    """Write a file that is whole or not there."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(unfinished, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def encoded(recipe: str | Sweep, start: int, stop: int, kind: str) -> bytes:
    """A chunk as the bytes of its part."""
    table = recipe if isinstance(recipe, Sweep) else from_recipe(recipe)
    block = table.block(start, stop, table.names)
    return csv_bytes(table, block) if kind == "csv" else parquet_bytes(table, block)


def csv_chunks(table: Sweep, executor: Executor | None = None, workers: int = 1) -> Iterator[str]:
    """The rows that pass as CSV, piece by piece."""
    yield header(table).decode()
    tasks = ((start, stop, "csv") for start, stop in table.chunks())
    for data in in_order(executor, workers, table, encoded, tasks):
        yield data.decode()


def csv_bytes(table: Sweep, block: Block) -> bytes:
    """Rows as CSV without a header; what is not known is empty."""
    buffer = io.StringIO()
    cells = [table.cells(name, block) for name in table.names]
    csv.writer(buffer, lineterminator="\n").writerows(zip(*cells, strict=True))
    return buffer.getvalue().encode()


def header(table: Sweep) -> bytes:
    """The first line of a CSV file."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(table.names)
    return buffer.getvalue().encode()


def join_csv(table: Sweep, parts: list[Path], path: Path) -> int:
    """Put parts one behind the other."""
    rows = 0
    with replacing(path) as file:
        file.write(header(table))
        for part in parts:
            with open(part, "rb") as source:
                while piece := source.read(2**20):
                    rows += piece.count(b"\n")
                    file.write(piece)
    return rows


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once it is complete."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with open(unfinished, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def arrow() -> tuple[Any, Any]:
    """PyArrow and its Parquet module.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("parquet") from None
    return pyarrow, pyarrow.parquet


def parquet_bytes(table: Sweep, block: Block) -> bytes:
    """Rows as a Parquet file; text as a dictionary, null for what is not known."""
    pyarrow, parquet = arrow()
    arrays = []
    for name in table.names:
        column = block.columns[name]
        if name in table.labels:
            codes = pyarrow.array(column.astype(np.int32))
            labels = pyarrow.array(table.labels[name])
            arrays.append(pyarrow.DictionaryArray.from_arrays(codes, labels))
        else:
            unknown = column == UNKNOWN if name in RESULTS else None
            arrays.append(pyarrow.array(column, mask=unknown))
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(arrays, names=list(table.names)), buffer)
    return buffer.getvalue()


def join_parquet(table: Sweep, parts: list[Path], path: Path) -> int:
    """Put the row groups of all parts into one file."""
    _, parquet = arrow()
    rows = 0
    with replacing(path) as file:
        schema = parquet.read_schema(parts[0])
        with parquet.ParquetWriter(file, schema) as writer:
            for part in parts:
                found = parquet.read_table(part)
                rows += found.num_rows
                if found.num_rows:
                    writer.write_table(found)
    return rows
