"""PyTorch: what its allocator, its profiler or its memory tracker says of one step.

The step of training is, with the tensors of the line before still referenced by nobody,

    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

and that of inference ``model(x)`` under ``torch.no_grad()``.  At rest, between two steps, there are
parameters, buffers, the optimizer's state, inputs, labels (class numbers for cross-entropy) and the
last loss.  Methods:

- ``memtracker``: `torch.distributed._tools.mem_tracker.MemTracker`; nothing is computed.  For a CPU
  under `FakeTensorMode`.  For a GPU on meta tensors, which no driver is needed for, with what
  differs on CUDA: blocks of 512 bytes, the fused dropout with its mask of bytes, optimizers over
  lists of tensors (`foreach`).  Scratch within kernels is not in it.
- ``profiler``: the allocation events of `torch.profiler` on a CPU; the step is really run.
- ``allocator``: `torch.cuda.max_memory_allocated` and `max_memory_reserved` on a GPU, and NVML's
  figure for the whole process where it can be had.  On a CPU it means ``profiler``.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any

from convcalc.errors import MissingExtra, UsageError
from convcalc.memory.job import CROSS_ENTROPY
from convcalc.network import Network
from convcalc.verify import nvml
from convcalc.verify.request import Event, Measurement, Request, loss_of, median

#: What CUDA's caching allocator rounds up to.
BLOCK = 512

#: Optimizers by our names: the class in torch.optim and its settings.
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.01}),
    "momentum": ("SGD", {"lr": 0.01, "momentum": 0.9}),
    "rmsprop": ("RMSprop", {}),
    "adagrad": ("Adagrad", {}),
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {}),
    "nadam": ("NAdam", {}),
    "adadelta": ("Adadelta", {}),
    "adamax": ("Adamax", {}),
}

DTYPES = ("float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def environment(request: Request) -> dict[str, str]:
    """The variables of the child process."""
    return {} if request.device == "gpu" else {"CUDA_VISIBLE_DEVICES": "-1"}


def run(request: Request) -> Measurement:
    """Build, warm up, measure.

    Raises:
        MissingExtra: PyTorch is not installed.
        UsageError: there is no such device, or it cannot do what is asked for.
        ModelError: PyTorch has nothing for an operator.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtra("torch") from None
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    if request.method == "memtracker":
        return track(request)
    if request.device == "gpu":  # pragma: no cover (no GPU where tests run)
        return on_cuda(request)
    return profiled(request)


def track(request: Request, *, foreach: bool | None = None) -> Measurement:
    """What MemTracker counts; `foreach` overrules the optimizer's default on the device.

    Raises:
        UsageError: mixed precision was asked for on a GPU, which meta tensors have not.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    gpu = request.device == "gpu"
    if gpu and request.dtype.startswith("mixed"):
        raise UsageError("MemTracker cannot follow mixed precision without a GPU; use --device cpu")
    if foreach is None:
        foreach = gpu
    work = Work(torch, request, "meta" if gpu else "cpu", foreach=foreach)
    with fused_dropout(torch) if gpu else FakeTensorMode():
        work.prepare()
        work.step()
        gc.collect()
        tracker = tracker_class()(work.device, BLOCK if gpu else 1, request.timeline)
        tracker.track_external(work.model, *work.resting())
        if work.optimizer is not None:
            tracker.track_external(work.optimizer)
        resting = tracker.total()
        with tracker:
            work.step()
        peak = tracker.peak()
    return work.measurement(
        [peak],
        resting,
        timeline=tracker.events,
        settings={"foreach": foreach, "rounding": BLOCK if gpu else 1},
        notes=["the tensors' bytes alone: scratch within kernels is not counted"],
    )


def profiled(request: Request) -> Measurement:
    """What the profiler's allocation events add up to on a CPU."""
    import torch

    work = Work(torch, request, "cpu", foreach=None)
    work.prepare()
    work.fill()
    work.step()
    resting = work.resting_bytes()
    peaks: list[int] = []
    events: list[Event] = []
    for _ in range(request.repeats):
        gc.collect()
        found = allocations(torch, work.step, resting)
        peaks.append(max((event.bytes for event in found), default=resting))
        events = events or found
    return work.measurement(
        peaks,
        resting,
        timeline=events if request.timeline else [],
        settings={"threads": torch.get_num_threads(), "onednn": torch.backends.mkldnn.enabled},
        notes=["scratch that oneDNN takes for itself is not counted"],
    )


