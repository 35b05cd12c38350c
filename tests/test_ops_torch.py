"""Shapes and multiplications against PyTorch: meta tensors and its own FlopCounterMode."""

import random
from typing import Any

import pytest

from convcalc.network import Network, Op
from convcalc.ops import create
from convcalc.tensors import TensorSpec

torch = pytest.importorskip("torch")

SIZES = range(5, 24)


def single(name: str, shape: tuple[int, ...], **attributes: Any) -> Network:
    """A network of one operator, channels first as PyTorch has them."""
    operator = create(name, {"channels_first": True, **attributes})
    op = Op("y", operator, ("x",))
    return Network(name, (op,), {"x": TensorSpec(shape)}, ("y",), "channels_first")


def agree(net: Network, layer: Any, shape: tuple[int, ...]) -> None:
    """Output shape, parameters and multiplications are PyTorch's."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        made = layer(torch.empty(shape, device="meta"))
    assert net.tensors["y"].shape == tuple(made.shape), f"{layer} on {shape}"
    (op,) = net.ops
    assert 2 * op.operator.macs(*net.specs(op)) == counter.get_total_flops(), f"{layer} on {shape}"
    ours = sorted(torch.Size(p.shape).numel() for p in net.params["y"] if p.trainable)
    assert ours == sorted(p.numel() for p in layer.parameters()), f"{layer}"


def numbers(rng: random.Random, rank: int, most: int, least: int = 1) -> tuple[int, ...]:
    return tuple(rng.randint(least, most) for _ in range(rank))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_convolutions(rank: int, seed: int) -> None:
    rng = random.Random(f"conv {rank} {seed}")
    cls = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[rank - 1]
    done = 0
    while done < 40:
        groups = rng.choice((1, 2, 3, 4))
        channels, filters = groups * rng.randint(1, 3), groups * rng.randint(1, 3)
        shape = (1, channels, *(rng.choice(SIZES) for _ in range(rank)))
        kernel, stride, dilation = (numbers(rng, rank, most) for most in (5, 4, 3))
        pad = numbers(rng, rank, 3, 0)
        room = zip(shape[2:], pad, kernel, dilation, strict=True)
        if any(n + 2 * p < d * (k - 1) + 1 for n, p, k, d in room):
            continue
        bias = rng.random() < 0.5
        layer = cls(channels, filters, kernel, stride, pad, dilation, groups, bias, device="meta")
        net = single(
            "conv",
            shape,
            filters=filters,
            kernel=kernel,
            stride=stride,
            padding=pad,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )
        agree(net, layer, shape)
        done += 1


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_depthwise_convolutions(rank: int) -> None:
    rng = random.Random(f"depthwise {rank}")
    cls = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[rank - 1]
    for _ in range(30):
        channels, multiplier = rng.randint(1, 6), rng.randint(1, 4)
        shape = (1, channels, *(rng.choice(SIZES) for _ in range(rank)))
        kernel, stride = numbers(rng, rank, 5), numbers(rng, rank, 3)
        layer = cls(channels, channels * multiplier, kernel, stride, groups=channels, device="meta")
        net = single("depthwise_conv", shape, multiplier=multiplier, kernel=kernel, stride=stride)
        agree(net, layer, shape)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_transposed_convolutions(rank: int, seed: int) -> None:
    rng = random.Random(f"transpose {rank} {seed}")
    cls = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)[rank - 1]
    done = 0
    while done < 40:
        groups = rng.choice((1, 2, 3))
        channels, filters = groups * rng.randint(1, 3), groups * rng.randint(1, 3)
        shape = (1, channels, *(rng.choice(SIZES) for _ in range(rank)))
        kernel, stride, dilation = (numbers(rng, rank, most) for most in (5, 4, 3))
        pad = numbers(rng, rank, 2, 0)
        extra = tuple(rng.randrange(max(s, d)) for s, d in zip(stride, dilation, strict=True))
        sizes = zip(shape[2:], kernel, stride, dilation, pad, strict=True)
        if any((n - 1) * s + d * (k - 1) + 1 - 2 * p < 1 for n, k, s, d, p in sizes):
            continue
        layer = cls(
            channels, filters, kernel, stride, pad, extra, groups, True, dilation, device="meta"
        )
        net = single(
            "conv_transpose",
            shape,
            filters=filters,
            kernel=kernel,
            stride=stride,
            padding=pad,
            dilation=dilation,
            groups=groups,
            output_padding=extra,
        )
        agree(net, layer, shape)
        done += 1


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", ["max", "average", "lp"])
def test_pools(rank: int, kind: str) -> None:
    rng = random.Random(f"pool {rank} {kind}")
    name = {"max": "MaxPool", "average": "AvgPool", "lp": "LPPool"}[kind]
    cls = getattr(torch.nn, f"{name}{rank}d")
    done = 0
    while done < 60:
        shape = (1, rng.randint(1, 4), *(rng.choice(SIZES) for _ in range(rank)))
        kernel, stride = numbers(rng, rank, 5), numbers(rng, rank, 4)
        ceil = rng.random() < 0.5
        pad = (0,) * rank if kind == "lp" else tuple(rng.randint(0, k // 2) for k in kernel)
        dilation = numbers(rng, rank, 3) if kind == "max" else (1,) * rank
        room = zip(shape[2:], pad, kernel, dilation, strict=True)
        if any(n + 2 * p < d * (k - 1) + 1 for n, p, k, d in room):
            continue
        if kind == "lp":
            if rank == 1:
                kernel, stride = kernel[:1], stride[:1]
                layer = cls(2, kernel[0], stride[0], ceil)
            else:
                layer = cls(2, kernel, stride, ceil)
        elif kind == "max":
            layer = cls(kernel, stride, pad, dilation, ceil_mode=ceil)
        else:
            layer = cls(kernel, stride, pad, ceil)
        net = single(
            f"{kind}_pool",
            shape,
            kernel=kernel,
            stride=stride,
            padding=pad,
            dilation=dilation,
            ceil_mode=ceil,
        )
        agree(net, layer, shape)
        done += 1


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", ["max", "average"])
def test_adaptive_pools(rank: int, kind: str) -> None:
    rng = random.Random(f"adaptive {rank} {kind}")
    cls = getattr(torch.nn, f"Adaptive{'Max' if kind == 'max' else 'Avg'}Pool{rank}d")
    for _ in range(40):
        shape = (1, rng.randint(1, 4), *(rng.choice(SIZES) for _ in range(rank)))
        # None keeps an axis; PyTorch has it from two axes on.
        choices = (None, 1, 2, 3, 7) if rank > 1 else (1, 2, 3, 7)
        output = tuple(rng.choice(choices) for _ in range(rank))
        net = single("adaptive_pool", shape, output=output, kind=kind)
        agree(net, cls(output if rank > 1 else output[0]), shape)


@pytest.mark.parametrize("block", [1, 2, 3])
def test_pixel_shuffles(block: int) -> None:
    for channels, height, width in ((1, 2, 3), (3, 4, 2), (5, 1, 7)):
        deep = (1, channels * block**2, height, width)
        wide = (1, channels, height * block, width * block)
        agree(single("depth_to_space", deep, block=block), torch.nn.PixelShuffle(block), deep)
        agree(single("space_to_depth", wide, block=block), torch.nn.PixelUnshuffle(block), wide)


def test_linear_and_matmul() -> None:
    dense = create("dense", {"units": 7})
    net = Network("n", (Op("y", dense, ("x",)),), {"x": TensorSpec((1, 3, 5))}, ("y",))
    agree(net, torch.nn.Linear(5, 7, device="meta"), (1, 3, 5))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_upsampling(rank: int) -> None:
    rng = random.Random(f"upsample {rank}")
    for _ in range(10):
        shape = (1, 2, *(rng.choice(SIZES) for _ in range(rank)))
        factor = numbers(rng, rank, 4)
        layer = torch.nn.Upsample(scale_factor=tuple(map(float, factor)))
        agree(single("upsample", shape, factor=factor), layer, shape)
