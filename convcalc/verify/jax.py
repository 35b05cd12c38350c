"""JAX through Keras: one step of training or inference as a function of its state.

The step is what Keras' own `fit` compiles on this backend: `stateless_call`, the loss, its gradient
and `optimizer.stateless_apply`, with the state (variables, optimizer's variables) donated, so that
it is updated in place.

On a GPU the allocator's statistics are read after the step has run.  A CPU's allocator keeps none:
there the step is run all the same, and the figure is `memory_analysis()` of what ran.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from convcalc.errors import MissingExtra, UsageError
from convcalc.memory.job import CROSS_ENTROPY, NONE
from convcalc.network import Network
from convcalc.verify.request import Measurement, Request, loss_of

#: Steps before the statistics are read: what is allocated once is allocated by then.
WARM_UP = 2

#: Steps whose gradients are added up where that is asked for.
ACCUMULATED = 2


def environment(request: Request) -> dict[str, str]:
    """The variables of the child process."""
    settings = {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if request.device == "cpu":
        return settings | {"JAX_PLATFORMS": "cpu"}
    return settings | {"JAX_PLATFORMS": "cuda,cpu", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


@dataclass(slots=True)
class Step:
    """One step and what it is called on, not yet compiled."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    """Trees of shapes and dtypes, or of Keras' variables where they have values."""
    donated: tuple[int, ...]
    model: Any
    net: Network
    losses: list[str]
    version: str


# What follows needs JAX, and runs in the child process, where no coverage is measured.
def prepare(request: Request) -> Step:  # pragma: no cover
    """The step of a request; nothing is allocated, not even weights.

    Raises:
        MissingExtra: JAX or Keras is not installed.
        ModelError: Keras cannot build the network.
        UsageError: training without an optimizer.
    """
    try:
        import jax
        import keras
    except ImportError:
        raise MissingExtra("jax") from None

    from convcalc.readers.spec import read_spec
    from convcalc.verify.build_keras import build

    net = read_spec(request.network)
    jax.config.update("jax_enable_x64", request.dtype == "float64")
    if not request.dtype.startswith("mixed"):
        keras.config.set_floatx(request.dtype)
    keras.config.set_dtype_policy(request.dtype)
    keras.utils.set_random_seed(1)
    training = request.mode == "training"
    losses = [request.loss or loss_of(net, name) for name in net.outputs] if training else []
    # Variables made in such a scope know their shapes and get no values, then or later.
    without_values = functools.partial(keras.StatelessScope, initialize_variables=False)
    with without_values():
        model = build(net, request.remat if training else NONE)
    optimizer = optimizer_of(keras, request) if training else None
    if optimizer is not None:
        optimizer.build(model.trainable_variables)
    single = len(model.inputs) == 1
    inputs = [shaped(jax, [request.batch, *t.shape[1:]], t.dtype) for t in model.inputs]
    weights = [shaped(jax, v.shape, v.dtype) for v in model.trainable_variables]
    rest = [shaped(jax, v.shape, v.dtype) for v in model.non_trainable_variables]
    version = f"jax {jax.__version__}, keras {keras.__version__}"

    def called(weights: Any, rest: Any, inputs: Any, training: bool) -> Any:
        x = inputs[0] if single else inputs
        return model.stateless_call(weights, rest, x, training=training)

    def infer(weights: Any, rest: Any, inputs: Any) -> Any:
        with without_values():
            return called(weights, rest, inputs, False)[0]

    if optimizer is None:
        return Step(infer, (weights, rest, inputs), (), model, net, losses, version)
    floats = keras.config.floatx()
    labels = [shaped(jax, [request.batch, *t.shape[1:]], floats) for t in model.outputs]
    slots = [shaped(jax, v.shape, v.dtype) for v in optimizer.variables]
    functions = [
        keras.losses.CategoricalCrossentropy()
        if loss == CROSS_ENTROPY
        else keras.losses.MeanSquaredError()
        for loss in losses
    ]

    def loss_and_rest(weights: Any, rest: Any, slots: Any, inputs: Any, labels: Any) -> Any:
        outputs, rest = called(weights, rest, inputs, True)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        each = [f(y, z) for f, y, z in zip(functions, labels, outputs, strict=True)]
        with keras.StatelessScope(list(zip(optimizer.variables, slots, strict=True))):
            scaled = optimizer.scale_loss(sum(each))
        return scaled, (sum(each), rest)

    def train(weights: Any, rest: Any, slots: Any, inputs: Any, labels: Any) -> Any:
        differentiated = jax.value_and_grad(loss_and_rest, has_aux=True)
        with without_values():
            (_, (loss, rest)), gradients = differentiated(weights, rest, slots, inputs, labels)
            weights, slots = optimizer.stateless_apply(slots, gradients, weights)
        return loss, weights, rest, slots

    arguments = (weights, rest, slots, inputs, labels)
    return Step(train, arguments, (0, 1, 2), model, net, losses, version)


