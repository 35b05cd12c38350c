"""Live PyTorch modules, against what PyTorch itself says of them.

The oracle runs each module: its outputs' shapes, half of what the framework's `FlopCounterMode`
counts, and the sizes of its own variables.
"""

from __future__ import annotations

import copy
import csv
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import convcalc
from convcalc.errors import ModelError
from convcalc.network import Network
from convcalc.report import Report
from convcalc.tensors import TensorSpec

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from convcalc.readers.torch import read_module  # noqa: E402

DETECTORS = ("fasterrcnn", "fcos", "keypointrcnn", "maskrcnn", "raft", "retinanet", "ssd")
RECORDED = Path(__file__).parents[1] / "data" / "torch_zoo.csv"


def flat(value: Any) -> list[Any]:
    """The tensors in an output."""
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, (list, tuple)) or not hasattr(value, "shape"):
        return [tensor for item in value or () for tensor in flat(item)]
    return [value]


def stored(module: Any) -> tuple[int, int]:
    """Elements of parameters and floating buffers of the state, and those that are trained."""
    state = set(module.state_dict())
    buffers = [b for key, b in module.named_buffers() if key in state and b.is_floating_point()]
    parameters = list(module.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    return sum(t.numel() for t in (*parameters, *buffers)), trained


def check(
    module: Any, input: Any, *, products: int = 0, device: str = "cpu"
) -> tuple[Network, Report]:
    """Read a module and compare it with PyTorch's own figures.

    `products` are matrix-vector products, which `FlopCounterMode` leaves out, as it does the
    fused recurrent and attention kernels of the CPU: these need the device "meta".
    """
    net = read_module(module, input=input)
    report = convcalc.analyze(net)
    shapes = list(input.values()) if isinstance(input, dict) else [(1, input[-1], *input[:-1])]
    twin = copy.deepcopy(module).to(device).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        made = twin(*(torch.ones(tuple(shape), device=device) for shape in shapes))
    assert [net.tensors[name].shape for name in net.outputs] == [
        tuple(tensor.shape) for tensor in flat(made)
    ]
    totals = report.totals
    assert (totals.params, totals.trainable_params) == stored(module)
    assert totals.macs == counter.get_total_flops() // 2 + products
    assert report.status == "complete", report.uncounted
    return net, report


class Block(nn.Module):
    """ResNet's."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = nn.Sequential(
            nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out)
        )

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += self.downsample(x)
        return self.relu(y)


def resnet() -> Any:
    return nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        Block(8, 8, 1),
        Block(8, 16, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(16, 10),
    )


class Excite(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, 4, 1), nn.Conv2d(4, width, 1)

    def forward(self, x: Any) -> Any:
        gate = F.relu(self.fc1(x.mean((2, 3), keepdim=True)))
        return x * F.hardsigmoid(self.fc2(gate))


def mobile() -> Any:
    return nn.Sequential(
        nn.ZeroPad2d((0, 1, 0, 1)),
        nn.Conv2d(3, 8, 3, 2),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 5, padding=2, groups=8),
        nn.Hardswish(),
        Excite(8),
        nn.Conv2d(8, 12, 1),
        nn.ChannelShuffle(3),
        nn.Conv2d(12, 12, 3, padding="same", dilation=2, groups=4),
        nn.SiLU(),
    )


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.norm2 = nn.BatchNorm2d(6), nn.BatchNorm2d(10)
        self.conv, self.conv2 = nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(10, 4, 3, padding=1)

    def forward(self, x: Any) -> Any:
        features = [x]
        features.append(self.conv(F.relu(self.norm(torch.cat(features, 1)))))
        features.append(self.conv2(F.relu(self.norm2(torch.cat(features, 1)))))
        return F.avg_pool2d(torch.cat(features, 1), 2)


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, (1, 7), padding=(0, 3))
        self.c = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 6, (7, 1), padding=(3, 0)))

    def forward(self, x: Any) -> dict[str, Any]:
        pooled = F.max_pool2d(x, 3, 1, 1)
        joined = torch.cat([self.a(x), self.b(x), self.c(x), pooled], dim=1)
        return {"out": F.max_pool2d(joined, 3, 2, ceil_mode=True), "pooled": pooled}


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.last = nn.Conv2d(24, 2, 1)

    def forward(self, x: Any) -> Any:
        high = torch.relu(self.down(x))
        low = torch.relu(self.deep(F.max_pool2d(high, 2)))
        wide = F.interpolate(low[:, :8], scale_factor=2, mode="bilinear")
        return torch.tanh(self.last(torch.cat([high, self.up(low), wide], 1)))


def transposed() -> Any:
    return nn.Sequential(
        nn.ConvTranspose2d(4, 6, (3, 5), (2, 3), (1, 2), (1, 2), groups=2, dilation=(1, 2)),
        nn.PixelShuffle(1),
        nn.LeakyReLU(),
        nn.UpsamplingNearest2d(size=(7, 9)),
    )


def line() -> Any:
    return nn.Sequential(
        nn.Conv1d(4, 8, 5, stride=2, padding=2),
        nn.BatchNorm1d(8),
        nn.ELU(),
        nn.ConvTranspose1d(8, 6, 4, stride=2, padding=1),
        nn.GLU(dim=1),
        nn.AvgPool1d(3),
        nn.AdaptiveMaxPool1d(4),
    )


def volume() -> Any:
    return nn.Sequential(
        nn.Conv3d(3, 6, (1, 3, 3), padding=(0, 1, 1), groups=3),
        nn.BatchNorm3d(6),
        nn.MaxPool3d((1, 2, 2)),
        nn.ConvTranspose3d(6, 2, 2, stride=2, bias=False),
        nn.AdaptiveAvgPool3d((2, None, 1)),
    )


class Shared(nn.Module):
    """A module called twice, two modules with one weight, variables that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.unused = nn.Linear(7, 2)
        self.register_buffer("scale", torch.ones(5))
        self.register_buffer("scratch", torch.ones(5), persistent=False)
        self.offset = torch.ones(5)

    def forward(self, x: Any) -> Any:
        x = self.conv(torch.relu(self.conv(x)))
        x = self.second(self.first(x)) * self.scale + self.scratch + self.offset
        with torch.no_grad():
            mask = x > 0
        return x.masked_fill(mask, 0.0)


class Attention(nn.Module):
    """A vision transformer's: patches, a class token, projections in one, a bias table."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 4, 4)
        self.token, self.place = (
            nn.Parameter(torch.zeros(1, 1, 12)),
            nn.Parameter(torch.zeros(17, 12)),
        )
        self.norm, self.gamma = nn.LayerNorm(12), nn.Parameter(torch.ones(12))
        self.qkv, self.project = nn.Linear(12, 36, bias=False), nn.Linear(12, 12)
        self.bias = nn.Parameter(torch.zeros(9, 3))
        self.register_buffer("index", torch.zeros(17, 17, dtype=torch.long))
        self.multi = nn.MultiheadAttention(12, 4, batch_first=True)

    def forward(self, x: Any) -> Any:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, t, 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.bias[self.index].permute(2, 0, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, bias.unsqueeze(0))
        scores = (q * 0.5) @ k.transpose(-2, -1)
        mixed = mixed + scores.softmax(-1) @ v
        x = x + self.gamma * self.project(mixed.transpose(1, 2).reshape(n, t, d))
        y, weights = self.multi(x, x, x)
        return F.gelu(x + y)[:, 0], weights


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True, dropout=0.1)
        self.gru, self.rnn = nn.GRU(10, 4), nn.RNN(4, 3, bias=False, batch_first=True)

    def forward(self, x: Any) -> Any:
        x, _ = self.lstm(x.transpose(1, 2))
        x, state = self.gru(x.transpose(0, 1))
        return self.rnn(x.transpose(0, 1))[0], state


class Standardized(nn.Conv2d):
    """Weights that are normalized before use."""

    def forward(self, x: Any) -> Any:
        flat = self.weight.reshape(1, self.out_channels, -1)
        kernel = F.batch_norm(flat, None, None, training=True).reshape_as(self.weight)
        return F.conv2d(x, kernel, self.bias)


def computed() -> Any:
    """Kernels that are computed, half-frozen layers, every normalization."""
    frozen = nn.Linear(4, 4)
    frozen.weight.requires_grad = False
    still = nn.Conv2d(8, 4, 1)
    still.requires_grad_(False)
    return nn.Sequential(
        Standardized(3, 8, 3),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3, bias=False)),
        nn.GroupNorm(2, 8),
        still,
        nn.InstanceNorm2d(4, affine=True),
        nn.InstanceNorm2d(4, track_running_stats=True),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.PReLU(4),
        nn.LayerNorm([4, 4]),
        frozen,
        nn.RMSNorm(4),
        nn.LocalResponseNorm(2),
    )


@pytest.mark.parametrize(
    ("build", "input"),
    [
        (resnet, (32, 40, 3)),
        (mobile, (20, 20, 3)),
        (Dense, (8, 6, 6)),
        (Inception, (9, 12, 3)),
        (UNet, (8, 8, 3)),
        (transposed, (5, 6, 4)),
        (line, (32, 4)),
        (volume, (4, 6, 8, 3)),
        (Shared, (5, 5, 3)),
        (Attention, (16, 16, 3)),
        (Recurrent, (7, 6)),
        (computed, (8, 8, 3)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_networks(build: Callable[[], Any], input: tuple[int, ...]) -> None:
    module = build()
    net, _ = check(module, input, device="meta" if build in (Recurrent, Attention) else "cpu")
    assert net.channels_first
    # Every axis that grows with the batch is known.
    made = flat(module.eval()(torch.ones(4, input[-1], *input[:-1])))
    assert [net.tensors[name].shape_at(4) for name in net.outputs] == [
        tuple(tensor.shape) for tensor in made
    ]


#: Calls that are no layers; each gives one tensor or a list of them.
CALLS: list[Callable[[Any], Any]] = [
    lambda x: x.chunk(2, 1)[1] - x.split([1, 5], 1)[0],
    lambda x: x[:, ::2, 1:, -3:],
    lambda x: x[..., 2] / x.select(3, -1),
    lambda x: x.narrow(2, 1, 3).squeeze().unsqueeze(-1),
    lambda x: x.movedim(1, -1).swapaxes(1, 2).contiguous().view(1, -1, 6),
    lambda x: x.permute(0, 2, 3, 1) @ torch.ones(6, 2),
    lambda x: torch.stack([x, x.clone()], 2).flatten(1, 2).unflatten(1, (3, -1)),
    lambda x: x.flatten() + 1,
    lambda x: x.reshape(-1, 8).t(),
    lambda x: torch.cat([piece.exp() for piece in x.unbind(1)], 1),
    lambda x: F.pad(x, (1, 2, 0, 3), mode="reflect"),
    lambda x: F.pad(x, (-1, -1)),
    lambda x: F.pad(x, (0, 0, 0, 0, 2, 1)),
    lambda x: F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 0, 1, 2)),
    lambda x: F.pad(x, (0, 0)),
    lambda x: F.interpolate(x, size=(5, 13)),
    lambda x: F.interpolate(x, scale_factor=1.5, mode="bicubic", recompute_scale_factor=False),
    lambda x: F.pixel_unshuffle(F.pixel_shuffle(x[:, :4], 2), 2),
    lambda x: x.repeat(1, 2, 1, 1).roll(1, 2).flip(3),
    lambda x: x[:, [0, 2, 1]].expand(1, 3, 8, 8),
    lambda x: F.unfold(x, 3).transpose(1, 2),
    lambda x: torch.where(x > 0, x, x * 2).clamp(0, 1).sqrt(),
    lambda x: torch.maximum(x, x.mean(1, keepdim=True)) ** 2,
    lambda x: torch.lerp(x, -x, 0.3) * torch.zeros_like(x).lt(1).to(x.dtype),
    lambda x: x.max(1)[0] + x.amax(1) + x.sum((1,)) + x.argmax(1),
    lambda x: x.norm(dim=1) + torch.logsumexp(x, 1) + x.var(1),
    lambda x: F.normalize(x, dim=1).mean(),
    lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    lambda x: list(F.adaptive_max_pool2d(x, 3, return_indices=True)),
    lambda x: F.lp_pool2d(x, 2, 2),
    lambda x: F.hardtanh(F.hardtanh(x, 0, 6)),
    lambda x: F.softplus(F.mish(F.selu(F.logsigmoid(F.threshold(x, 0, 1))))),
    lambda x: F.dropout2d(F.alpha_dropout(x)),
    lambda x: torch.einsum("bchw,bdhw->bcd", x, x),
    lambda x: torch.einsum("bchw,c->bhcw", x, torch.ones(6)),
    lambda x: torch.addmm(torch.ones(8), x[0, 0], x[0, 1]),
    lambda x: torch.baddbmm(x[0], x[0], x[0]) + torch.bmm(x[0], x[0]),
    lambda x: x.cumsum(1).long().float().bool().logical_not().half(),
    lambda x: torch.arange(8.0) * x + torch.eye(8),
    lambda x: F.conv2d(x, torch.ones(4, 3, 1, 1), groups=2),
    lambda x: F.linear(x, torch.ones(3, 8), torch.ones(3)),
    lambda x: F.layer_norm(x, (8,), torch.ones(8)) + F.group_norm(x, 3, torch.ones(6)),
    lambda x: F.embedding(x.argmax(1), torch.ones(8, 3)),
    lambda x: torch.max(x, x.min(dim=1, keepdim=True)[0]),
    lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, :2], enable_gqa=True),
    lambda x: torch.cat(x.chunk(1, 1)) + x.view_as(x).mT.expand_as(x),
    lambda x: x[0, 0].T + x.sum(),
    lambda x: x.mean(1, keepdim=True).unbind(1)[0] * x.transpose(2, 2).sum(0),
    lambda x: torch.cat([torch.zeros(0), x[0, 0, 0]]),
    lambda x: x.view(1, 6, 64).view(1, 6, 8, -1),
    lambda x: F.relu(x) if x.ndim == 4 else x,
]


class Calls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)

    def forward(self, x: Any) -> Any:
        x = self.conv(x)
        return [call(x) for call in CALLS]


def test_calls_that_are_no_layers() -> None:
    # The CPU's attention is not counted: 6 heads of 8 x 8 scores, of width 8 and 8.
    _, report = check(Calls(), (8, 8, 6), products=6 * 8 * 8 * (8 + 8))
    assert len({layer.name for layer in report.layers}) == len(report.layers)


class Writes(nn.Module):
    """Writes into parts of tensors, as in-place code does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 2, 1)

    def forward(self, x: Any) -> Any:
        y = x * 2
        y[:, :2] = self.conv(x)
        y[:, 3].mul_(2)
        mask = torch.zeros(4)
        mask[1:] = 1
        return y + mask[:, None, None]


