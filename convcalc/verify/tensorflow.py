"""TensorFlow through Keras: what its allocator says of `train_on_batch` and `predict_on_batch`.

On a CPU the BFC allocator, which is the GPU's, is switched on, so that rounding and reuse are those
of a GPU.  In memory between two steps are the model's variables, the optimizer's (slots, step
counter, learning rate), the loss metric's, one batch of inputs and, in training, of labels.  Inputs
and labels are tensors of the device: a step makes no copy of them.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import Any

from convcalc.errors import MissingExtra, UsageError
from convcalc.memory.job import CROSS_ENTROPY, NONE, SQUARED_ERROR
from convcalc.verify.jax import ACCUMULATED, optimizer_of
from convcalc.verify.request import Measurement, Request, loss_of, median

MIB = 2**20

#: What TensorFlow's allocator takes on a CPU before a network asks for anything.
STARTED = 8 * MIB

#: Steps before the first that counts: one traces and makes the slots, one updates them for the
#: first time, which copies those that share one constant of zeros.
WARM_UP = 2

#: Set before TensorFlow is imported, on a CPU.  oneDNN's kernels take scratch of their own, which
#: no other build and no GPU has.
CPU_SETTINGS = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPU_ALLOCATOR_USE_BFC": "1",
    "TF_ENABLE_ONEDNN_OPTS": "0",
}


def environment(request: Request) -> dict[str, str]:
    """The variables of the child process."""
    settings = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if request.device == "cpu":
        settings |= CPU_SETTINGS
        settings["TF_CPU_BFC_MEM_LIMIT_IN_MB"] = str(limit(request) // MIB)
    if request.threads is not None:
        settings["TF_NUM_INTEROP_THREADS"] = str(request.threads)
    return settings


def limit(request: Request) -> int:
    """Bytes that the CPU's allocator may hand out: what was asked for, or the machine's memory."""
    return request.memory_limit or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# What follows runs in the child process only, where no coverage is measured.
def run(request: Request) -> Measurement:  # pragma: no cover
    """Build, warm up, measure.

    Raises:
        MissingExtra: TensorFlow is not installed.
        UsageError: there is no such device, or training was asked for without an optimizer.
    """
    try:
        import keras
        import tensorflow as tf
    except ImportError:
        raise MissingExtra("tensorflow") from None

    from convcalc.readers.spec import read_spec
    from convcalc.verify.build_keras import build, output_shapes

    device = prepare(tf, request)
    net = read_spec(request.network)
    if not request.dtype.startswith("mixed"):
        keras.config.set_floatx(request.dtype)
    keras.config.set_dtype_policy(request.dtype)
    keras.utils.set_random_seed(1)
    model = build(net, request.remat if request.mode == "training" else NONE)
    inputs = [sample(tf, tensor, request.batch) for tensor in model.inputs]
    losses = [request.loss or loss_of(net, name) for name in net.outputs]
    step = step_of(tf, keras, model, inputs, losses, request)
    for _ in range(WARM_UP):
        output = step()
    memory = tf.config.experimental
    peaks, resting = [], 0
    for _ in range(request.repeats):
        gc.collect()
        resting = memory.get_memory_info(device)["current"]
        memory.reset_memory_stats(device)
        step()
        peaks.append(memory.get_memory_info(device)["peak"])
    found = Measurement(
        framework="tensorflow",
        version=f"tensorflow {tf.__version__}, keras {keras.__version__}",
        method=request.method,
        device=name_of(tf, request),
        params=model.count_params(),
        output_shape=[request.batch, *output_shapes(net, model)[0][1:]],
        peaks=peaks,
        peak_bytes=median(peaks),
        resting_bytes=resting,
        settings={
            "loss": losses if request.mode == "training" else None,
            "interop_threads": request.threads or "default",
            "cores": os.cpu_count(),
        },
    )
    if request.device == "cpu":
        found.settings |= {key: os.environ[key] for key in CPU_SETTINGS}
    else:
        from convcalc.verify import nvml

        found.settings["process_bytes"] = nvml.process_bytes()
        found.settings["driver"] = nvml.driver_version()
    if request.timeline:
        from convcalc.verify.trace import trace

        found.timeline = trace(tf, step)
        if request.jit:
            found.notes.append("XLA takes one block for a whole step: what is in it is not seen")
    if request.values:
        from convcalc.verify.values import difference

        found.values_error = difference(net, inputs[0].numpy(), model.get_weights(), output)
    if request.flops:
        found.flops = count_flops(tf, model, inputs)
    return found


def prepare(tf: Any, request: Request) -> str:  # pragma: no cover
    """The device's name, its allocator made ready.

    Raises:
        UsageError: there is no GPU.
    """
    if request.device == "cpu":
        # Later chunks are split off one large region, as on a GPU, instead of each being a region
        # that is handed out whole.  Nothing is written to it: it takes addresses, not memory.
        # A budget is one region but for what is handed out before, as a GPU's is.
        size = min(limit(request) * 3 // 4, 2**34)
        if request.memory_limit is not None:
            size = max(request.memory_limit - STARTED, MIB)
        region = tf.raw_ops.Empty(shape=[size // MIB, MIB // 4], dtype=tf.float32, init=False)
        del region
        return "CPU:0"
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        raise UsageError("TensorFlow sees no GPU; --device cpu measures on the CPU")
    if request.memory_limit is None:
        tf.config.experimental.set_memory_growth(gpus[0], True)
    else:
        size = tf.config.LogicalDeviceConfiguration(memory_limit=request.memory_limit // MIB)
        tf.config.set_logical_device_configuration(gpus[0], [size])
    return "GPU:0"


def name_of(tf: Any, request: Request) -> str:  # pragma: no cover
    """The device for people: a GPU's product name."""
    if request.device == "cpu":
        return "cpu"
    gpu = tf.config.list_physical_devices("GPU")[0]
    return str(tf.config.experimental.get_device_details(gpu).get("device_name", "gpu"))


