"""Bad values are refused in one line that names the op; the registry refuses duplicates."""

import dataclasses
from typing import Any

import pytest

from convcalc.errors import ModelError
from convcalc.network import Network, Op
from convcalc.ops import Operator, create, operators
from convcalc.ops.base import FAMILIES, operator
from convcalc.tensors import TensorSpec

IMAGE = (1, 12, 10, 6)


def unusual(kind: str, key: str, value: Any) -> bool:
    """A stride beyond the input leaves one place, a constant may be a scalar: not wrong."""
    if key == "stride" and kind != "conv_transpose":
        return bool(value == 10**30)
    return kind == "constant" and value == []


def build(kind: str, attributes: dict[str, Any], *shapes: tuple[Any, ...]) -> Network:
    """A network of one op called "it"."""
    inputs = {f"x{i}": TensorSpec(shape) for i, shape in enumerate(shapes or (IMAGE,))}
    op = Op("it", create(kind, attributes), tuple(inputs))
    return Network("n", (op,), inputs, ("it",))


def test_registry_refuses_a_duplicate() -> None:
    with pytest.raises(ValueError, match="'conv' is registered already"):

        @operator("conv")
        class Second(Operator):
            pass

    assert operators()["conv"].__name__ == "Conv"


def test_registry_names_its_classes() -> None:
    for name, cls in operators().items():
        assert cls.type == name
        assert dataclasses.is_dataclass(cls)
        least, most = cls.arity
        assert most is None or least <= most


