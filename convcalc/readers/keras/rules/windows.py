"""Convolutions, pooling, padding, cropping and resizing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convcalc.ops import convolution as conv
from convcalc.ops import pooling
from convcalc.ops import shape as shapes
from convcalc.ops.base import Operator
from convcalc.readers.keras.arguments import Ref
from convcalc.readers.keras.build import Call, Rule


def settings(c: Call) -> dict[str, Any]:
    """What every convolution has, transposed or not."""
    return {
        "filters": c.whole("filters"),
        "kernel": c.need("kernel_size"),
        "stride": c.get("strides", 1),
        "padding": c.padding,
        "dilation": c.get("dilation_rate", 1),
        "groups": c.get("groups", 1),
        "bias": c.get("use_bias", True),
        "channels_first": c.first,
    }


def convolution(c: Call) -> list[Ref]:
    return c.activated(c.emit(conv.Conv(**settings(c))))


def depthwise(c: Call) -> list[Ref]:
    return c.activated(c.emit(depthwise_operator(c, c.get("use_bias", True))))


def depthwise_operator(c: Call, bias: bool) -> conv.DepthwiseConv:
    return conv.DepthwiseConv(
        kernel=c.need("kernel_size"),
        multiplier=c.get("depth_multiplier", 1),
        stride=c.get("strides", 1),
        padding=c.padding,
        dilation=c.get("dilation_rate", 1),
        bias=bias,
        channels_first=c.first,
    )


def separable(c: Call) -> list[Ref]:
    """Each channel on its own, then a 1x1 convolution that mixes them."""
    middle = c.emit(depthwise_operator(c, False), suffix="depthwise")
    mixing = conv.Conv(
        filters=c.whole("filters"), kernel=1, bias=c.get("use_bias", True), channels_first=c.first
    )
    return c.activated(c.emit(mixing, [middle]))


def transposed(c: Call) -> list[Ref]:
    operator = conv.ConvTranspose(**settings(c), output_padding=c.get("output_padding"))
    return c.activated(c.emit(operator))


def pool(cls: Callable[..., Operator]) -> Rule:
    return lambda c: [
        c.emit(
            cls(
                kernel=c.get("pool_size", 2),
                stride=c.get("strides"),
                padding=c.padding,
                channels_first=c.first,
            )
        )
    ]


def global_pool(kind: str) -> Rule:
    return lambda c: [
        c.emit(
            pooling.GlobalPool(kind=kind, keepdims=c.get("keepdims", False), channels_first=c.first)
        )
    ]


def adaptive_pool(kind: str) -> Rule:
    return lambda c: [
        c.emit(
            pooling.AdaptivePool(output=c.need("output_size"), kind=kind, channels_first=c.first)
        )
    ]


def sided(cls: Callable[..., Operator], key: str) -> Rule:
    """Padding and cropping, which in 1D write one pair instead of a list of pairs."""

    def rule(c: Call) -> list[Ref]:
        amount = c.need(key)
        if c.type.endswith("1D") and isinstance(amount, tuple) and len(amount) == 2:
            amount = (amount,)
        return [c.emit(cls(amount, c.first))]

    return rule


def up_sampling(c: Call) -> list[Ref]:
    size, method = c.get("size", 2), c.get("interpolation", "nearest")
    return [c.emit(shapes.Upsample(size, method, c.first))]


def resizing(c: Call) -> list[Ref]:
    size = c.get("size") or (c.whole("height"), c.whole("width"))
    return [c.emit(shapes.Resize(size, c.get("interpolation", "bilinear"), c.first))]


RULES: dict[str, Rule] = {
    **{f"Conv{rank}D": convolution for rank in (1, 2, 3)},
    **{f"Convolution{rank}D": convolution for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": depthwise for rank in (1, 2)},
    **{f"SeparableConv{rank}D": separable for rank in (1, 2)},
    **{f"Conv{rank}DTranspose": transposed for rank in (1, 2, 3)},
    **{f"MaxPooling{rank}D": pool(pooling.MaxPool) for rank in (1, 2, 3)},
    **{f"AveragePooling{rank}D": pool(pooling.AveragePool) for rank in (1, 2, 3)},
    # `keras.ops` in a functional model.
    "MaxPool": pool(pooling.MaxPool),
    "AveragePool": pool(pooling.AveragePool),
    **{f"GlobalAveragePooling{rank}D": global_pool("average") for rank in (1, 2, 3)},
    **{f"GlobalMaxPooling{rank}D": global_pool("max") for rank in (1, 2, 3)},
    **{f"AdaptiveAveragePooling{rank}D": adaptive_pool("average") for rank in (1, 2, 3)},
    **{f"AdaptiveMaxPooling{rank}D": adaptive_pool("max") for rank in (1, 2, 3)},
    **{f"ZeroPadding{rank}D": sided(shapes.Pad, "padding") for rank in (1, 2, 3)},
    **{f"Cropping{rank}D": sided(shapes.Crop, "cropping") for rank in (1, 2, 3)},
    **{f"UpSampling{rank}D": up_sampling for rank in (1, 2, 3)},
    "Resizing": resizing,
    "CenterCrop": resizing,
    "Resize": resizing,
}  # fmt: skip