def on_cuda(request: Request) -> Measurement:  # pragma: no cover (no GPU where tests run)
    """What the caching allocator says on a GPU; a small card is simulated by a limit.

    Raises:
        UsageError: PyTorch sees no GPU.
    """
    import torch

    cuda = torch.cuda
    if not cuda.is_available():
        raise UsageError(
            "PyTorch sees no GPU; --device cpu measures on the CPU, and the method memtracker "
            "counts for a GPU without one"
        )
    whole = cuda.get_device_properties(0).total_memory
    if request.memory_limit is not None:
        cuda.set_per_process_memory_fraction(min(request.memory_limit / whole, 1.0))
    work = Work(torch, request, "cuda", foreach=None)
    work.prepare()
    work.fill()
    for _ in range(2):  # the second step finds the optimizer's state, and cuDNN's plans
        work.step()
    peaks, reserved = [], []
    for _ in range(request.repeats):
        gc.collect()
        cuda.synchronize()
        cuda.empty_cache()
        cuda.reset_peak_memory_stats()
        resting = cuda.memory_allocated()
        work.step()
        cuda.synchronize()
        peaks.append(cuda.max_memory_allocated())
        reserved.append(cuda.max_memory_reserved())
    events = snapshot(torch, work.step, resting) if request.timeline else []
    return work.measurement(
        peaks,
        resting,
        timeline=events,
        device=cuda.get_device_name(0),
        settings={
            "reserved": median(reserved),
            "process": process_bytes(torch),
            "cudnn": torch.backends.cudnn.version(),
            "tf32": torch.backends.cudnn.allow_tf32,
            "driver": nvml.driver_version(),
            "memory_limit": request.memory_limit,
        },
    )