def shaped(jax: Any, shape: Any, dtype: Any) -> Any:  # pragma: no cover
    """A tensor of which only shape and dtype exist."""
    return jax.ShapeDtypeStruct(tuple(shape), jax.dtypes.canonicalize_dtype(dtype))


def optimizer_of(keras: Any, request: Request) -> Any:
    """The optimizer as `compile` would set it up.

    Raises:
        UsageError: there is none.
    """
    if request.optimizer == "none":
        raise UsageError("training needs an optimizer: --optimizer sgd, momentum, adam, ...")
    # By the class, since `optimizers.get` does not know all of them.
    classes = {name.lower(): name for name in dir(keras.optimizers)}
    settings: dict[str, Any] = {"use_ema": True} if request.ema else {}
    if request.accumulate:
        settings["gradient_accumulation_steps"] = ACCUMULATED
    if request.optimizer == "momentum":
        found = keras.optimizers.SGD(momentum=0.9, **settings)
    else:
        found = getattr(keras.optimizers, classes[request.optimizer])(**settings)
    scaled = request.dtype == "mixed_float16"
    return keras.optimizers.LossScaleOptimizer(found) if scaled else found


def total(analysis: Any) -> int:
    """Bytes that an executable needs: what is donated is argument and output at once."""
    return int(
        analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        + analysis.temp_size_in_bytes
        - analysis.alias_size_in_bytes
    )


def run(request: Request) -> Measurement:  # pragma: no cover
    """Compile, run, read.

    Raises:
        MissingExtra: JAX or Keras is not installed.
        UsageError: there is no such device, or training was asked for without an optimizer.
    """
    try:
        import jax
    except ImportError:
        raise MissingExtra("jax") from None
    import numpy as np

    from convcalc.verify.build_keras import output_shapes

    try:
        device = jax.devices("cpu" if request.device == "cpu" else "cuda")[0]
    except RuntimeError:
        raise UsageError("JAX sees no GPU; --device cpu measures on the CPU") from None
    step = prepare(request)
    rng = np.random.default_rng(1)

    def filled(part: Any) -> Any:
        whole = np.issubdtype(part.dtype, np.integer) or part.dtype == bool
        host = np.zeros(part.shape) if whole else rng.uniform(0, 0.1, part.shape)
        return jax.device_put(host.astype(part.dtype), device)

    state = jax.tree.map(filled, step.arguments)
    compiled = jax.jit(step.function, donate_argnums=step.donated).lower(*state).compile()
    analysed = total(compiled.memory_analysis())
    resting = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    output = None
    for _ in range(WARM_UP + request.repeats if request.device == "gpu" else 1):
        output = None
        output = jax.block_until_ready(compiled(*state))
        if step.donated:
            state = (*output[1:], *state[3:])
    found = Measurement(
        framework="jax",
        version=step.version,
        method=request.method,
        device="cpu" if request.device == "cpu" else device.device_kind,
        params=step.model.count_params(),
        output_shape=[request.batch, *output_shapes(step.net, step.model)[0][1:]],
        settings={"loss": step.losses or None, "memory_analysis": analysed},
    )
    if request.device == "gpu":
        statistics = device.memory_stats()
        found.peaks = [int(statistics["peak_bytes_in_use"])]
        found.resting_bytes = int(statistics["bytes_in_use"])
        found.notes.append("JAX cannot reset its peak: it includes making the weights")
    else:
        found.peaks = [analysed]
        found.resting_bytes = resting
        found.notes.append("JAX keeps no statistics on a CPU: the peak is memory_analysis()'s")
    found.peak_bytes = found.peaks[0]
    if request.values:
        from convcalc.verify.values import difference

        weights = [np.asarray(value) for value in state[0]]
        found.values_error = difference(step.net, np.asarray(state[2][0]), weights, output)
    return found
