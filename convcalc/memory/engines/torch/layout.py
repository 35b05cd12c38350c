"""How a network's tensors lie in PyTorch: what its user would have written decides some copies.

Images stand channels first, whatever the network has.  A tensor that the network has channels last
and PyTorch channels first is called moved; an operator that reads the network's order gets a
permuted view of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from convcalc.network import Network, Op
from convcalc.ops.base import axis_of
from convcalc.ops.window import Slide, ceil_output_size, output_size
from convcalc.tensors import TensorSpec

#: Operators that read images with their channels first and write them so.
IMAGES = (
    *("conv", "depthwise_conv", "conv_transpose", "max_pool", "average_pool", "lp_pool"),
    *("global_pool", "adaptive_pool", "pad", "crop", "upsample", "resize", "space_to_depth"),
    *("depth_to_space", "channel_shuffle"),
)
#: Operators that work along one axis, which PyTorch wants in the channels' place.
ALONG = ("batch_norm", "group_norm", "prelu")
#: Operators that read axes in the network's order.
IN_ORDER = (
    *("dense", "matmul", "attention", "scaled_dot_product", "embedding", "dot", "layer_norm"),
    *("rms_norm", "reshape", "permute", "repeat", "expand_dims", "squeeze", "constant", "reduce"),
)
#: Operators for which the order of the features within a sample does not matter.
ORDERLESS = (
    *("dense", "batch_norm", "activation", "dropout", "identity", "function", "cast", "noise"),
    *("add", "multiply", "subtract", "divide", "maximum", "minimum", "average", "rescale"),
)


class Layout:
    """Which tensors are moved, and which operators read them so."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.readers: dict[str, list[Op]] = {}
        for op in network.ops:
            for name in op.inputs:
                self.readers.setdefault(name, []).append(op)
        self.moved: set[str] = set()
        """Tensors with their channels in front that the network has last."""
        self.wanted: dict[str, bool] = {}
        """For each op whether it reads its inputs, and writes its outputs, moved."""
        for name, spec in network.inputs.items():
            if not network.channels_first and len(spec.dims) > 2 and self.is_image(name):
                self.moved.add(name)
        for op in network.ops:
            specs, results = network.specs(op)
            wanted = self.wanted[op.name] = self.wants(op, specs)
            for index, spec in enumerate(results):
                if wanted and spec.known and len(spec.dims) > 2:
                    self.moved.add(op.output(index))

    def is_image(self, name: str) -> bool:
        """Whether a window or a pool reads the tensor, perhaps after work on each element."""
        for op in self.readers.get(name, ()):
            if op.operator.type in (*IMAGES, "batch_norm"):
                return True
            specs, results = self.network.specs(op)
            same = len(results) == 1 and results[0].shape == specs[0].shape
            if same and op.operator.type not in IN_ORDER and self.is_image(op.name):
                return True
        return False

    def wants(self, op: Op, specs: Sequence[TensorSpec]) -> bool:
        """Whether the op reads channels first what the network has channels last."""
        kind = op.operator.type
        held = [
            name in self.moved
            for name, spec in zip(op.inputs, specs, strict=True)
            if spec.known and len(spec.dims) > 2
        ]
        if kind in IN_ORDER or not held:
            return False
        if kind in IMAGES:
            return not op.operator.channels_first  # type: ignore[attr-defined]
        rank = len(specs[0].dims)
        if kind in ALONG and rank > 2:
            axis = getattr(op.operator, "axis", None)
            if axis is not None and axis_of(axis, rank) == rank - 1:
                return True
            return held[0] if axis is None else False
        if kind == "flatten":
            behind = self.readers.get(op.name, [])
            return held[0] and all(reader.operator.type in ORDERLESS for reader in behind)
        # Element by element: as it comes; tensors of different rank go together in order only.
        return any(held) and len({len(spec.dims) for spec in specs}) == 1


def apart(slides: Sequence[Slide]) -> tuple[list[int], list[int] | None]:
    """Padding for PyTorch: on both sides of each axis, and for `F.pad` where the sides differ."""
    if all(slide.before == slide.after for slide in slides):
        return [slide.before for slide in slides], None
    # F.pad starts with the last axis.
    extra = [n for slide in reversed(slides) for n in (slide.before, slide.after)]
    return [0] * len(slides), extra


def pool_mode(slides: Sequence[Slide], inclusive: bool) -> tuple[tuple[int, ...], bool] | None:
    """(padding, ceil_mode) with which PyTorch's pool stands in the same places; None: it cannot.

    A last window that reaches beyond the input, as TensorFlow's SAME has it, is what `ceil_mode`
    allows.  `inclusive`: the padding counts, so both sides must have their own.
    """
    before = tuple(slide.before for slide in slides)
    if any(slide.before > slide.kernel // 2 for slide in slides):
        return None
    if inclusive and any(slide.before != slide.after for slide in slides):
        return None
    for ceil, places in ((False, output_size), (True, ceil_output_size)):
        if all(
            s.output == places(s.size, s.kernel, s.stride, s.dilation, s.before, s.before)
            for s in slides
        ):
            return before, ceil
    return None


def transposed_directly(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    found: Sequence[tuple[int, int]],
) -> tuple[int, ...] | None:
    """The output_padding with which a transposed convolution crops by itself; None: it cannot.

    `found` holds (output positions, positions cropped in front) for each axis.
    """
    extra = tuple(
        size - ((n - 1) * s + d * (k - 1) + 1) + 2 * crop
        for n, s, d, k, (size, crop) in zip(sizes, stride, dilation, kernel, found, strict=True)
    )
    direct = all(0 <= e < max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True))
    return extra if direct else None