class Work:
    """A model with its inputs, labels and optimizer, and the step that is measured."""

    def __init__(self, torch: Any, request: Request, device: str, *, foreach: bool | None) -> None:
        from convcalc.readers.spec import read_spec
        from convcalc.verify.build_torch import build, input_shapes

        self.torch = torch
        self.request = request
        self.device = device
        self.foreach = foreach
        self.network: Network = read_spec(request.network)
        self.training = request.mode == "training"
        names = self.network.outputs
        self.losses = {name: request.loss or loss_of(self.network, name) for name in names}
        if request.dtype not in DTYPES:
            raise UsageError(f"PyTorch has no dtype '{request.dtype}'")
        self.mixed = request.dtype.startswith("mixed_")
        self.dtype = torch.float32 if self.mixed else getattr(torch, request.dtype)
        logits = [name for name in names if self.training and self.losses[name] == CROSS_ENTROPY]
        with torch.device("meta"):
            self.model = build(self.network, logits=logits, remat=request.remat)
            shapes = input_shapes(self.model, self.network, request.batch)
            self.inputs: list[Any] = [
                torch.empty(
                    shape, dtype=None if spec.dtype == "float" else getattr(torch, spec.dtype)
                )
                for shape, spec in zip(shapes, self.network.inputs.values(), strict=True)
            ]
            self.shapes, self.flops = self.dry_run()
        self.model.train(self.training)
        self.targets: list[Any] = []
        self.optimizer: Any = None
        self.average: Any = None
        self.last: Any = None

    def dry_run(self) -> tuple[list[tuple[int, ...]], int | None]:
        """The outputs' shapes, and the operations where they are asked for, on meta tensors."""
        from torch.utils.flop_counter import FlopCounterMode

        counter = FlopCounterMode(display=False) if self.request.flops else None
        with self.torch.no_grad(), counter or contextlib.nullcontext():
            outputs = self.model.eval()(*self.inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        shapes = [tuple(output.shape) for output in outputs]
        return shapes, None if counter is None else int(counter.get_total_flops())

    def fill(self) -> None:
        """Small random weights, statistics of one: a step must give numbers."""
        torch = self.torch
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.normal_(0.0, 0.02)
            for buffer in self.model.buffers():
                buffer.fill_(1)

    def prepare(self) -> None:
        """Model, inputs, labels and optimizer on the device, or in the fake mode that is active."""
        torch, zeros = self.torch, self.torch.zeros
        place(torch, self.model, self.device, self.dtype)
        kinds = [self.dtype if x.is_floating_point() else x.dtype for x in self.inputs]
        self.inputs = [
            torch.ones(x.shape, dtype=kind, device=self.device)
            for x, kind in zip(self.inputs, kinds, strict=True)
        ]
        if not self.training:
            return
        for name, shape in zip(self.network.outputs, self.shapes, strict=True):
            if self.losses[name] == CROSS_ENTROPY:
                front = len(shape) == 2 or self.in_front(name)
                classes = (shape[0], *shape[2:]) if front else shape[:-1]
                self.targets.append(zeros(classes, dtype=torch.int64, device=self.device))
            else:
                self.targets.append(zeros(shape, dtype=self.dtype, device=self.device))
        if self.request.accumulate:
            self.gradients()
        if self.request.ema:
            averaged = torch.optim.swa_utils
            decay = averaged.get_ema_multi_avg_fn(0.99)
            self.average = averaged.AveragedModel(self.model, multi_avg_fn=decay)
        self.optimizer = make_optimizer(
            torch, self.request.optimizer, self.model.parameters(), self.foreach
        )

    def in_front(self, name: str) -> bool:
        """Whether an output has its channels behind the batch."""
        return name in self.model.moved or self.network.channels_first

    def precision(self) -> Any:
        """Autocast under a mixed policy."""
        if not self.mixed:
            return contextlib.nullcontext()
        dtype = getattr(self.torch, self.request.dtype.removeprefix("mixed_"))
        return self.torch.autocast(self.device, dtype=dtype)

    def step(self) -> None:
        """One step; see the module's docstring."""
        if not self.training:
            with self.torch.no_grad(), self.precision():
                self.model(*self.inputs)
            return
        with self.precision():
            self.last = self.criterion(self.model(*self.inputs))
        self.last.backward()
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.optimizer.zero_grad(set_to_none=True)
        if self.request.accumulate:
            self.gradients()

    def gradients(self) -> None:
        """What steps before have left, to which this one's gradients are added."""
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.grad = self.torch.zeros_like(parameter)

    def criterion(self, outputs: Any) -> Any:
        """The sum of the outputs' losses."""
        functional = self.torch.nn.functional
        several = isinstance(outputs, tuple)
        total: Any = None
        for name, output, target in zip(
            self.network.outputs,
            outputs if several else (outputs,),
            self.targets,
            strict=True,
        ):
            if self.losses[name] == CROSS_ENTROPY:
                if output.dim() > 2 and not self.in_front(name):
                    output = output.movedim(-1, 1)
                loss = functional.cross_entropy(output, target)
            else:
                loss = functional.mse_loss(output, target)
            total = loss if total is None else total + loss
        return total

    def resting(self) -> list[Any]:
        """The tensors that are there between two steps, beside the model's and the optimizer's."""
        rest = [*self.inputs, *self.targets]
        return rest if self.last is None else [*rest, self.last]

    def resting_bytes(self) -> int:
        """Bytes of all that is there between two steps."""
        tensors = [*self.model.parameters(), *self.model.buffers(), *self.resting()]
        if self.optimizer is not None:
            for state in self.optimizer.state.values():
                tensors += [v for v in state.values() if self.torch.is_tensor(v)]
        storages = {tensor.untyped_storage()._cdata: tensor for tensor in tensors}
        return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())

    def measurement(
        self,
        peaks: list[int],
        resting: int,
        *,
        timeline: list[Event],
        settings: dict[str, Any],
        notes: list[str] | None = None,
        device: str = "",
    ) -> Measurement:
        """The answer."""
        from convcalc.verify.build_torch import count_params

        request = self.request
        settings = {
            "loss": self.losses[self.network.outputs[0]] if self.training else None,
            **settings,
        }
        return Measurement(
            framework="torch",
            version=str(self.torch.__version__),
            method=request.method,
            device=device or request.device,
            params=count_params(self.model),
            output_shape=self.output_shape(),
            peaks=peaks,
            peak_bytes=median(peaks),
            resting_bytes=resting,
            timeline=timeline,
            settings=settings,
            notes=notes or [],
            flops=self.flops,
        )

    def output_shape(self) -> list[int]:
        """The first output's shape in the network's order of axes."""
        from convcalc.verify.build_torch import output_shape

        return list(output_shape(self.model, self.network.outputs[0], self.shapes[0]))


def make_optimizer(torch: Any, name: str, parameters: Any, foreach: bool | None) -> Any:
    """The optimizer of that name; None where nothing is updated.

    Raises:
        UsageError: PyTorch has no such optimizer.
    """
    if name == "none":
        raise UsageError("training needs an optimizer")
    if name not in OPTIMIZERS:
        raise UsageError(f"PyTorch has no optimizer '{name}'; it has {', '.join(OPTIMIZERS)}")
    kind, settings = OPTIMIZERS[name]
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return getattr(torch.optim, kind)(trained, **settings, foreach=foreach)


def place(torch: Any, model: Any, device: str, dtype: Any) -> None:
    """Give every variable of a model on meta tensors memory on a device (fake memory in a mode)."""
    made: dict[int, tuple[Any, Any]] = {}
    for module in model.modules():
        for group in (module._parameters, module._buffers):
            for name, old in group.items():
                if old is None:
                    continue
                if id(old) not in made:
                    kind = dtype if old.is_floating_point() else old.dtype
                    new = torch.zeros(old.shape, dtype=kind, device=device)
                    if isinstance(old, torch.nn.Parameter):
                        new = torch.nn.Parameter(new, requires_grad=old.requires_grad)
                    # The old one is kept, so that no other takes its id.
                    made[id(old)] = (old, new)
                group[name] = made[id(old)][1]


