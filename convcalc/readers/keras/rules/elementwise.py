"""Activations, normalization, dropout, and layers in which branches meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convcalc.ops import activation as act
from convcalc.ops import merge, opaque
from convcalc.ops import normalization as norm
from convcalc.ops.base import Operator
from convcalc.readers.keras.arguments import Ref
from convcalc.readers.keras.build import Call, Rule, activate
from convcalc.readers.keras.text import MAX_DEPTH


def named(function: str) -> Rule:
    """A layer that is one activation function."""
    return lambda c: [c.emit(act.Activation(function))]


def plain(operator: Operator) -> Rule:
    """A layer without settings."""
    return lambda c: [c.emit(operator)]


def one(value: Any) -> Any:
    """The number in a list of one (Keras 2 writes axis as [3])."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def batch_norm(c: Call) -> list[Ref]:
    axis = one(c.get("axis", -1))
    operator = norm.BatchNorm(
        axis, c.get("scale", True), c.get("center", True), renorm=bool(c.get("renorm", False))
    )
    return [c.emit(operator)]


def layer_norm(c: Call) -> list[Ref]:
    axes = c.get("axis", -1)
    if c.get("rms_scaling", False):
        return [c.emit(norm.RMSNorm(axes))]
    return [c.emit(norm.LayerNorm(axes, c.get("scale", True), c.get("center", True)))]


def group_norm(c: Call) -> list[Ref]:
    axis = one(c.get("axis", -1))
    operator = norm.GroupNorm(
        c.get("groups", 32), axis, c.get("scale", True), c.get("center", True)
    )
    return [c.emit(operator)]


def standardize(c: Call) -> list[Ref]:
    # -1 is Keras' default; an explicit null means one mean for everything.
    axis = c.get("axis") if "axis" in c.config else -1
    return [c.emit(norm.Standardize(axis, c.get("mean") is None))]


def prelu(c: Call) -> list[Ref]:
    shared = c.get("shared_axes", ())
    return [c.emit(act.PRelu(shared if isinstance(shared, tuple) else (shared,)))]


def dropout(c: Call) -> list[Ref]:
    rate = c.get("rate", c.get("drop_path_rate", 0.5))
    return [c.emit(act.Dropout(rate, c.get("noise_shape")))]


def spatial_dropout(c: Call) -> list[Ref]:
    return [c.emit(act.Dropout(c.get("rate", 0.5)))]


def merging(operator: Operator) -> Rule:
    """Branches that meet; numbers and arrays among the arguments are no tensors of the network."""

    def rule(c: Call) -> list[Ref]:
        inputs: list[str] = list(c.inputs)
        numbers = False
        for arg in (*c.args, *c.kwargs.values()):
            if isinstance(arg, dict) and arg.get("class_name") in ("__tensor__", "__numpy__"):
                inputs.append(c.emit(opaque.Constant(extents(arg)), [], "constant"))
            elif isinstance(arg, (int, float)):
                numbers = True
        if len(inputs) == 1 and numbers:
            return [c.emit(act.Function(operator.type))]
        return [c.emit(operator, inputs)]

    return rule


def extents(constant: Mapping[str, Any]) -> tuple[int, ...]:
    """The sizes of a constant written as nested lists."""
    config = constant.get("config")
    inner = config.get("value") if isinstance(config, dict) else None
    found: list[int] = []
    while isinstance(inner, list) and inner and len(found) < MAX_DEPTH:
        found.append(len(inner))
        inner = inner[0]
    return tuple(found)


RULES: dict[str, Rule] = {
    "BatchNormalization": batch_norm,
    "BatchNormalizationV1": batch_norm,
    "SyncBatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    "GroupNormalization": group_norm,
    "RMSNormalization": lambda c: [c.emit(norm.RMSNorm(c.get("axis", -1)))],
    "UnitNormalization": lambda c: [c.emit(norm.UnitNorm(c.get("axis", -1)))],
    "Rescaling": plain(norm.Rescale()),
    "Normalization": standardize,
    "LayerScale": plain(norm.Scale()),
    "Activation": lambda c: [activate(c, c.get("activation", "linear"))],
    "ReLU": named("relu"),
    "LeakyReLU": named("leaky_relu"),
    "ThresholdedReLU": named("threshold"),
    "ELU": named("elu"),
    "Softmax": named("softmax"),
    "PReLU": prelu,
    **dict.fromkeys(("Dropout", "AlphaDropout", "GaussianDropout", "StochasticDepth"), dropout),
    **{f"SpatialDropout{rank}D": spatial_dropout for rank in (1, 2, 3)},
    "GaussianNoise": plain(act.Noise()),
    **{
        kind: plain(act.Identity())
        for kind in (
            "ActivityRegularization", "Identity", "Masking", "RandomBrightness",
            "RandomContrast", "RandomFlip", "RandomHue", "RandomRotation", "RandomSaturation",
            "RandomTranslation", "RandomZoom",
        )
    },
    "Add": merging(merge.Add()),
    # Inception-ResNet's residual sum, one branch scaled by a constant.
    "CustomScaleLayer": plain(merge.Add()),
    "Subtract": merging(merge.Subtract()),
    "Multiply": merging(merge.Multiply()),
    "Divide": merging(merge.Divide()),
    "TrueDivide": merging(merge.Divide()),
    "Power": merging(merge.Power()),
    "Maximum": merging(merge.Maximum()),
    "Minimum": merging(merge.Minimum()),
    "Average": merging(merge.Average()),
    **{
        kind: named(function)
        for kind, function in {
            "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Tanh": "tanh",
            "Silu": "silu", "Gelu": "gelu", "Elu": "elu", "Selu": "selu", "LeakyRelu": "leaky_relu",
            "Softplus": "softplus", "Softsign": "softsign", "HardSigmoid": "hard_sigmoid",
            "HardSilu": "hard_silu", "HardTanh": "hard_tanh", "Celu": "celu", "Glu": "glu",
            "SoftShrink": "soft_shrink", "HardShrink": "hard_shrink", "TanhShrink": "tanh_shrink",
            "Threshold": "threshold", "Squareplus": "squareplus",
            "LogSoftmax": "log_softmax", "LogSigmoid": "log_sigmoid",
        }.items()
    },
    **{
        kind: plain(act.Function(kind.lower()))
        for kind in (
            "Abs", "Absolute", "Arctan", "Ceil", "Clip", "Cos", "Cosh", "Erf", "Exp", "Exp2",
            "Expm1", "Floor", "Log", "Log10", "Log1p", "Log2", "NanToNum", "Negative", "Reciprocal",
            "Round", "Rsqrt", "Sign", "Sin", "Sinh", "Sqrt", "Square", "Tan", "Trunc",
        )
    },
}  # fmt: skip
