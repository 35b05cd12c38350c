"""Live PyTorch modules, traced by `torch.export` without computing anything.

Export keeps ATen's composite operators whole (`conv2d`, `batch_norm`, `linear`,
`scaled_dot_product_attention`), and a module in evaluation mode still records its `dropout` and
`batch_norm` calls.  So the network is that of inference and yet has every operator that training
needs.  Stochastic depth alone would vanish and is traced as a dropout.  What else a module does in
training only (auxiliary heads) is not read; the variables that only it uses are still counted.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from convcalc.errors import MissingExtra, ModelError
from convcalc.network import Network
from convcalc.tensors import TensorSpec

if TYPE_CHECKING:
    import torch

#: Modules that drop whole samples of a branch, with the attribute that holds the probability.
STOCHASTIC_DEPTH = {"DropPath": "drop_prob", "StochasticDepth": "p"}

#: What an input's sizes may be given as.
Sizes = tuple[int, ...] | Mapping[str, Any] | None


def read_module(
    module: torch.nn.Module, *, input: Sizes = None, name: str | None = None
) -> Network:
    """The network of a live module, which is neither run nor changed.

    `input` is height, width, channels of the one input (length, channels; features alone), or full
    shapes with the batch, in PyTorch's order, by the names of `forward`'s arguments; a `TensorSpec`
    there also gives the element type.  The batch is the first size of the first input; it is read
    as a batch of one.

    Raises:
        MissingExtra: PyTorch is not installed.
        ModelError: it is no module, the input does not say its size, or it cannot be traced.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtra("torch") from None
    from convcalc.readers.torch_graph import Builder

    if not isinstance(module, torch.nn.Module):
        raise ModelError(f"cannot read a PyTorch module from a {type(module).__name__}")
    module = unwrapped(module)
    label = name or type(module).__name__
    specs = input_specs(module, input, label)
    twin = traceable(module, label)
    graph = traced(twin, specs, label)
    return Builder(module, graph, specs, label).network()


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The module inside `torch.compile`'s and `DataParallel`'s wrappings."""
    from torch import nn

    inner = getattr(module, "_orig_mod", module)
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    return inner.module if isinstance(inner, parallel) else inner


def input_specs(module: torch.nn.Module, sizes: Sizes, label: str) -> dict[str, TensorSpec]:
    """Shapes for a batch of one by the names of `forward`'s arguments.

    Raises:
        ModelError: no sizes, sizes that are none, or a name that `forward` does not take.
    """
    import inspect

    parameters = inspect.signature(module.forward).parameters
    named = [
        key
        for key, parameter in parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if sizes is None:
        raise ModelError(
            f"'{label}' does not say the size of its input; give height,width,channels"
        )
    if not isinstance(sizes, Mapping):
        if not sizes or not all(type(n) is int and n > 0 for n in sizes):
            raise ModelError(f"input {sizes!r} must be positive integers: height, width, channels")
        # A single input may reach a `forward(*args)`, which names nothing.
        first = next(iter(named), "input")
        return {first: TensorSpec((1, sizes[-1], *sizes[:-1]))}
    specs: dict[str, TensorSpec] = {}
    batch = None
    for key, value in sizes.items():
        if key not in parameters:
            from convcalc.ops.base import suggestion

            hint = suggestion(key, named) or f"; it takes {', '.join(named)}"
            raise ModelError(f"forward of '{label}' has no argument '{key}'{hint}")
        spec = value if isinstance(value, TensorSpec) else TensorSpec(tuple(value))
        if not spec.dims or not all(type(n) is int and n > 0 for n in spec.dims):
            raise ModelError(f"input '{key}' of '{label}' has the shape {spec.dims!r}")
        batch = spec.dims[0] if batch is None else batch
        grows = spec.dims[0] == batch and spec.batch_axis is not None
        shape = (1, *spec.dims[1:]) if grows else spec.dims
        specs[key] = TensorSpec(shape, spec.dtype, 0 if grows else None)
    if not specs:
        raise ModelError(f"'{label}' needs the shape of at least one input")
    return specs


def traceable(module: torch.nn.Module, label: str) -> torch.nn.Module:
    """A copy in evaluation mode that shares the variables' memory and has none of their hooks.

    Tracing never writes to a variable, so sharing is safe and costs no memory.  Hooks are the
    caller's: they would see the tracer's tensors.

    Raises:
        ModelError: the module cannot be copied, or its variables have no sizes yet.
    """
    from torch import nn

    memo: dict[int, Any] = {}
    for key, parameter in module.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise ModelError(f"'{key}' of '{label}' has no size before the module's first run")
        # Gradients on: attention takes its plain path, as it does in training.
        floating = parameter.is_floating_point() or parameter.is_complex()
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=floating)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.detach()
    try:
        twin = copy.deepcopy(module, memo)
    except Exception as error:
        raise ModelError(f"'{label}' cannot be copied: {one_line(error)}") from None
    for part in list(twin.modules()):
        for hooks in (part._forward_hooks, part._forward_pre_hooks):
            for key, hook in list(hooks.items()):
                # PyTorch's own make weights (`weight_norm`): they belong to the network.
                if not type(hook).__module__.startswith("torch.nn.utils"):
                    del hooks[key]
        for key, child in list(part.named_children()):
            rate = getattr(child, STOCHASTIC_DEPTH.get(type(child).__name__, ""), None)
            if rate:
                setattr(part, key, nn.Dropout(float(rate)))
    twin.forward = returning_tensors(twin.forward)
    return twin.eval()


def returning_tensors(forward: Any) -> Any:
    """The same, with what comes out as a list of tensors: export knows few classes of results."""
    import functools

    @functools.wraps(forward)
    def flat(*args: Any, **kwargs: Any) -> list[torch.Tensor]:
        return list(tensors_in(forward(*args, **kwargs)))

    return flat


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in lists, mappings and objects within each other, in their order."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
    elif hasattr(value, "__dict__") and not isinstance(value, torch.nn.Module):
        yield from tensors_in(vars(value))


def traced(
    twin: torch.nn.Module, specs: Mapping[str, TensorSpec], label: str
) -> torch.export.ExportedProgram:
    """The graph of a module on inputs of these shapes.

    Raises:
        ModelError: `torch.export` cannot trace it; the message has its reason.
    """
    import torch

    tensors = list(twin.parameters()) or list(twin.buffers())
    device = tensors[0].device if tensors else torch.device("cpu")
    floating = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)
    examples = {
        key: torch.empty(
            spec.dims,
            dtype=floating if spec.dtype == "float" else getattr(torch, spec.dtype),
            device=device,
        )
        for key, spec in specs.items()
    }
    first, *rest = examples
    with quiet():
        try:
            return torch.export.export(
                twin, (examples[first],), {key: examples[key] for key in rest}, strict=False
            )
        except Exception as error:
            raise ModelError(f"PyTorch cannot trace '{label}': {one_line(error)}") from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the tracer's warnings and its print of a graph that it cannot finish."""
    logger = logging.getLogger("torch")
    level = logger.level
    unread = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(unread),
        contextlib.redirect_stderr(unread),
    ):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)


def one_line(error: Exception) -> str:
    """The first sentence of a foreign error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
