"""`Sweep`: a table of configurations that is computed where it is looked at.

A row is a number in mixed radix: fields of the spec outermost, then width, input size, dtype,
optimizer and engine, the batch innermost.  Rows are computed in chunks, so that a table of any
length needs little memory: the costs of all its networks at once, and one plan for each network,
dtype, optimizer, engine and regime of batches, evaluated for all batches at once.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convcalc.errors import ConvcalcError, UsageError
from convcalc.memory.engines import MODULES, plan
from convcalc.memory.job import INFERENCE, TRAINING, Job
from convcalc.memory.predict import job_for
from convcalc.network import Network
from convcalc.ops.base import suggestion
from convcalc.planning.sweep_axes import Axes, count, make_axes
from convcalc.planning.sweep_peaks import Allocated
from convcalc.planning.sweep_variants import IMPOSSIBLE, STATUS, Costs, Variants, input_label
from convcalc.planning.where import Values, Where, parse
from convcalc.settings import DTYPES, engine_device

if TYPE_CHECKING:
    from convcalc.planning.sweep_jobs import Progress

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

#: Rows of a chunk at most, and plans that one needs: about a second's work.
CHUNK_ROWS = 2**18
CHUNK_PLANS = 64
#: Networks whose costs are computed at once.
CHUNK_VARIANTS = 1024
#: Rows that `columns` brings into memory at most.
MAX_HELD = 100_000_000
#: Evaluated plans that are kept: those of other optimizers' inference are met again.
KEPT_PEAKS = 512

COSTS = ("params", "trainable_params", "macs", "flops")
BOOK = ("textbook_inference", "textbook_training")
PEAKS = {"inference_peak": INFERENCE, "training_peak": TRAINING}
RESULTS = (*COSTS, *BOOK, *PEAKS)
#: What a number that is not known is within a chunk.
UNKNOWN = -1


@dataclass(slots=True)
class Block:
    """Some rows: numbers, or for columns of text positions in the sweep's labels."""

    columns: dict[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def take(self, rows: Array) -> Block:
        """Some of the rows."""
        return Block({name: column[rows] for name, column in self.columns.items()})


def sweep(
    net: Network,
    *,
    batch: Any = 1,
    input: Any = None,
    dtype: Any = "float32",
    optimizer: Any = "none",
    engine: Any = "textbook",
    width: Any = None,
    fields: Mapping[str, Any] | None = None,
    where: str | None = None,
    device: str = "gpu",
    exact: bool = False,
) -> Sweep:
    """A table of all combinations of the given values; see `Sweep`.

    `fields` maps "layer.attribute" to values; `*` in a layer's name stands for any letters.
    `exact` replays an engine's allocator for each row, where otherwise some rows' peaks are drawn
    between those of others (see `Allocated`).

    Raises:
        UsageError: a value makes no sense, or `where` is no filter.
        ModelError: a size does not belong to the network.
    """
    axes = make_axes(
        net,
        batch=batch,
        input=input,
        dtype=dtype,
        optimizer=optimizer,
        engine=engine,
        width=width,
        fields=fields,
    )
    engine_device(device)
    return Sweep(net, axes, where, device, exact)


class Sweep:
    """All combinations of some axes' values, and what each costs.

    ``len(s)`` and ``s[17]`` are those of the whole product.  Iteration, `columns`, `to_csv`,
    `to_parquet` and `pareto` leave out the rows that `where` does not let pass.
    """

    def __init__(
        self, net: Network, axes: Axes, where: str | None, device: str, exact: bool
    ) -> None:
        self.net = net
        self.exact = exact
        self.axes = axes
        self.device = device
        self.variants = Variants(net, axes)
        self.labels: dict[str, list[Any]] = {
            "input": [input_label(net, sizes) for sizes in axes.input],
            "dtype": list(axes.dtype),
            "optimizer": list(axes.optimizer),
            "engine": list(axes.engine),
            "status": list(STATUS),
        }
        for name, values in axes.fields.items():
            if name in (*self.labels, *RESULTS, "batch", "width", "row"):
                raise UsageError(f"a field cannot be called '{name}'")
            if not all(type(value) is int for value in values):
                self.labels[name] = [text(value) for value in values]
        wide = () if axes.width is None else ("width",)
        self.names = (
            *("batch", "input", "dtype", "optimizer", "engine", *wide, *axes.fields),
            *RESULTS,
            "status",
        )
        kinds = {name: "text" if name in self.labels else "number" for name in self.names}
        self.where: Where | None = None if where is None else parse(where, kinds)
        self.floats = sorted({DTYPES[name] for name in axes.dtype})
        self.notes: dict[str, None] = {}
        """In words why some peaks are not known."""
        self._peaks: OrderedDict[tuple[Any, ...], Allocated | None] = OrderedDict()
        self._costs = lru_cache(maxsize=2)(self._measure)
        self._network = lru_cache(maxsize=2)(self._build)
        self.regimes = lru_cache(maxsize=None)(self._regimes)

    # --- the table ---

    def __len__(self) -> int:
        return count(self.axes)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """One row of the product, whether or not `where` lets it pass.

        Raises:
            IndexError: there is no such row.
        """
        length = len(self)
        if not -length <= row < length:
            raise IndexError(f"row {row} of {length:,}")
        row %= length
        return next(self.rows(self.block(row, row + 1, self.names, filtered=False)))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows that pass."""
        for start, stop in self.chunks():
            yield from self.rows(self.block(start, stop, self.names))

    @cached_property
    def columns(self) -> Columns:
        """Each column of the rows that pass, computed when it is asked for."""
        return Columns(self)

    def pareto(
        self,
        *objectives: str,
        executor: Executor | None = None,
        workers: int = 1,
        progress: Progress | None = None,
    ) -> list[dict[str, Any]]:
        """The rows that no other beats in all of some columns: the smallest, or with "-" the most.

        Of rows with equal values the first counts; rows with an unknown value do not.

        Raises:
            UsageError: there is no such column of numbers.
        """
        from convcalc.planning.sweep_pareto import pareto

        return pareto(self, objectives, executor, workers, progress)

    def to_csv(self, path: str | PathLike[str], **how: Any) -> int:
        """Write the rows that pass as CSV; gives their number.  See `sweep_output.write`."""
        from convcalc.planning.sweep_output import write

        return write(self, path, "csv", **how)

    def to_parquet(self, path: str | PathLike[str], **how: Any) -> int:
        """Write the rows that pass as Parquet; gives their number.  See `sweep_output.write`.

        Raises:
            MissingExtra: PyArrow is not installed.
        """
        from convcalc.planning.sweep_output import write

        return write(self, path, "parquet", **how)

    # --- chunks ---

    def chunks(self) -> Iterator[tuple[int, int]]:
        """(first, behind last) row of each chunk: the same ones in every run."""
        inner = len(self.axes.batch)
        rows = CHUNK_ROWS
        if set(self.axes.engine) != {"textbook"}:
            plans = 2 * max(len(self.regimes(engine)) for engine in self.axes.engine)
            rows = min(rows, max(CHUNK_PLANS // plans, 1) * inner)
        for start in range(0, len(self), rows):
            yield start, min(start + rows, len(self))

    def block(self, start: int, stop: int, names: Sequence[str], *, filtered: bool = True) -> Block:
        """The rows from `start` up to and without `stop` with the columns `names`."""
        rows = np.arange(start, stop)
        columns = self.settings(rows)
        where = self.where if filtered else None
        self.add_costs(columns)
        wanted = set(names) | (where.columns if where else set())
        planned = [name for name in PEAKS if name in wanted]
        possible = (
            np.ones(len(rows), bool)
            if where is None
            else where.possible(lambda name: self.values(name, columns, blind=PEAKS))
        )
        possible = np.broadcast_to(possible, len(rows))
        if not possible.all():
            columns = {name: column[possible] for name, column in columns.items()}
        for name in planned:
            columns[name] = self.peaks(PEAKS[name], columns)
        block = Block(columns)
        if where is not None:
            passed = where(lambda name: self.values(name, columns))
            block = block.take(np.broadcast_to(passed, len(block)))
        return Block({name: block.columns[name] for name in ("row", *names)})

    def settings(self, rows: Ints) -> dict[str, Array]:
        """The axes' columns, and `variant`: which network a row is about."""
        found: dict[str, Array] = {"row": rows}
        inner = len(self.axes.batch)
        found["batch"] = self.batches(rows % inner)
        rest = rows // inner
        for name in ("engine", "optimizer", "dtype"):
            found[name] = rest % len(self.labels[name])
            rest = rest // len(self.labels[name])
        found["variant"] = rest
        *fields, width, size = self.variants.indices(rest)
        found["input"] = size
        if self.axes.width is not None:
            found["width"] = np.array(self.axes.width)[width]
        for (name, values), index in zip(self.axes.fields.items(), fields, strict=True):
            found[name] = index if name in self.labels else np.array(values, np.int64)[index]
        return found

    def batches(self, places: Ints) -> Ints:
        """The batches at some places of their axis."""
        batch = self.axes.batch
        if isinstance(batch, range):
            return batch.start + places * batch.step
        return np.array(batch, np.int64)[places]

    def add_costs(self, columns: dict[str, Array]) -> None:
        """The columns that do not need a plan."""
        variant = columns["variant"]
        size = len(variant)
        for name in (*COSTS, *BOOK):
            columns[name] = np.empty(size, np.int64)
        columns["status"] = np.empty(size, np.int64)
        bytes_of = np.array([DTYPES[name] for name in self.axes.dtype])[columns["dtype"]]
        blocks = variant // CHUNK_VARIANTS
        for number in range(int(blocks[0]), int(blocks[-1]) + 1):
            low, high = np.searchsorted(blocks, [number, number + 1])
            here = slice(int(low), int(high))
            costs = self._costs(number)
            place = variant[here] - number * CHUNK_VARIANTS
            status = columns["status"][here] = costs.status[place]
            columns["params"][here] = costs.params[place]
            columns["trainable_params"][here] = costs.trainable[place]
            columns["macs"][here] = costs.macs[place]
            columns["flops"][here] = 2 * costs.macs[place]
            batch = columns["batch"][here]
            for width in self.floats:
                of_width = bytes_of[here] == width
                every = of_width.all()
                chosen = slice(None) if every else of_width
                book, at, samples = costs.book[width], place[chosen], batch[chosen]
                fixed, per = book.training
                columns["textbook_training"][here][chosen] = fixed[at] + samples * per[at]
                lines = [f[at] + samples * p[at] for f, p in zip(*book.inference, strict=True)]
                columns["textbook_inference"][here][chosen] = np.max(lines, axis=0)
            impossible = status == IMPOSSIBLE
            if impossible.any():
                for name in (*COSTS, *BOOK):
                    columns[name][here][impossible] = UNKNOWN

    def _measure(self, number: int) -> Costs:
        first = number * CHUNK_VARIANTS
        return self.variants.costs(
            first, min(first + CHUNK_VARIANTS, len(self.variants)), self.floats
        )

    def values(
        self, name: str, columns: Mapping[str, Array], blind: Mapping[str, str] | None = None
    ) -> Values:
        """A column for a filter; those of `blind` as if nothing was known of them."""
        if blind and name in blind:
            return Values(np.int64(0), np.False_)
        column = columns[name]
        if name in self.labels:
            return Values(np.array(self.labels[name])[column])
        if name in RESULTS and (column < 0).any():
            return Values(column, column >= 0)
        return Values(column)

    # --- memory ---

    def peaks(self, mode: str, columns: Mapping[str, Array]) -> Ints:
        """The peaks of some rows in order; `UNKNOWN` where there is none."""
        found = np.full(len(columns["row"]), UNKNOWN, np.int64)
        if not len(found):
            return found
        group = columns["row"] // len(self.axes.batch)
        edges = np.flatnonzero(np.diff(group)) + 1
        for start, stop in zip([0, *edges], [*edges, len(group)], strict=True):
            here = slice(int(start), int(stop))
            engine = self.axes.engine[int(columns["engine"][start])]
            if engine == "textbook" or columns["status"][start] == IMPOSSIBLE:
                continue
            job = job_for(
                mode,
                self.axes.dtype[int(columns["dtype"][start])],
                self.axes.optimizer[int(columns["optimizer"][start])],
                self.device,
            )
            found[here] = self.at(
                int(columns["variant"][start]), engine, job, columns["batch"][here]
            )
        return found

    def at(self, variant: int, engine: str, job: Job, batches: Ints) -> Ints:
        """The peaks of one network and job at some batches."""
        found = np.full(len(batches), UNKNOWN, np.int64)
        for regime, (low, high) in self.regimes(engine).items():
            inside = (batches >= low) & (batches <= high)
            if not inside.any():
                continue
            key = (variant, engine, job, regime)
            if key not in self._peaks:
                self._peaks[key] = self.allocated(variant, engine, job, low, high)
                if len(self._peaks) > KEPT_PEAKS:
                    self._peaks.popitem(last=False)
            peaks = self._peaks[key]
            if peaks is not None:
                found[inside] = peaks(batches[inside])
        return found

    @cached_property
    def ordered(self) -> Ints:
        """All batches in ascending order."""
        return np.sort(self.batches(np.arange(len(self.axes.batch))))

    def _regimes(self, engine: str) -> dict[int, tuple[int, int]]:
        """The least and the largest batch of the sweep in each regime of an engine."""
        module = MODULES.get(engine)
        regime = module and getattr(
            import_module(f"convcalc.memory.engines.{module}"), "regime", None
        )
        if not regime:
            return {1: (int(self.ordered[0]), int(self.ordered[-1]))}
        found: dict[int, tuple[int, int]] = {}
        place = 0
        while place < len(self.ordered):
            low = int(self.ordered[place])
            now = regime(low)
            place = bisect_right(self.ordered, now, lo=place, key=lambda batch: regime(int(batch)))
            found[now] = (low, int(self.ordered[place - 1]))
        return found

    def allocated(
        self, variant: int, engine: str, job: Job, low: int, high: int
    ) -> Allocated | None:
        """The peaks of one plan; None, and a note, where there is no prediction."""
        net = self._network(variant)
        first, last = np.searchsorted(self.ordered, [low, high + 1])
        try:
            return Allocated(plan(net, engine, job, low), self.ordered[first:last], self.exact)
        except (ConvcalcError, OverflowError) as error:
            if len(self.notes) < 20:
                self.notes[f"no prediction of {job.mode} by {engine}: {error}"] = None
            return None
        finally:
            # A sweep makes more plans than memory can hold, and needs each of them once.
            for key in [key for key in net.memo if key.startswith("plan ")]:
                del net.memo[key]

    def _build(self, variant: int) -> Network:
        return self.variants.network(variant)

    # --- for people and for other processes ---

    def cells(self, name: str, block: Block) -> list[Any]:
        """A column as Python values; None where it is not known."""
        values: list[Any] = block.columns[name].tolist()
        if name in self.labels:
            labels = self.labels[name]
            return [labels[code] for code in values]
        if name in RESULTS and UNKNOWN in values:
            return [None if value == UNKNOWN else value for value in values]
        return values

    def rows(self, block: Block) -> Iterator[dict[str, Any]]:
        """Rows as dictionaries; an input size as numbers, where there is one input."""
        cells = {name: self.cells(name, block) for name in self.names}
        if len(self.net.inputs) == 1:
            cells["input"] = [tuple(map(int, size.split("x"))) for size in cells["input"]]
        for row in zip(*cells.values(), strict=True):
            yield dict(zip(cells, row, strict=True))

    @cached_property
    def recipe(self) -> str:
        """The sweep as JSON, from which another process makes the same one."""
        from convcalc.readers.spec import write_spec

        batch = self.axes.batch
        return json.dumps(
            {
                "network": write_spec(self.net),
                "batch": [batch.start, batch.stop, batch.step]
                if isinstance(batch, range)
                else {"values": list(batch)},
                "input": self.axes.input,
                "dtype": self.axes.dtype,
                "optimizer": self.axes.optimizer,
                "engine": self.axes.engine,
                "width": self.axes.width,
                "fields": self.axes.fields,
                "where": None if self.where is None else self.where.text,
                "device": self.device,
                "exact": self.exact,
            }
        )


@lru_cache(maxsize=2)
def from_recipe(recipe: str) -> Sweep:
    """The sweep that a recipe describes."""
    from convcalc.ops.base import frozen
    from convcalc.readers.spec import read_spec

    data = json.loads(recipe)
    batch = data["batch"]
    axes = Axes(
        batch=tuple(batch["values"]) if isinstance(batch, dict) else range(*batch),
        input=tuple({k: tuple(v) for k, v in sizes.items()} for sizes in data["input"]),
        dtype=tuple(data["dtype"]),
        optimizer=tuple(data["optimizer"]),
        engine=tuple(data["engine"]),
        width=None if data["width"] is None else tuple(data["width"]),
        fields={
            name: tuple(frozen(value) for value in values)
            for name, values in data["fields"].items()
        },
    )
    return Sweep(read_spec(data["network"]), axes, data["where"], data["device"], data["exact"])


class Columns(Mapping[str, Array]):
    """The columns of the rows that pass: int64, float or text; masked where a number is unknown."""

    def __init__(self, table: Sweep) -> None:
        self.table = table
        self.held: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        """One column.

        Raises:
            KeyError: there is no such column.
            UsageError: it is too long to be held in memory.
        """
        table = self.table
        if name not in table.names:
            raise KeyError(f"{name}{suggestion(name, table.names)}")
        if len(table) > MAX_HELD:
            raise UsageError(
                f"{len(table):,} rows are too many to hold in memory; write them to a file"
            )
        if name not in self.held:
            parts = [
                table.block(start, stop, [name]).columns[name] for start, stop in table.chunks()
            ]
            column = np.concatenate(parts)
            if name in table.labels:
                column = np.array(table.labels[name])[column]
            elif name in RESULTS and (column == UNKNOWN).any():
                column = np.ma.masked_equal(column, UNKNOWN)
            self.held[name] = column
        return self.held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.table.names)

    def __len__(self) -> int:
        return len(self.table.names)


def text(value: Any) -> str:
    """An attribute's value as text: "same", "3x5"."""
    return "x".join(map(text, value)) if isinstance(value, tuple) else str(value)