def test_what_is_written_into_a_part_reaches_the_output() -> None:
    net, _ = check(Writes(), (4, 4, 4))
    makers = {op.name: op for op in net.ops}
    reached, todo = set(), list(net.outputs)
    while todo:
        name = todo.pop()
        if name in makers and name not in reached:
            reached.add(name)
            todo.extend(makers[name].inputs)
    assert "conv" in reached


def test_names_types_and_variables_are_pytorchs() -> None:
    net, report = check(resnet(), (32, 32, 3))
    rows = {layer.name: layer for layer in report.layers}
    assert list(rows)[:7] == ["0", "1", "2", "3", "4.conv1", "4.bn1", "4.relu"]
    assert rows["4.conv1"].type == "Conv2d"
    assert rows["4.add"].type == "add"
    assert rows["4.bn1"].params == 32
    assert rows["4.bn1"].trainable_params == 16
    kinds = [op.operator.type for op in net.ops]
    assert kinds.count("batch_norm") == 7
    assert kinds.count("dropout") == 1


def test_a_shared_variable_counts_once_and_an_unused_one_too() -> None:
    _, report = check(Shared(), (5, 5, 3))
    rows = {layer.name: layer for layer in report.layers}
    assert rows["conv"].params == 3 * 3 * 3 * 3 + 3
    assert rows["conv"].macs == 2 * 25 * 9 * 3 * 3
    assert rows["first"].params == 30
    assert rows["second"].params == 5
    assert rows["unused.weight"].params == 14
    assert rows["scale"].params == 5
    assert rows["scale"].trainable_params == 0