@pytest.mark.parametrize(
    ("kind", "attributes", "message"),
    [
        ("convv", {}, "unknown operator 'convv'; did you mean 'conv'?"),
        ("zzzzzz", {}, "unknown operator 'zzzzzz'"),
        (
            "conv",
            {"filters": 1, "kernal": 3},
            "'conv' has no attribute 'kernal'; did you mean 'kernel'?",
        ),
        ("conv", {"filters": 1, "kernel": 3, "q": 3}, "'conv' has no attribute 'q'"),
        ("conv", {"filters": 1}, "'conv' needs 'kernel'"),
        ("dense", {}, "'dense' needs 'units'"),
    ],
)
def test_create_says_what_is_wrong(kind: str, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as error:
        create(kind, attributes)
    assert str(error.value) == message


def test_create_refuses_endless_lists() -> None:
    nested: list[Any] = []
    for _ in range(100):
        nested = [nested]
    with pytest.raises(ModelError, match="nested too deeply"):
        create("conv", {"filters": 1, "kernel": nested})


#: Operators with attributes that must be positive integers, and an input that suits them.
COUNTED: list[tuple[str, dict[str, Any], tuple[str, ...], tuple[tuple[int, ...], ...]]] = [
    (
        "conv",
        {"filters": 4, "kernel": 3},
        ("filters", "kernel", "stride", "dilation", "groups"),
        (IMAGE,),
    ),
    ("depthwise_conv", {"kernel": 3}, ("kernel", "stride", "dilation", "multiplier"), (IMAGE,)),
    (
        "conv_transpose",
        {"filters": 4, "kernel": 3},
        ("filters", "kernel", "stride", "dilation", "groups"),
        (IMAGE,),
    ),
    ("max_pool", {"kernel": 2}, ("kernel", "stride", "dilation"), (IMAGE,)),
    ("average_pool", {"kernel": 2}, ("kernel", "stride", "dilation"), (IMAGE,)),
    ("lp_pool", {"kernel": 2}, ("kernel", "stride", "dilation"), (IMAGE,)),
    ("adaptive_pool", {"output": 2}, ("output",), (IMAGE,)),
    ("dense", {"units": 4}, ("units",), (IMAGE,)),
    (
        "attention",
        {"heads": 2, "key_dim": 4},
        ("heads", "key_dim", "value_dim", "kv_heads", "output_dim"),
        ((1, 5, 8),),
    ),
    ("embedding", {"rows": 4, "width": 3}, ("rows", "width"), ((1, 5),)),
    ("group_norm", {"groups": 2}, ("groups",), (IMAGE,)),
    ("recurrent", {"cell": "lstm", "units": 3}, ("units",), ((1, 5, 8),)),
    ("repeat", {"times": 3}, ("times",), ((1, 5),)),
    ("slice", {"axis": 1, "size": 2}, ("size",), (IMAGE,)),
    ("upsample", {"factor": 2}, ("factor",), (IMAGE,)),
    ("resize", {"size": 4}, ("size",), (IMAGE,)),
    ("space_to_depth", {"block": 2}, ("block",), (IMAGE,)),
    ("depth_to_space", {"block": 1}, ("block",), (IMAGE,)),
    ("channel_shuffle", {"groups": 2}, ("groups",), (IMAGE,)),
    ("spectral_norm", {"width": 2}, ("width",), (IMAGE,)),
    ("reshape", {"shape": [720]}, ("shape",), (IMAGE,)),
    ("split", {"sizes": [2, 4]}, ("sizes",), (IMAGE,)),
    ("permute", {"order": [0, 2, 1, 3]}, ("order",), (IMAGE,)),
    ("expand_dims", {"axis": 1}, ("axis",), (IMAGE,)),
    ("pad", {"padding": 1}, ("padding",), (IMAGE,)),
    ("crop", {"cropping": 1}, ("cropping",), (IMAGE,)),
    ("gather", {"shape": [1, 2]}, ("shape",), (IMAGE,)),
    ("constant", {"shape": [2]}, ("shape",), ()),
]

WRONG = (0, -1, True, "3", 2.0, 10**30, [], [[]], {})
#: What is right for some attributes.
RIGHT = {
    ("group_norm", "groups", -1),
    ("expand_dims", "axis", 0),
    ("expand_dims", "axis", -1),
    ("pad", "padding", 0),
    ("crop", "cropping", 0),
}


@pytest.mark.parametrize(
    ("kind", "good", "key", "shapes"),
    [
        pytest.param(kind, good, key, shapes, id=f"{kind}-{key}")
        for kind, good, keys, shapes in COUNTED
        for key in keys
    ],
)
def test_values_that_are_no_counts(
    kind: str, good: dict[str, Any], key: str, shapes: tuple[tuple[int, ...], ...]
) -> None:
    inputs = {f"x{i}": TensorSpec(shape) for i, shape in enumerate(shapes)} or {
        "x": TensorSpec((1, 2))
    }
    reads = tuple(inputs) if shapes else ()

    def make(attributes: dict[str, Any]) -> Network:
        return Network("n", (Op("it", create(kind, attributes), reads),), inputs, ("it",))

    make(good)
    for value in WRONG:
        plain = type(value) is int and (kind, key, value) in RIGHT
        if plain or unusual(kind, key, value):
            make({**good, key: value})
            continue
        with pytest.raises(ModelError) as error:
            make({**good, key: value})
        said = str(error.value)
        assert "\n" not in said
        assert "'it'" in said, (value, said)
        assert len(said) < 250, said
        assert "object" not in said, (value, said)


@pytest.mark.parametrize(
    ("kind", "attributes", "shapes", "says"),
    [
        (
            "conv",
            {"filters": 4, "kernel": 13},
            (),
            "a kernel of 13 (dilation included) does not fit an input of 12",
        ),
        ("conv", {"filters": 4, "kernel": 3, "groups": 4}, (), "4 groups do not divide 6 input"),
        ("conv", {"filters": 4, "kernel": 3, "groups": 3}, (), "3 groups do not divide 4 filters"),
        ("conv", {"filters": 4, "kernel": [3, 3, 3]}, (), "kernel has 3 values for 2 axes"),
        ("conv", {"filters": 4, "kernel": 3, "padding": "smae"}, (), "padding 'smae' is none of"),
        ("conv", {"filters": 4, "kernel": 3, "padding": -1}, (), "is negative"),
        ("conv", {"filters": 4, "kernel": 3, "padding": [1, 2, 3]}, (), "does not name 2 axes"),
        ("conv", {"filters": 4, "kernel": 3}, ((1, 5),), "needs an input of at least 3 axes"),
        ("conv", {"filters": 10**30, "kernel": 3}, (), "more than 2^63 - 1 elements"),
        ("max_pool", {"kernel": 13}, (), "does not fit an input of 12"),
        ("conv_transpose", {"filters": 4, "kernel": 1, "padding": 9}, (), "leaves -6 positions"),
        (
            "conv_transpose",
            {"filters": 4, "kernel": 3, "stride": 2, "output_padding": 2},
            (),
            "output_padding 2 must be below stride 2",
        ),
        (
            "conv_transpose",
            {"filters": 4, "kernel": 3, "padding": "causal"},
            (),
            "has no padding 'causal'",
        ),
        ("dense", {"units": 4}, ((5,),), "at least 2 axes"),
        ("reshape", {"shape": [7, -1]}, (), "cannot reshape"),
        ("reshape", {"shape": [-1, -1]}, (), "at most one -1"),
        ("permute", {"order": [0, 1, 1, 2]}, (), "does not name the 4 axes once each"),
        ("crop", {"cropping": 6}, (), "nothing of"),
        ("space_to_depth", {"block": 5}, (), "blocks of 5 do not divide 12"),
        ("depth_to_space", {"block": 2}, (), "6 channels do not make blocks of 4"),
        ("channel_shuffle", {"groups": 4}, (), "4 groups do not divide 6 channels"),
        ("group_norm", {"groups": 4}, (), "4 groups do not divide 6 channels"),
        ("activation", {"function": "rellu"}, (), "did you mean 'relu'?"),
        ("cast", {"dtype": "flaot16"}, (), "did you mean 'float16'?"),
        ("matmul", {}, ((1, 2, 3), (1, 4, 5)), "3 is not 4"),
        ("add", {}, ((1, 2, 3), (1, 2, 4)), "1x2x3 and 1x2x4 do not go together"),
        ("concat", {}, ((1, 2, 3), (1, 4, 3)), "cannot concatenate 1x2x3 and 1x4x3 along axis 2"),
        ("concat", {}, ((1, 2, 3), (1, 2)), "cannot concatenate 1x2x3 and 1x2 along axis 2"),
        ("squeeze", {"axes": 1}, (), "its size is not 1"),
        ("split", {"sizes": [2, 2]}, (), "do not add up to axis 3"),
        ("slice", {"axis": 1, "size": 13}, (), "leaves axis 1"),
        ("dot", {"axes": [1, 1]}, ((1, 2, 3), (1, 4, 3)), "cannot sum axis 1"),
        ("dot", {"axes": [1, 2, 3]}, ((1, 2), (1, 2)), "must name one axis of each input"),
        ("batch_norm", {"axis": 4}, (), "axis 4 is outside the 4 axes"),
        ("recurrent", {"cell": "lsmt", "units": 3}, ((1, 5, 8),), "cell 'lsmt' is none of"),
        ("global_pool", {"kind": "avg"}, (), "kind 'avg' is none of"),
        ("dense", {"units": 4}, (IMAGE, IMAGE), "takes 1 inputs, not 2"),
        ("combine", {"name": "less", "dtype": "boool"}, (), "did you mean 'bool'?"),
        ("gather", {"shape": [1, 2], "dtype": "int65"}, (), "did you mean 'int64'?"),
        ("gather", {"shape": [1, 2], "batch_axis": 2}, (), "axis 2 is outside the 2 axes"),
        ("scaled_dot_product", {}, ((1, 4, 8), (1, 5, 7), (1, 5, 8)), "different widths"),
        ("scaled_dot_product", {}, ((1, 4, 8), (1, 5, 8), (1, 6, 8)), "different lengths"),
    ],
)
def test_what_does_not_fit_is_said(
    kind: str, attributes: dict[str, Any], shapes: tuple[tuple[int, ...], ...], says: str
) -> None:
    with pytest.raises(ModelError) as error:
        build(kind, attributes, *shapes)
    said = str(error.value)
    assert says in said
    assert said.startswith("'it'")
    assert "\n" not in said


@pytest.mark.parametrize("size", [0, -3, True, "4", 2.5, 10**30, None])
def test_input_sizes(size: Any) -> None:
    with pytest.raises(ModelError, match="input 'x0'"):
        build("identity", {}, (1, size, 3))


def test_every_operator_is_found_without_importing_all() -> None:
    listed = {name: family for family, names in FAMILIES.items() for name in names}
    found = {name: cls.__module__.rpartition(".")[2] for name, cls in operators().items()}
    assert found == listed
