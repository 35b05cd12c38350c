"""Formulas take NumPy int64 arrays of sizes: many configurations at once give what each gives."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convcalc.errors import ModelError, ShapeError
from convcalc.network import Network, Op
from convcalc.ops import create, operators
from convcalc.tensors import TensorSpec

#: One size of an axis that may vary, as many as there are configurations.
Sizes = list[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Example:
    """An operator and how its inputs follow from two sizes h and w."""

    type: str
    attributes: dict[str, Any]
    inputs: Callable[[Any, Any], list[tuple[Any, ...]]]


def image(h: Any, w: Any) -> list[tuple[Any, ...]]:
    return [(1, h, w, 12)]


def image_first(h: Any, w: Any) -> list[tuple[Any, ...]]:
    return [(1, 12, h, w)]


def two_images(h: Any, w: Any) -> list[tuple[Any, ...]]:
    return [(1, h, w, 12), (1, h, w, 12)]


def tokens(h: Any, w: Any) -> list[tuple[Any, ...]]:
    return [(1, h, 12)]


#: At least one example of every registered operator whose sizes may vary.
EXAMPLES = [
    *(
        Example("conv", {"filters": 8, "kernel": [3, 2], "stride": [2, 3], **more}, image)
        for more in (
            {"padding": "same"},
            {"padding": "same_lower", "groups": 4},
            {"padding": "valid", "dilation": [1, 2]},
            {"padding": "causal"},
            {"padding": 2, "bias": False},
            {"padding": [[0, 3], [1, 2]]},
        )
    ),
    Example("conv", {"filters": 8, "kernel": 3, "channels_first": True}, image_first),
    Example("conv", {"filters": 8, "kernel": 3}, lambda h, w: [(1, h, w, 12), (3, 3, 12, 8), (8,)]),
    Example("depthwise_conv", {"kernel": 3, "multiplier": 2, "padding": "same"}, image),
    Example(
        "conv_transpose", {"filters": 8, "kernel": 3}, lambda h, w: [(1, h, w, 2), (3, 3, 8, 2)]
    ),
    *(
        Example("conv_transpose", {"filters": 8, "kernel": [3, 5], "stride": [4, 2], **more}, image)
        for more in (
            {"padding": "same"},
            {"padding": "valid"},
            {"padding": "same_lower", "groups": 2},
            {"padding": 1, "output_padding": 1},
            {"padding": "same", "output_padding": 1},
            {"padding": "same", "output_shape": [5, 80]},
        )
    ),
    *(
        Example(kind, {"kernel": 3, "stride": 2, **more}, image)
        for kind in ("max_pool", "average_pool", "lp_pool")
        for more in ({"padding": "same"}, {"padding": 1, "ceil_mode": True}, {"dilation": 2})
    ),
    Example("global_pool", {"keepdims": True}, image),
    Example("global_pool", {"kind": "max"}, image),
    Example("adaptive_pool", {"output": [3, None]}, image),
    Example("dense", {"units": 7}, image),
    Example("dense", {"units": 7}, lambda h, w: [(1, h)]),
    Example("matmul", {}, lambda h, w: [(1, 3, h, w), (1, 3, w, h)]),
    Example("matmul", {"transpose_b": True}, lambda h, w: [(1, h, w), (1, 4, w)]),
    Example("attention", {"heads": 2, "key_dim": 6}, tokens),
    Example("attention", {"heads": 2, "key_dim": 6}, lambda h, w: [(1, h, 12), (1, w, 12)]),
    Example("attention", {"heads": 4, "key_dim": 3, "kv_heads": 2}, image),
    Example(
        "scaled_dot_product", {}, lambda h, w: [(1, 4, h, 8), (1, 4, w, 8), (1, 4, w, 6), (h, w)]
    ),
    Example("scaled_dot_product", {}, lambda h, w: [(1, 4, h, 8), (1, 2, w, 8), (1, 2, w, 6)]),
    Example("embedding", {"rows": 9, "width": 4}, lambda h, w: [(1, h)]),
    Example("dot", {"axes": [1, 1]}, lambda h, w: [(1, h, 3), (1, h, 4)]),
    *(Example("activation", {"function": f}, image) for f in ("relu", "softmax", "gelu")),
    Example("activation", {"function": "glu"}, image),
    Example("activation", {"function": "glu"}, lambda h, w: [(1, 2 * h)]),
    Example("prelu", {}, image),
    Example("prelu", {"shared_axes": [1, 2]}, image),
    *(Example(kind, {}, image) for kind in ("dropout", "noise", "identity", "rescale")),
    Example("cast", {"dtype": "float16"}, image),
    Example("function", {"name": "exp"}, image),
    *(
        Example(kind, {}, two_images)
        for kind in (
            "add",
            "subtract",
            "multiply",
            "divide",
            "maximum",
            "minimum",
            "average",
            "power",
        )
    ),
    Example("add", {}, lambda h, w: [(1, h, w, 4), (1, 1, 1, 4)]),
    Example("multiply", {}, lambda h, w: [(1, 1, 1, 4), (1, h, w, 4)]),
    Example("add", {}, lambda h, w: [(1, h, w, 4), (w, 1)]),
    Example("combine", {"name": "less", "dtype": "bool"}, two_images),
    Example("concat", {}, two_images),
    Example("concat", {"axis": 1}, lambda h, w: [(1, h, w, 4), (1, w, w, 4), (1, 5, w, 4)]),
    Example("batch_norm", {}, image),
    Example("batch_norm", {"axis": 1}, image_first),
    Example("layer_norm", {}, image),
    Example("layer_norm", {"axes": [1, 2, 3]}, image),
    Example("group_norm", {"groups": 4}, image),
    Example("rms_norm", {}, image),
    Example("unit_norm", {}, image),
    Example("standardize", {}, image),
    Example("scale", {}, image),
    Example("spectral_norm", {"width": 3}, image),
    *(
        Example("recurrent", {"cell": cell, "units": 5, "sequences": True}, tokens)
        for cell in ("lstm", "gru", "simple")
    ),
    Example(
        "recurrent", {"cell": "lstm", "units": 5, "second_bias": True}, lambda h, w: [(w, h, 4)]
    ),
    Example(
        "recurrent", {"cell": "lstm", "units": 5, "state": True}, lambda h, w: [(1, h, w), (1, 5)]
    ),
    Example(
        "conv_recurrent",
        {"filters": 3, "kernel": 3, "stride": 2, "padding": "same", "state": True},
        lambda h, w: [(1, 5, h, w, 4)],
    ),
    Example(
        "conv_recurrent",
        {"filters": 3, "kernel": 2, "sequences": True, "channels_first": True},
        lambda h, w: [(1, h, 4, w, w)],
    ),
    Example("flatten", {}, image),
    Example("reshape", {"shape": [-1, 12]}, image),
    Example("reshape", {"shape": [1, -1, 6], "whole": True}, image),
    Example("permute", {"order": [0, 3, 1, 2]}, image),
    Example("permute", {"order": [1, 0, 2, 3]}, image),
    Example("repeat", {"times": 3}, lambda h, w: [(1, h)]),
    Example("expand_dims", {"axis": 1}, image),
    Example("squeeze", {"axes": [2]}, lambda h, w: [(1, h, 1, w)]),
    Example("squeeze", {}, lambda h, w: [(1, h + 1, 1, w + 1)]),
    Example("slice", {"axis": 1, "size": 2, "start": 1, "step": 2}, lambda h, w: [(1, h + 4, w)]),
    Example("split", {"sizes": [4, 8]}, image),
    Example("pad", {"padding": [[0, 1], [2, 3]]}, image),
    Example("crop", {"cropping": 1}, lambda h, w: [(1, h + 2, w + 2, 3)]),
    Example("upsample", {"factor": [2, 3], "interpolation": "bilinear"}, image),
    Example("resize", {"size": [16, 24]}, image),
    Example("resize", {"size": [16, 24], "interpolation": "nearest"}, image),
    Example("space_to_depth", {"block": 2}, lambda h, w: [(1, 2 * h, 2 * w, 3)]),
    Example("depth_to_space", {"block": 2}, image),
    Example("channel_shuffle", {"groups": 3}, image),
    *(
        Example("reduce", {"kind": kind, "axes": axes, "keepdims": keep}, image)
        for kind, axes, keep in (
            ("mean", [1, 2], True),
            ("argmax", -1, False),
            ("sum", None, False),
        )
    ),
    Example("gather", {"shape": [1, 3, 4], "dtype": "int64"}, two_images),
    Example("gather", {"shape": [3, 4], "batch_axis": None}, lambda h, w: [(h, w)]),
    Example("opaque", {"name": "Unknown", "shapes": [[3, 4], None]}, image),
    Example("opaque", {"name": "Unknown", "shapes": [[1, 3, 4]], "whole": True}, image),
    Example("constant", {"shape": [3, 4], "stored": True}, lambda h, w: []),
]


def everything(example: Example, h: Any, w: Any) -> dict[str, Any]:
    """All that an operator says of its inputs, as a flat dictionary."""
    kind = create(example.type, example.attributes)
    inputs = [TensorSpec(shape) for shape in example.inputs(h, w)]
    outputs = kind.outputs(*inputs)
    said: dict[str, Any] = {
        "macs": kind.macs(inputs, list(outputs)),
        "elementwise": kind.elementwise(inputs, list(outputs)),
    }
    for i, spec in enumerate(outputs):
        said[f"dtype {i}"], said[f"batch {i}"] = spec.dtype, spec.batch_axis
        if spec.known:
            said[f"elements {i}"] = spec.elements
            said[f"bytes {i}"] = spec.bytes_at(7, 4)
            said.update({f"size {i}.{j}": size for j, size in enumerate(spec.dims)})
    for param in kind.params(*inputs):
        said[f"trainable {param.name}"] = param.trainable
        said.update({f"{param.name}.{j}": size for j, size in enumerate(param.shape)})
    for i, views in enumerate(kind.views(inputs, list(outputs))):
        for j, view in enumerate(views):
            said[f"view {i}.{j}"] = view is None
            if view is not None:
                said.update({f"view {i}.{j} {key}": v for key, v in view._asdict().items()})
    return said


def at(value: Any, index: int) -> Any:
    """The value of one configuration."""
    return value[index].item() if isinstance(value, np.ndarray) else value


def test_every_operator_has_an_example() -> None:
    assert {example.type for example in EXAMPLES} == set(operators())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.type}-{e.attributes}"[:60])
@settings(max_examples=15)
@given(
    sizes=st.lists(
        st.tuples(st.integers(5, 40), st.integers(5, 40)), min_size=1, max_size=6, unique=True
    )
)
def test_arrays_give_what_each_size_gives(example: Example, sizes: Sizes) -> None:
    h, w = (np.array(column, dtype=np.int64) for column in zip(*sizes, strict=True))
    together = everything(example, h, w)
    for i, (height, width) in enumerate(sizes):
        alone = everything(example, height, width)
        # A broadcast axis or a resize may be seen in another, coarser way for many sizes at once.
        for key in alone.keys() & together.keys():
            if not key.startswith("view"):
                assert at(together[key], i) == alone[key], (key, height, width)
        plain = {key for key in alone if not key.startswith("view")}
        assert plain == {key for key in together if not key.startswith("view")}


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("conv", {"filters": 64, "kernel": 3}),
        ("depthwise_conv", {"kernel": 3}),
        ("conv_transpose", {"filters": 64, "kernel": 3}),
        ("dense", {"units": 64}),
        ("attention", {"heads": 2, "key_dim": 8}),
    ],
)
def test_overflow_of_arrays_is_an_error(kind: str, attributes: dict[str, Any]) -> None:
    operator = create(kind, attributes)
    side = np.array([8, 2**31], dtype=np.int64)
    x = TensorSpec((1, side, side, 64))
    with pytest.raises(OverflowError, match=r"2\^63"):
        operator.macs([x], list(operator.outputs(x)))


def test_resize_by_whole_factors_views_as_each_size_does() -> None:
    for method in ("nearest", "bilinear"):
        example = Example("resize", {"size": [16, 24], "interpolation": method}, image)
        h, w = np.array([4, 8, 16, 2]), np.array([3, 8, 24, 12])
        together = everything(example, h, w)
        for i in range(4):
            alone = everything(example, h[i].item(), w[i].item())
            assert {key: at(value, i) for key, value in together.items()} == alone


def test_squeeze_refuses_an_axis_that_goes_in_some_configurations_only() -> None:
    with pytest.raises(ShapeError, match="some configurations"):
        create("squeeze", {}).outputs(TensorSpec((1, np.array([1, 2]), 5)))


def test_broadcast_may_differ_between_configurations() -> None:
    (made,) = create("add", {}).outputs(
        TensorSpec((1, np.array([1, 4, 4]))), TensorSpec((1, np.array([3, 1, 4])))
    )
    assert made.dims[1].tolist() == [3, 4, 4]
    with pytest.raises(ShapeError, match="do not go together"):
        create("add", {}).outputs(TensorSpec((1, np.array([2, 4]))), TensorSpec((1, 3)))


def test_shared_weights_on_arrays() -> None:
    sizes = np.array([3, 4])
    dense = create("dense", {"units": 2})
    ops = (Op("a", dense, ("x",), weights="w"), Op("b", dense, ("z",), weights="w"))
    shapes = {"x": TensorSpec((1, sizes)), "z": TensorSpec((1, sizes.copy()))}
    net = Network("n", ops, shapes, ("a", "b"))
    assert net.params["w"][0].shape[0].tolist() == [3, 4]
    with pytest.raises(ModelError, match="differ in shape"):
        Network("n", ops, {**shapes, "z": TensorSpec((1, sizes + 1))}, ("a", "b"))


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("upsample", {"factor": 4}),
        ("conv_transpose", {"filters": 1, "kernel": 3, "stride": 4}),
        ("space_to_depth", {"block": 4}),
    ],
)
def test_sizes_of_arrays_overflow(kind: str, attributes: dict[str, Any]) -> None:
    huge = np.array([4, 2**62], dtype=np.int64)
    with pytest.raises(OverflowError):
        create(kind, attributes).outputs(TensorSpec((1, huge, 4, huge)))


def test_concatenated_arrays_overflow() -> None:
    huge = TensorSpec((1, np.array([4, 2**62], dtype=np.int64)))
    with pytest.raises(OverflowError):
        create("concat", {}).outputs(huge, huge)


def test_elements_of_an_array_overflow() -> None:
    side = np.array([2**32], dtype=np.int64)
    with pytest.raises(OverflowError):
        _ = TensorSpec((1, side, side)).elements


def test_a_kernel_too_large_for_one_of_the_sizes_is_an_error() -> None:
    conv = create("conv", {"filters": 1, "kernel": 5})
    with pytest.raises(ShapeError, match="does not fit"):
        conv.outputs(TensorSpec((1, np.array([9, 4]), 9, 1)))