@contextlib.contextmanager
def fused_dropout(torch: Any) -> Iterator[None]:
    """Dropout as CUDA has it, whatever the device: one kernel, and a mask of bytes."""
    functional = torch.nn.functional
    plain = functional.dropout

    def dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        return torch.native_dropout(x, p, True)[0] if training and p > 0 else x

    functional.dropout = dropout
    try:
        yield
    finally:
        functional.dropout = plain


def tracker_class() -> Any:
    """MemTracker, with a chosen rounding and a list of what it saw."""
    from torch.distributed._tools import mem_tracker

    class Tracker(mem_tracker.MemTracker):  # type: ignore[misc]
        """Records each change of the total on one device."""

        def __init__(self, device: str, block: int, record: bool) -> None:
            super().__init__()
            self.device = device
            self.block = block
            self.record = record
            self.events: list[Event] = []
            self.running = ""
            self.makers: dict[int, tuple[str, str]] = {}

        def _update_snap(self, u_type: Any, winfo: Any, *rest: Any, **named: Any) -> None:
            if u_type is mem_tracker._UpdateType.ADD:
                winfo.mem_consumed = -(-winfo.mem_consumed // self.block) * self.block
            before = self.total()
            super()._update_snap(u_type, winfo, *rest, **named)
            after = self.total()
            if self.record and self._depth and after != before:
                self.note(winfo, after, after - before)

        def note(self, winfo: Any, total: int, delta: int) -> None:
            """Append an event; a release has the name of its allocation."""
            if delta > 0:
                inner = max(self._mod_tracker.parents, key=len, default="")
                self.makers[id(winfo)] = (inner.partition(".")[2], self.running)
            op, kind = self.makers.get(id(winfo), ("", ""))
            self.events.append(Event(len(self.events), op, total, delta, kind))

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.running = func.__name__.partition(".")[0]
            return super().__torch_dispatch__(func, types, args, kwargs)

        def total(self) -> int:
            """Bytes in use."""
            return self.sum_of(self._curr_mem_snap)

        def peak(self) -> int:
            """The most bytes that were in use at once."""
            return self.sum_of(self._peak_mem_snap)

        def sum_of(self, snapshot: Any) -> int:
            """The bytes of a snapshot on the device."""
            return sum(kinds["Total"] for d, kinds in snapshot.items() if d.type == self.device)

    return Tracker


def allocations(torch: Any, step: Callable[[], None], resting: int) -> list[Event]:
    """The allocations and releases of one step, in the order of time.

    What was there before the step is not known to the profiler: releasing it is no event.
    """
    activity = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity], profile_memory=True) as profile:
        step()
    found: list[tuple[int, str, int]] = []
    queue = list(profile.profiler.kineto_results.experimental_event_tree())
    while queue:
        event = queue.pop()
        queue.extend(event.children)
        if event.tag.name == "Allocation":
            name = event.parent.name if event.parent is not None else ""
            found.append((event.start_time_ns, name, event.extra_fields.alloc_size))
    found.sort(key=lambda entry: entry[0])
    events, total = [], resting
    for time, name, delta in found:
        total += delta
        events.append(Event(time - found[0][0], name, total, delta, name.removeprefix("aten::")))
    return events


def snapshot(  # pragma: no cover (no GPU where tests run)
    torch: Any, step: Callable[[], None], resting: int
) -> list[Event]:
    """The allocations of one step as the CUDA allocator records them, with the Python caller."""
    memory = torch.cuda.memory
    memory._record_memory_history(max_entries=1_000_000, stacks="python")
    step()
    torch.cuda.synchronize()
    trace = memory._snapshot()["device_traces"][0]
    memory._record_memory_history(enabled=None)
    events: list[Event] = []
    total = resting
    makers: dict[int, str] = {}
    for number, entry in enumerate(trace):
        if entry["action"] == "alloc":
            frames = entry.get("frames") or [{"name": ""}]
            makers[entry["addr"]] = frames[0]["name"]
            delta = entry["size"]
        elif entry["action"] == "free_completed":
            delta = -entry["size"]
        else:
            continue
        total += delta
        name = makers.get(entry["addr"], "")
        events.append(Event(number, name, total, delta, name))
    return events


def process_bytes(torch: Any) -> int:  # pragma: no cover (no GPU where tests run)
    """What the device shows for this process; without NVML, what it shows for all of them."""
    shown = nvml.process_bytes(torch.cuda.current_device())
    if shown is not None:
        return shown
    free, whole = torch.cuda.mem_get_info()
    return int(whole - free)
