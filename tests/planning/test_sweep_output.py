"""A sweep in a file: no row lost or doubled, whoever computes it and however often it stops."""

from __future__ import annotations

import csv
import os
import signal
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import convcalc
from convcalc.errors import MissingExtra, UsageError
from convcalc.planning import sweep as module
from convcalc.planning import sweep_output
from convcalc.planning.sweep import Sweep, from_recipe
from convcalc.planning.sweep_jobs import workers


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """A table of 500 rows in 5 chunks, some of them unknown, some filtered out."""
    monkeypatch.setattr(module, "CHUNK_ROWS", 100)
    return convcalc.sweep(
        "lenet5",
        batch=range(1, 51),
        input=[(side, side, 1) for side in (4, 16, 28, 32, 40)],
        engine=["textbook", "torch"],
        where="batch != 7",
    )


def lines(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def plain(row: dict[str, Any]) -> dict[str, str]:
    """A row as CSV has it."""
    row = {name: "" if value is None else value for name, value in row.items()}
    row["input"] = "x".join(map(str, row["input"]))
    return {name: str(value) for name, value in row.items()}


class Stopping(Executor):
    """Computes here, and fails as asked after some chunks."""

    def __init__(self, chunks: int, error: BaseException) -> None:
        self.chunks = chunks
        self.error = error

    def submit(self, work: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.chunks -= 1
        if self.chunks < 0:
            future.set_exception(self.error)
        else:
            future.set_result(work(*args, **kwargs))
        return future


def test_csv_holds_the_rows_that_pass(table: Sweep, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    told: list[tuple[int, int]] = []
    assert table.to_csv(path, progress=lambda *said: told.append(said)) == 490
    assert lines(path) == [plain(row) for row in table]
    assert told == [(done, 500) for done in range(0, 501, 100)]
    assert os.listdir(tmp_path) == ["out.csv"]


def test_csv_replaces_a_file(table: Sweep, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    table.to_csv(path)
    assert len(lines(path)) == 490


def test_parquet_holds_the_same(table: Sweep, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "out.parquet"
    assert table.to_parquet(path) == 490
    rows = parquet.read_table(path).to_pylist()
    expected = [{**row, "input": "x".join(map(str, row["input"]))} for row in table]
    assert rows == expected
    assert os.listdir(tmp_path) == ["out.parquet"]


def test_parquet_without_any_row(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "out.parquet"
    assert convcalc.sweep("lenet5", where="batch > 1").to_parquet(path) == 0
    assert parquet.read_table(path).num_rows == 0


def test_parquet_needs_an_extra(
    table: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match="parquet"):
        table.to_parquet(tmp_path / "out.parquet")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_interrupted_run_goes_on(table: Sweep, tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    whole, path = tmp_path / f"whole.{kind}", tmp_path / f"out.{kind}"
    sweep_output.write(table, whole, kind)
    with pytest.raises(KeyboardInterrupt):
        sweep_output.write(table, path, kind, executor=Stopping(3, KeyboardInterrupt()))
    assert not path.exists()
    parts = tmp_path / f"out.{kind}.parts"
    done = len([name for name in os.listdir(parts) if name.endswith(kind)])
    assert 1 <= done <= 3
    # A process that is killed in the middle of a part leaves it unfinished: it does not count.
    (parts / f".00000004.{kind}.123").write_bytes(b"half")
    told: list[int] = []
    sweep_output.write(table, path, kind, progress=lambda now, _: told.append(now))
    assert told[0] == 100 * done
    assert path.read_bytes() == whole.read_bytes()
    assert not parts.exists()


def test_parts_of_another_sweep_are_left_alone(table: Sweep, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with pytest.raises(KeyboardInterrupt):
        table.to_csv(path, executor=Stopping(2, KeyboardInterrupt()))
    other = convcalc.sweep("lenet5", batch=range(1, 40))
    with pytest.raises(UsageError, match="parts of another sweep"):
        other.to_csv(path)
    assert table.to_csv(path) == 490
    folder = tmp_path / "b.csv.parts"
    folder.mkdir()
    (folder / "letter").write_text("mine")
    with pytest.raises(UsageError, match="no sweep's"):
        other.to_csv(tmp_path / "b.csv")


def test_a_full_disk_loses_nothing(
    table: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.csv"
    left = 3
    original = os.fsync

    def fsync(file: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(28, "No space left on device")
        original(file)

    with monkeypatch.context() as patched:
        patched.setattr(sweep_output.os, "fsync", fsync)
        with pytest.raises(UsageError, match=r"No space left on device; what is done is kept in"):
            table.to_csv(path)
    assert not path.exists()
    assert sorted(os.listdir(tmp_path / "out.csv.parts")) == [
        "00000000.csv",
        "00000001.csv",
        "sweep",
    ]
    assert table.to_csv(path) == 490
    assert lines(path) == [plain(row) for row in table]


def test_a_disk_that_is_full_while_joining_loses_nothing(
    table: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def header(table: Sweep) -> bytes:
        raise OSError(28, "No space left on device")

    path = tmp_path / "out.csv"
    with monkeypatch.context() as patched:
        patched.setattr(sweep_output, "header", header)
        with pytest.raises(UsageError, match="No space left"):
            table.to_csv(path)
    assert os.listdir(tmp_path) == ["out.csv.parts"]
    assert table.to_csv(path, executor=Stopping(0, AssertionError("computed again"))) == 490


def test_a_folder_that_is_not_there(table: Sweep, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write") as caught:
        table.to_csv(tmp_path / "file" / "out.csv")
    assert "kept" not in str(caught.value)


def test_any_executor_will_do(table: Sweep, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert table.to_csv(tmp_path / "out.csv", executor=pool, workers=2) == 490
        front = table.pareto("macs", "training_peak", executor=pool)
    assert lines(tmp_path / "out.csv") == [plain(row) for row in table]
    assert front == table.pareto("macs", "training_peak")


def test_several_processes(table: Sweep, tmp_path: Path) -> None:
    with workers(jobs=2) as (pool, count):
        assert count == 2
        assert table.to_csv(tmp_path / "out.csv", executor=pool, workers=count) == 490
    assert lines(tmp_path / "out.csv") == [plain(row) for row in table]


def die(*_: Any) -> None:
    """What a process does that the system kills."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_is_told(
    table: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_output, "encoded", die)
    with workers(jobs=2) as (pool, count), pytest.raises(UsageError, match="a worker process died"):
        table.to_csv(tmp_path / "out.csv", executor=pool, workers=count)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"jobs": 0}, "jobs must be at least 1"),
        ({"jobs": 2, "dask": "tcp://127.0.0.1:1"}, "exclude each other"),
    ],
)
def test_executors_that_make_no_sense(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message), workers(**given):
        pass


def test_dask_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtra, match="dask"), workers(dask="tcp://127.0.0.1:1"):
        pass


def slowly(recipe: str, start: int, stop: int, kind: str) -> bytes:
    """A chunk, computed so slowly that its worker can be killed meanwhile."""
    time.sleep(0.3)
    return sweep_output.encoded(recipe, start, stop, kind)


@pytest.mark.filterwarnings("ignore")
def test_a_dask_worker_that_is_killed_loses_no_row(
    table: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    path = tmp_path / "out.csv"
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
    ) as cluster:
        pids = [worker.process.pid for worker in cluster.workers.values()]
        assert len(set(pids)) == 2
        killed: list[int] = []

        def progress(done: int, total: int) -> None:
            if done == 100:
                killed.append(pids[0])
                os.kill(pids[0], signal.SIGKILL)

        monkeypatch.setattr(sweep_output, "encoded", slowly)
        with workers(dask=cluster.scheduler_address) as (pool, count):
            assert count == 2
            assert table.to_csv(path, executor=pool, workers=count, progress=progress) == 490
    assert killed
    assert lines(path) == [plain(row) for row in table]


def test_a_scheduler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")

    def client(address: str, timeout: int) -> None:
        raise OSError("Timed out trying to connect")

    monkeypatch.setattr(distributed, "Client", client)
    with pytest.raises(UsageError, match="no Dask scheduler answers"), workers(dask="tcp://x:1"):
        pass


def test_workers_keep_their_table(table: Sweep) -> None:
    assert from_recipe(table.recipe) is from_recipe(table.recipe)