def test_products_with_vectors_count() -> None:
    module = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 1, bias=False))
    check(nn.Sequential(module), (2, 2, 3), products=4 * 3 + 4)


def test_an_operator_without_a_rule_keeps_its_shape_and_its_variables() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Bilinear(4, 4, 2)
            self.last = nn.Linear(2, 3)

        def forward(self, x: Any) -> Any:
            return self.last(self.mix(x, x)), torch.fft.rfft(x[0, 0])

    module = Odd()
    net = read_module(module, input={"x": (1, 5, 4)})
    report = convcalc.analyze(net)
    assert report.status == "partial"
    assert [gap.op for gap in report.uncounted] == ["Bilinear", "fft_rfft"]
    assert net.tensors[net.outputs[0]].shape == (1, 5, 3)
    assert net.tensors[net.outputs[1]].shape == (3,)
    assert (report.totals.params, report.totals.trainable_params) == stored(module)


class Unusual(nn.Module):
    """Uses that our operators have no form for; their shapes and variables must not be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)
        self.lstm = nn.LSTM(8, 4, proj_size=2, batch_first=True)
        self.fc = nn.Linear(8, 8)
        self.slope = nn.Parameter(torch.ones(6))

    def forward(self, x: Any) -> Any:
        single = x[0]
        return [
            self.conv(single),
            F.max_pool2d(single, 2),
            F.adaptive_avg_pool2d(single, 2),
            F.conv_transpose2d(single, torch.ones(6, 2, 1, 1)),
            self.lstm(single)[0],
            torch.einsum("bchw->bc", x),
            torch.einsum("...hw,...wk->...hk", x, x),
            torch.einsum("bchh,bchw->bcw", x, x),
            torch.einsum("bchw,bdkl->bcd", x, x),
            F.prelu(x, self.slope * 2),
            F.batch_norm(x, x.mean((0, 2, 3)), x.var((0, 2, 3))),
            x[:1] + x[-1:],
            self.fc(x),
            F.linear(x, self.fc.weight),
        ]


def test_unusual_uses_are_owned_up_to() -> None:
    module = Unusual()
    net = read_module(module, input=(8, 8, 6))
    report = convcalc.analyze(net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = [tuple(tensor.shape) for tensor in module(torch.ones(1, 6, 8, 8))]
    assert [net.tensors[name].shape for name in net.outputs] == made
    assert report.status == "partial"
    assert (report.totals.params, report.totals.trainable_params) == stored(module)


def test_stochastic_depth_stays_as_a_dropout_of_samples() -> None:
    class StochasticDepth(nn.Module):
        def __init__(self, p: float) -> None:
            super().__init__()
            self.p = p

        def forward(self, x: Any) -> Any:
            return x

    net, _ = check(nn.Sequential(nn.Conv2d(3, 4, 1), StochasticDepth(0.2)), (4, 4, 3))
    last = net.ops[-1]
    assert (last.layer, last.layer_type) == ("1", "StochasticDepth")
    assert (last.operator.rate, last.operator.noise_shape) == (0.2, (None, 1, 1, 1))


def test_the_callers_module_is_left_alone() -> None:
    module = resnet().train()
    module[5].eval()
    seen: list[Any] = []
    module[0].register_forward_hook(lambda *args: seen.append(args))
    module[0].weight.requires_grad = False
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    flags = [part.training for part in module.modules()]
    identities = [id(p) for p in module.parameters()]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        net = read_module(module, input=(32, 32, 3))
    assert [str(warning.message) for warning in said] == []
    assert seen == []
    assert len(module[0]._forward_hooks) == 1
    assert [part.training for part in module.modules()] == flags
    assert [id(p) for p in module.parameters()] == identities
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())
    assert not net.ops[0].trainable
    assert net.ops[1].trainable


def test_wrappings_and_names() -> None:
    module = nn.DataParallel(nn.Conv2d(3, 4, 3))
    net = read_module(module, input=(8, 8, 3))
    assert (net.name, net.ops[0].layer_type) == ("Conv2d", "Conv2d")
    assert net.inputs["input"].shape == (1, 3, 8, 8)
    assert read_module(module, input=(8, 8, 3), name="mine").name == "mine"


def test_half_precision_is_the_networks_own_type() -> None:
    net = read_module(nn.Linear(3, 4).half(), input=(3,))
    assert net.tensors[net.outputs[0]] == TensorSpec((1, 4))
    assert net.params[net.ops[0].weights][0].dtype == "float"


def test_several_inputs_by_name() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(9, 4)

        def forward(self, image: Any, ids: Any, mask: Any) -> Any:
            return image.mean((2, 3)), self.embed(ids) + mask

    sizes = {
        "image": (8, 3, 5, 5),
        "ids": TensorSpec((8, 6), "int64"),
        "mask": (6, 4),
    }
    net = read_module(Two(), input=sizes)
    assert net.inputs == {
        "image": TensorSpec((1, 3, 5, 5)),
        "ids": TensorSpec((1, 6), "int64"),
        "mask": TensorSpec((6, 4), batch_axis=None),
    }
    assert [net.tensors[name].shape for name in net.outputs] == [(1, 3), (1, 6, 4)]
    assert convcalc.analyze(net, batch=3).layers[-1].output_shape == [3, 6, 4]


def test_sizes_can_change_after_reading() -> None:
    net = read_module(resnet(), input=(32, 32, 3))
    wider = net.with_inputs({next(iter(net.inputs)): TensorSpec((1, 3, 64, 48))})
    fresh = read_module(resnet(), input=(64, 48, 3))
    assert convcalc.analyze(wider).totals == convcalc.analyze(fresh).totals


def test_results_of_any_class() -> None:
    class Result:
        def __init__(self, value: Any) -> None:
            self.label, self.value, self.more = "a", value, {"twice": (value * 2, None)}

    class Boxed(nn.Module):
        def forward(self, x: Any, scale: float = 2.0) -> Result:
            return Result(x[:, :1] * scale)

    net = read_module(Boxed(), input=(4, 5, 3))
    assert [net.tensors[name].shape for name in net.outputs] == [(1, 1, 4, 5)] * 2


class Sieve(nn.Module):
    def forward(self, x: Any) -> Any:
        return x[x > 0]


class Careless(nn.Module):
    def forward(self, x: Any) -> Any:
        return x if x.sum() > 0 else -x


class Silent(nn.Module):
    def forward(self, x: Any) -> Any:
        return None


class Uncopyable(nn.Module):
    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("no copies of me")


@pytest.mark.parametrize(
    ("module", "input", "says"),
    [
        (nn.ReLU, (4, 4, 3), "cannot read a PyTorch module from a type"),
        (nn.ReLU(), None, "'ReLU' does not say the size of its input"),
        (nn.ReLU(), (4, 0, 3), "must be positive integers"),
        (nn.ReLU(), (), "must be positive integers"),
        (nn.ReLU(), {}, "needs the shape of at least one input"),
        (nn.ReLU(), {"input": (1, -4)}, "has the shape (1, -4)"),
        (nn.ReLU(), {"inptu": (1, 4)}, "has no argument 'inptu'; did you mean 'input'?"),
        (nn.ReLU(), {"zzzz": (1, 4)}, "has no argument 'zzzz'; it takes input"),
        (nn.LazyLinear(3), (4,), "'weight' of 'LazyLinear' has no size"),
        (nn.Conv2d(3, 4, 3), (8, 8, 5), "PyTorch cannot trace 'Conv2d': Given groups=1"),
        (Careless(), (4, 4, 3), "PyTorch cannot trace 'Careless'"),
        (Sieve(), (4, 4, 3), "makes a tensor whose size depends on the data"),
        (Silent(), (4, 4, 3), "'Silent' gives no tensor"),
        (Uncopyable(), (4, 4, 3), "'Uncopyable' cannot be copied: no copies of me"),
    ],
)
def test_what_cannot_be_read_is_said(
    module: Any, input: Any, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError) as error:
        read_module(module, input=input)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_recorded_networks() -> None:
    """What `scripts/measure_torch_zoo.py` measured: torchvision's networks and CNNs of timm."""
    with RECORDED.open(newline="") as file:
        lines = list(csv.DictReader(file))
    zoo = {(line["library"], line["name"]): line for line in lines}
    assert len(zoo) == len(lines)
    for line in lines:
        assert line["status"] in ("complete", "partial", "refused", "no truth"), line
        if line["status"] in ("complete", "partial"):
            for what in ("params", "trainable", "macs"):
                assert line[what] == line[f"torch_{what}"], line
        if line["status"] == "refused":
            assert "data-dependent" in line["note"], line
    complete = [key for key, line in zoo.items() if line["status"] == "complete"]
    assert sum(library == "timm" for library, _ in complete) >= 300
    rest = {name for library, name in {*zoo} - {*complete} if library == "torchvision"}
    # Detectors choose boxes by their values; RAFT samples at places that it computes.
    assert all(name.startswith(DETECTORS) for name in rest)
    assert zoo["torchvision", "resnet50"]["macs"] == "4089184256"
    assert zoo["torchvision", "vgg16"]["params"] == "138357544"


