"""What pasted code may be written with: Python against Python, tensors against PyTorch."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

import convcalc
from convcalc.errors import ModelError

#: Each ends with `n`, the units of a layer.
PYTHON = [
    "n = abs(-3) + pow(2, 3) + round(2.6) + divmod(17, 5)[1] + int('12') + int(3.9) + int(True)",
    "n = min(5, 3) + max([1, 9]) + sum([1, 2, 3], 4) + len('abc') + len(range(2, 9, 3))",
    "n = sorted([3, 1, 2], reverse=True)[0] + list(reversed([1, 2]))[0] + min([], default=7)",
    "n = sum(a * b for a, b in zip([1, 2], (3, 4))) + sum(map(lambda v: v + 1, [1, 2]))",
    "n = sum(i * v for i, v in enumerate([4, 5], 1)) + len(set([1, 1, 2])) + len({1, 2, 2})",
    "n = dict(a=1, **{'b': 2})['b'] + dict([('c', 3)])['c'] + {'d': 4, **{'e': 5}}.get('e', 0)",
    "n = 7 if any([0, 1]) and all([1, 2]) and not False else 8",
    "n = 2 if isinstance(3, int) and not isinstance('a', (int, list)) and callable(len) else 1",
    "n = 4 if 3 in [1, 3] and 'b' in 'abc' and 'x' not in {'y': 1} and None is None else 5",
    "n = 3 if 1 < 2 <= 2 != 3 >= 3 > 0 and len is not None and (1, 2) == (1, 2) else 6",
    "n = 17 // 3 + 17 % 5 + (1 << 4) + (255 >> 5) + (6 & 3) + (6 | 1) + (5 ^ 1) - -2 + +1 + ~-3",
    "n = int(2 ** 5 / 4) + [1, 2, 3][-1] + (4, 5, 6)[1:][0] + [7, 8, 9][::2][1] + range(9)[3]",
    "a, *b, c = [1, 2, 3, 4]\nn = a + sum(b) + c",
    "a = b = 3\na += 2\nb *= a\n[c, (d, e)] = [1, (2, 3)]\nn = a + b + c + d + e",
    "sizes = []\nsizes += [4]\nsizes.append(5)\nsizes.extend([6])\nn = sum(sizes)",
    "row = [3, 1, 2]\nrow[0] = 9\nn = row.pop() + row[0] + row[-1]",
    "table = {}\ntable['a'] = 5\ntable.update({'b': 6})\nn = sum(table.values()) + len(table)",
    "n = sum(v for k, v in {'a': 1, 'b': 2}.items() if k != 'a') + {k: 3 for k in 'xy'}['y']",
    "n = sum([i for i in range(4) for j in range(i) if j % 2 == 0])",
    "n = len(f'{3:03d}-{\"a\"}') + len('%d units' % 5) + len('{} {}'.format(1, 'b'))",
    "n = len('A b'.lower().upper().split(' ')) + int('x_12'.split('_')[-1]) + len('-'.join('ab'))",
    "n = 5 if 'conv1'.startswith('conv') and ' x '.strip().endswith('x') else 0",
    "n = 0\nfor i in range(9):\n    if i == 2:\n        continue\n    if i == 6: break\n    n += i",
    "n = 1\nfor i in [1]:\n    pass\nelse:\n    n = 8",
    "n = 1\nwhile n < 100:\n    n *= 2\n    if n == 64:\n        break\nelse:\n    n = 3",
    "n = i = 0\nwhile i < 9:\n    i += 1\n    if i % 2:\n        continue\n    n += i",
    "def f(a, b=2, *rest, c=3, **more):\n    return a + b + sum(rest) + c + more['d']\n"
    "n = f(1, 5, 6, d=4) + f(*[1, 2], **{'d': 9})",
    "def f(k):\n    def g(v):\n        return v * k\n    return g\nn = f(3)(4)",
    "k = 1\ndef f():\n    global k\n    k = 9\nf()\nn = k",
    "def f():\n  k = 1\n  def g():\n    nonlocal k\n    k += 4\n  g()\n  return k\nn = f()",
    "def f(depth):\n    return 1 if depth == 0 else 2 * f(depth - 1)\nn = f(5)",
    "def f(x: int, y: 'list[int] | None' = None) -> int:\n    '''A'''\n    return x\nn: int = f(4)",
    "f = lambda a, *, b=3: a * b\nn = f(2) + f(2, b=5)",
    "if (m := 6) > 5:\n    n = m\nelif m:\n    n = 1\nelse:\n    n = 2",
    "class A:\n    k = 3\n    def __init__(self, m):\n        self.m = m\n    def f(self):\n"
    "        return self.k * self.m\nclass B(A):\n    def __init__(self):\n"
    "        super().__init__(5)\n        super(B, self).f()\n    def f(self):\n"
    "        return super().f() + 1\nn = B().f() + A.k",
    "class A:\n    @staticmethod\n    def f(a):\n        return a\n    @classmethod\n"
    "    def g(cls, a):\n        return a + 1\n    @property\n    def h(self):\n"
    "        return 7\nn = A.f(1) + A.g(2) + A().h",
    "from dataclasses import dataclass\n@dataclass\nclass S:\n    a: int\n    b: int = 4\n"
    "n = S(1).b + S(a=2, b=3).a",
    "class A:\n    def __call__(self, v):\n        return v + 1\nn = A()(5)",
    "import math\nn = math.ceil(2.1) + math.floor(2.9) + int(math.sqrt(16)) + int(math.log2(8))",
    "import numpy as np\nn = int(np.prod([2, 3, 4]))",
    "try:\n    n = 5\nexcept ValueError:\n    n = 6\nfinally:\n    n += 1",
    "n = 3\nassert n == 3, 'never'\ndel n\nn = 4",
    "with open_nothing() as f, other():\n    n = 6",
    "n = 5 if __name__ == '__main__' else 6",
    "n = [[1, 2], [3, 4]][1][0] + len([*range(3), *(7, 8)]) + max(*[4, 2])",
]  # fmt: skip

#: Names that a snippet uses without defining: the reader ignores them.
LOOSE = {
    "open_nothing": lambda: __import__("contextlib").nullcontext(),
    "other": lambda: __import__("contextlib").nullcontext(),
}


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_means_what_it_means_in_python(code: str) -> None:
    names: dict[str, Any] = {"__name__": "__main__", **LOOSE}
    exec(code, names)
    net = convcalc.load_source(f"{code}\nDense(n)", input=(3,))
    assert net.tensors[net.outputs[0]].shape == (1, names["n"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n = [1][5]", "line 1, column 5: there is no item 5"),
        ("n = {'a': 1}['b']", "there is no item 'b'"),
        ("n = 3['a']", "3 cannot be indexed"),
        ("a, b = [1, 2, 3]", "3 values for 2 names"),
        ("a, *b, c = [1]", "1 values for 3 names"),
        ("for i in 5: pass", "5 cannot be looped over"),
        ("n = 3()", "3 cannot be called"),
        ("n = {[1]: 2}", "keys are numbers, texts, or tuples of them"),
        ("n = sorted([[1]], key=len)", "sorted() takes numbers and texts, without a key"),
        ("n = min([{}, {}])", "min() and max() take numbers and texts"),
        ("n = {} < {}", "'<' compares numbers and texts only"),
        ("n = 1 / 0", "division by zero"),
        ("def f(a): return a\nf()", "'f' needs the argument 'a'"),
        ("def f(a): return a\nf(1, 2)", "'f' takes 1 arguments, got 2"),
        ("def f(a): return a\nf(1, a=2)", "'f' got 'a' twice"),
        ("def f(a): return a\nf(b=2)", "'f' has no argument 'b'"),
        ("def f(**k): return k\nf(**{1: 2})", "names of arguments are texts"),
        ("def f(**k): return k\nf(**3)", "3 is no mapping of arguments"),
        ("raise ValueError('no good')", "the source raises an error here: no good"),
        ("async def f(): pass", "'AsyncFunctionDef' statements are not supported"),
        ("n = [await f()]", "'Await' expressions are not supported"),
        ("super()", "super() outside of a method"),
        ("n = 'a'.encode()", "'encode' of 'a' is not supported"),
        ("n = int('1' * 30)", "leaves 64 bits"),
        ("(3).x = 4", "3 has no attribute to set"),
        ("(1, 2)[0] = 3", "this item cannot be set"),
        ("n = {**3}", "3 is no mapping"),
        ("list(map(3, [1]))", "3 cannot be called"),
        ("n = 1j", "complex"),
    ],
)
def test_mistakes_say_where(text: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        convcalc.load_source(f"{text}\nDense(3)", input=(3,))
    assert message in str(caught.value)
    assert str(caught.value).startswith("line ")


#: Bodies of `forward`, of an input of (1, 4, 8, 6).
BODIES = [
    "return x.view(1, -1)",
    "return x.view((1, 4, 48)).reshape(1, 2, -1)",
    "return x.flatten(2).transpose(1, 2).permute(0, 2, 1).contiguous()",
    "return torch.flatten(x, 1)",
    "return torch.flatten(x, start_dim=2)",
    "return x.size(0), x.mean([2, 3]), x.sum(dim=1, keepdim=True), x.amax((2,)), x.prod(1)",
    "return x.max(dim=1)[0], torch.max(x, x), x.min(1, keepdim=True)[0]",
    "return x.unsqueeze(1).squeeze(1), x.mean(1, keepdim=True).squeeze(1), x.squeeze(1)",
    "a, b = x.chunk(2, dim=1)\nreturn torch.cat([a, b], 1), torch.cat((a, b), dim=-1)",
    "a, b = torch.split(x, [1, 3], dim=1)\nreturn a, b, *torch.split(x, 3, 2)",
    "return torch.stack([x, x], dim=2), torch.stack([x, x], 1)",
    "return x[:, 0], x[:, :, ::2], x[..., 1:3], x[:, None], x[:, -1, :, 0], x[:, 1:, 2:4, :]",
    "return x.mean((2, 3), keepdim=True).expand(-1, -1, 8, 6), x.repeat(1, 1, 2, 3)",
    "return x.mean((2, 3), keepdim=True).expand_as(x), x.view_as(x), x.reshape_as(x)",
    "return x + 1, 2 * x, x - x, 1 / (x + x), x ** 2, -x, x @ x.transpose(2, 3)",
    "return x.add(x).mul(x).div(x).sub(x), torch.add(x, x), torch.matmul(x, x.transpose(-1, -2))",
    "return x.exp().log().sqrt().abs().clamp(min=0), torch.sqrt(x), torch.clamp(x, 0, 1)",
    "return x.relu().sigmoid().tanh(), F.relu(x, inplace=True), F.softmax(x, dim=1), x.softmax(1)",
    "return F.relu6(x), F.elu(x), F.gelu(x), F.silu(x), F.mish(x), F.hardswish(x), F.glu(x, dim=1)",
    "return F.max_pool2d(x, 2), F.max_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 2, stride=1)",
    "return F.adaptive_avg_pool2d(x, 1), F.adaptive_avg_pool2d(x, (2, 3)), F.lp_pool2d(x, 2, 2)",
    "return F.adaptive_max_pool2d(x, 2), F.dropout(x, 0.5, self.training), F.dropout2d(x)",
    "return F.interpolate(x, scale_factor=2), F.interpolate(x, size=(5, 7), mode='bilinear')",
    "return F.interpolate(x, scale_factor=0.5), F.interpolate(x, x.shape[2:], mode='nearest')",
    "return F.pad(x, (1, 2)), F.pad(x, (1, 2, 3, 4)), F.pad(x, [1, 1, 1, 1], 'reflect')",
    "return F.pixel_shuffle(x, 2), F.pixel_unshuffle(x, 2), F.normalize(x, dim=1)",
    "return F.scaled_dot_product_attention(x, x, x)",
    "return F.local_response_norm(x, 3), F.log_softmax(x, 1), F.leaky_relu(x, 0.1), F.softplus(x)",
    "b, c, h, w = x.shape\nreturn x.view(b, c // 2, 2, h, w).transpose(1, 2).reshape(b, -1, h, w)",
    "b, c = x.size()[:2]\nreturn x.reshape(b, c, x.numel() // c // b), x.view(x.size(0), -1)",
    "return nn.MaxPool1d(2)(x.flatten(2)), nn.AvgPool1d(2)(x.flatten(2)), nn.PReLU(4)(x)",
    "return nn.ZeroPad2d(1)(x), nn.ReflectionPad2d((1, 2, 0, 1))(x), nn.ConstantPad2d(2, 0)(x)",
    "return nn.Upsample(scale_factor=2, mode='bilinear')(x), nn.UpsamplingNearest2d(size=9)(x)",
    "return nn.PixelShuffle(2)(x), nn.ChannelShuffle(2)(x), nn.Unflatten(1, (2, 2))(x)",
    "return nn.Softmax(1)(x), nn.Softmax2d()(x), nn.GLU(1)(x), nn.Hardtanh()(x), nn.Identity()(x)",
    "return nn.LPPool2d(2, 2)(x), nn.AdaptiveMaxPool2d(3)(x), nn.AvgPool2d(3, 1, 1)(x)",
    "return nn.InstanceNorm2d(4)(x), nn.LocalResponseNorm(2)(x), nn.AlphaDropout(0.1)(x)",
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_tensors_have_the_shapes_that_pytorch_gives_them(body: str) -> None:
    torch = pytest.importorskip("torch")
    text = (
        "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
        "class Net(nn.Module):\n    def forward(self, x):\n" + textwrap.indent(body, " " * 8)
    )
    names: dict[str, Any] = {}
    exec(text, names)
    with torch.no_grad(), torch.device("meta"):
        made = names["Net"]().eval()(torch.zeros(1, 4, 8, 6))
    made = made if isinstance(made, tuple) else (made,)
    expected = [tuple(t.shape) for t in made if isinstance(t, torch.Tensor)]
    net = convcalc.load_source(f"{text}\nmodel = Net()", input=(8, 6, 4))
    found = [net.tensors[name].shape for name in net.outputs]
    # A tensor that is given back twice is one output.
    assert found == expected or set(found) == set(expected)
    assert convcalc.analyze(net).status == "complete"


#: Networks as classes and containers, of an input of (1, 4, 8, 6), each made as `model`.
MODULES = [
    "model = nn.Sequential(nn.Conv2d(4, 3, 3))\nmodel.append(nn.ReLU())\n"
    "model.add_module('norm', nn.BatchNorm2d(3))\nfor p in model.parameters():\n"
    "    p.requires_grad = False",
    "model = nn.Sequential(OrderedDict([('a', nn.Conv2d(4, 3, 1)), ('b', nn.ReLU())])).eval()\n"
    "for name, p in model.named_parameters():\n    p.requires_grad_(True)\n"
    "for m in model.modules():\n    pass",
    "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    "        self.parts = nn.ModuleList([nn.Conv2d(4, 4, 1)])\n"
    "        self.parts.extend([nn.ReLU(), nn.Conv2d(4, 4, 3)])\n"
    "        self.parts.insert(1, nn.BatchNorm2d(4))\n        self.parts[-2] = nn.Hardtanh()\n"
    "        self.heads = nn.ModuleDict({'a': nn.Linear(6, 2)})\n"
    "        self.heads['b'] = nn.Linear(4, 3)\n"
    "    def forward(self, x):\n        for part in self.parts[:-1]:\n            x = part(x)\n"
    "        for name, head in self.heads.items():\n            if name == 'a':\n"
    "                y = head(x)\n"
    "        return y, self.parts[-1](x), self.heads['b'](self.parts[2](x).mean(3).mean(2))\n"
    "model = Net()",
    "class Net(nn.Sequential):\n    def __init__(self):\n"
    "        super().__init__(nn.Conv2d(4, 2, 3), nn.ReLU())\n"
    "        self.add_module('last', nn.Conv2d(2, 2, 1, bias=False))\nmodel = Net()",
    "class Net(nn.Module):\n    def __init__(self):\n        super(Net, self).__init__()\n"
    "        self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))\n"
    "        self.shift = nn.Parameter(torch.zeros(1, 4, 1, 1), requires_grad=False)\n"
    "        self.register_parameter('gate', nn.Parameter(torch.ones(8, 1)))\n"
    "        self.register_buffer('mean', torch.zeros(1, 4, 1, 1))\n"
    "    def forward(self, x):\n"
    "        return x * self.scale + self.shift - self.mean + -self.gate\nmodel = Net()",
    "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    "        self.conv = nn.Conv2d(4, 4, 3, padding='same', groups=2)\n"
    "        self.up = nn.ConvTranspose2d(4, 2, 2, 2)\n        self.apply(self.start)\n"
    "    def start(self, m):\n        if isinstance(m, nn.Conv2d):\n"
    "            nn.init.kaiming_normal_(m.weight)\n"
    "    def forward(self, x):\n        assert x.dim() == 4 and x.ndim == 4 and x.shape[1] == 4\n"
    "        return self.up(self.conv(self.conv(x)))\nmodel = Net().to('cpu').train().eval()",
    "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    "        self.att = nn.MultiheadAttention(6, 2, batch_first=True)\n"
    "        self.norm = nn.LayerNorm(6)\n        self.emb = nn.Linear(6, 6, bias=False)\n"
    "    def forward(self, x):\n        x = self.norm(x.flatten(1, 2))\n"
    "        y, _ = self.att(x, x, x)\n        return self.emb(x + y)\nmodel = Net()",
]  # fmt: skip


@pytest.mark.parametrize("code", MODULES, ids=range(len(MODULES)))
def test_modules_count_as_pytorch_counts_them(code: str) -> None:
    torch = pytest.importorskip("torch")
    text = f"from collections import OrderedDict\nimport torch\nfrom torch import nn\n{code}"
    names: dict[str, Any] = {}
    exec(text, names)
    model = names["model"].eval()
    with torch.no_grad():
        made = model(torch.zeros(1, 4, 8, 6))
    made = made if isinstance(made, tuple) else (made,)
    net = convcalc.load_source(text, input=(8, 6, 4))
    assert [net.tensors[name].shape for name in net.outputs] == [tuple(t.shape) for t in made]
    totals = convcalc.analyze(net).totals
    parameters = list(model.parameters())
    statistics = sum(b.numel() for key, b in model.named_buffers() if "running" in key)
    buffers = sum(b.numel() for key, b in model.named_buffers() if key == "mean")
    assert totals.params == sum(p.numel() for p in parameters) + statistics + buffers
    assert totals.trainable_params == sum(p.numel() for p in parameters if p.requires_grad)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nn.Conv2d(3, 8, 3)", "in_channels=3, but its input 1x4x8x6 has 4"),
        ("nn.Conv1d(4, 8, 3)", "Conv1d takes inputs of 3 axes"),
        ("nn.Conv2d(4)", "Conv2d needs 'out_channels'"),
        ("nn.Conv2d(4, 8, 3, size=2)", "Conv2d has no argument 'size'"),
        ("nn.Conv2d(4, len(data), 3)", "out_channels of Conv2d depends on 'data'"),
        ("nn.Convv2d(4, 8, 3)", "nn.Convv2d is not known to this reader; did you mean 'Conv2d'?"),
        ("nn.Sequential(3)", "nn.Sequential takes modules, not 3"),
        ("nn.Sequential(mine(4))", "nn.Sequential holds 'mine', which this reader cannot read"),
        ("nn.MaxPool2d(2, return_indices=True)", "return_indices=True is not supported"),
        ("nn.LayerNorm(5)", "LayerNorm is made for (5,)"),
        ("nn.GLU(2)\nnn.GLU(-1)\nnn.Conv2d(4, 3, 1)\nnn.GLU(1)", "GLU halves axis 1, which has 3"),
        ("nn.LSTM(6, 5)", "LSTM takes inputs of 3 axes"),
        ("nn.Upsample()", "Upsample needs a size or a scale_factor"),
        ("nn.ModuleList([nn.ReLU()])", "nn.ModuleList cannot be called"),
        ("class A(nn.Module): pass\nA()", "class 'A' has no 'forward' method"),
        ("nn.Parameter(3)", "nn.Parameter takes a tensor of a known size"),
        ("class A(nn.Module):\n  def forward(self, x):\n    return x[x]\nA()", "the index"),
        ("class A(nn.Module):\n  def forward(self, x):\n    return x.viiew(1)\nA()", "'viiew' of"),
        ("class A(nn.Module):\n  def forward(self, x):\n    return F.reluu(x)\nA()", "F.reluu"),
        ("class A(nn.Module):\n  def forward(self, x):\n    if x: return x\nA()", "a condition"),
        ("class A(nn.Module):\n  def forward(self, x):\n    for y in x: pass\nA()", "looping over"),
        ("class A(nn.Module):\n  def forward(self, x):\n    return 3\nA()", "gives no tensor"),
        ("class A(nn.Module):\n  def forward(self, x):\n    return x\nA()", "has no layers"),
        ("class A(nn.Module):\n  def forward(self, x):\n    return x % x\nA()", "'%' of tensors"),
        ("class A(nn.Module):\n  def forward(self, x):\n    return x.repeat(2)\nA()", "repeat()"),
        ("class A(nn.Module):\n  def forward(self, x):\n    return self.b(x)\nA()", "has no 'b'"),
    ],
)
def test_what_pytorch_would_refuse_or_is_not_read(text: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        convcalc.load_source(text, input=(8, 6, 4))
    assert message in str(caught.value)