def sample(tf: Any, tensor: Any, batch: int) -> Any:  # pragma: no cover
    """One batch of an input: random numbers, zeros where it takes integers."""
    shape = [batch, *tensor.shape[1:]]
    if "float" in tensor.dtype:
        return tf.random.uniform(shape, dtype=tensor.dtype)
    return tf.zeros(shape, tensor.dtype)


def step_of(
    tf: Any, keras: Any, model: Any, inputs: list[Any], losses: list[str], request: Request
) -> Callable[[], Any]:  # pragma: no cover
    """One step on the same batch, by the methods that Keras' users call.

    Raises:
        UsageError: training without an optimizer.
    """
    x = inputs[0] if len(inputs) == 1 else inputs
    if request.mode == "inference":
        model.jit_compile = request.jit
        return lambda: model.predict_on_batch(x)
    floats = keras.config.floatx()
    labels = [tf.zeros([request.batch, *out.shape[1:]], floats) for out in model.outputs]
    y = labels[0] if len(labels) == 1 else labels
    names = {CROSS_ENTROPY: "categorical_crossentropy", SQUARED_ERROR: "mean_squared_error"}
    model.compile(
        optimizer=optimizer_of(keras, request),
        loss=[names[loss] for loss in losses],
        jit_compile=request.jit,
    )
    if not request.accumulate:
        return lambda: model.train_on_batch(x, y)

    def several() -> Any:
        """Steps that end with the one that updates."""
        for _ in range(ACCUMULATED):
            output = model.train_on_batch(x, y)
        return output

    return several


def count_flops(tf: Any, model: Any, inputs: list[Any]) -> int:  # pragma: no cover
    """TensorFlow's own count of one inference's floating-point operations."""
    v1 = tf.compat.v1
    function = tf.function(lambda *x: model(list(x) if len(x) > 1 else x[0], training=False))
    graph = function.get_concrete_function(*inputs).graph
    options = v1.profiler.ProfileOptionBuilder(v1.profiler.ProfileOptionBuilder.float_operation())
    counted = v1.profiler.profile(graph, options=options.with_empty_output().build())
    return int(counted.total_float_ops)