@st.composite
def stacks(draw: st.DrawFn) -> tuple[Any, tuple[int, ...]]:
    """A small convolutional network and its input."""
    rank = draw(st.integers(1, 3))
    width = draw(st.sampled_from((1, 2, 4, 6)))
    size = tuple(draw(st.integers(6, 12)) for _ in range(rank))
    layers: list[Any] = []
    channels, sizes = width, list(size)
    number = {
        kind: getattr(nn, f"{kind}{rank}d")
        for kind in ("Conv", "ConvTranspose", "BatchNorm", "MaxPool", "AvgPool", "Dropout")
    }
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(sorted(number)))
        if kind in ("Conv", "ConvTranspose"):
            groups = draw(st.sampled_from([g for g in (1, 2, 3, 6) if channels % g == 0]))
            out = groups * draw(st.integers(1, 3))
            kernel = tuple(draw(st.integers(1, 3)) for _ in sizes)
            stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
            padding = draw(st.integers(0, 1))
            reach = [dilation * (k - 1) + 1 for k in kernel]
            pairs = list(zip(sizes, reach, strict=True))
            if kind == "Conv":
                after = [(n + 2 * padding - r) // stride + 1 for n, r in pairs]
            else:
                after = [(n - 1) * stride - 2 * padding + r for n, r in pairs]
            if min(after) < 1 or max(after) > 40:
                continue
            more = {"groups": groups, "dilation": dilation, "bias": draw(st.booleans())}
            layers.append(number[kind](channels, out, kernel, stride, padding, **more))
            channels, sizes = out, after
        elif kind in ("MaxPool", "AvgPool"):
            stride, ceil = draw(st.integers(1, 2)), draw(st.booleans())
            if min(sizes) < 2:
                continue
            layers.append(number[kind](2, stride, ceil_mode=ceil))
            with torch.no_grad():
                sizes = list(layers[-1](torch.ones(1, 1, *sizes)).shape[2:])
        else:
            layers.append(number[kind](channels) if kind == "BatchNorm" else number[kind]())
        layers.append(draw(st.sampled_from((nn.ReLU, nn.GELU, nn.Tanh)))())
    if draw(st.booleans()):
        layers += [nn.Flatten(), nn.LazyLinear(3)]
    module = nn.Sequential(*layers)
    with torch.no_grad():
        module.eval()(torch.zeros(1, width, *size))
    return module, (*size, width)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(stacks())
def test_random_stacks(drawn: tuple[Any, tuple[int, ...]]) -> None:
    check(*drawn)
