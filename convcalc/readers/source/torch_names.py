"""PyTorch's names: what its modules and functions take, and how they are called elsewhere."""

from __future__ import annotations

from typing import Any

CONV = "out_channels kernel_size stride=1 padding=0 dilation=1 groups=1 bias=True padding_mode=None"
TRANSPOSED = (
    "out_channels kernel_size stride=1 padding=0 output_padding=0 groups=1 bias=True dilation=1 "
    "padding_mode=None"
)
NORM = "eps=0 momentum=0 affine=True track_running_stats=True"
INSTANCE = "eps=0 momentum=0 affine=False track_running_stats=False"
MAX = "kernel_size stride=None padding=0 dilation=1 return_indices=False ceil_mode=False"
AVERAGE = "kernel_size stride=None padding=0 ceil_mode=False count_include_pad=True"
CELL = "bias=True batch_first=False dropout=0 bidirectional=False"
RECURRENT = f"input_size hidden_size num_layers=1 {CELL}"
RANKS = (1, 2, 3)

#: Module -> its arguments in order, with the defaults that shapes and counts depend on.
MODULES: dict[str, str] = {
    **{f"Conv{r}d": f"in_channels {CONV}" for r in RANKS},
    **{f"ConvTranspose{r}d": f"in_channels {TRANSPOSED}" for r in RANKS},
    **{f"LazyConv{r}d": CONV for r in RANKS},
    **{f"LazyConvTranspose{r}d": TRANSPOSED for r in RANKS},
    "Linear": "in_features out_features bias=True",
    "LazyLinear": "out_features bias=True",
    **{f"BatchNorm{r}d": f"num_features {NORM}" for r in RANKS},
    "SyncBatchNorm": f"num_features {NORM}",
    **{f"LazyBatchNorm{r}d": NORM for r in RANKS},
    **{f"InstanceNorm{r}d": f"num_features {INSTANCE}" for r in RANKS},
    "GroupNorm": "num_groups num_channels eps=0 affine=True",
    "LayerNorm": "normalized_shape eps=0 elementwise_affine=True bias=True",
    "RMSNorm": "normalized_shape eps=0 elementwise_affine=True",
    "LocalResponseNorm": "size alpha=0 beta=0 k=1",
    **{f"MaxPool{r}d": MAX for r in RANKS},
    "AvgPool1d": AVERAGE,
    "AvgPool2d": f"{AVERAGE} divisor_override=None",
    "AvgPool3d": f"{AVERAGE} divisor_override=None",
    **{f"LPPool{r}d": "norm_type kernel_size stride=None ceil_mode=False" for r in RANKS},
    **{f"AdaptiveAvgPool{r}d": "output_size" for r in RANKS},
    **{f"AdaptiveMaxPool{r}d": "output_size return_indices=False" for r in RANKS},
    "PReLU": "num_parameters=1 init=0",
    "LeakyReLU": "negative_slope=0 inplace=False",
    "ELU": "alpha=1 inplace=False",
    "CELU": "alpha=1 inplace=False",
    "Softplus": "beta=1 threshold=20",
    "Threshold": "threshold value inplace=False",
    "Hardtanh": "min_val=0 max_val=1 inplace=False",
    "GELU": "approximate=None",
    "GLU": "dim=-1",
    **dict.fromkeys(("Softmax", "LogSoftmax", "Softmin"), "dim=None"),
    "Softmax2d": "",
    **dict.fromkeys(("ReLU", "ReLU6", "SELU", "SiLU", "Mish", "Hardswish"), "inplace=False"),
    "Hardsigmoid": "inplace=False",
    **dict.fromkeys(("Sigmoid", "Tanh", "Softsign", "LogSigmoid", "Tanhshrink"), ""),
    **dict.fromkeys(("Hardshrink", "Softshrink"), "lambd=0"),
    **{f"Dropout{r}": "p=0 inplace=False" for r in ("", "1d", "2d", "3d")},
    "AlphaDropout": "p=0 inplace=False",
    "Flatten": "start_dim=1 end_dim=-1",
    "Unflatten": "dim unflattened_size",
    "Upsample": "size=None scale_factor=None mode=nearest align_corners=None",
    "UpsamplingNearest2d": "size=None scale_factor=None",
    "UpsamplingBilinear2d": "size=None scale_factor=None",
    "PixelShuffle": "upscale_factor",
    "PixelUnshuffle": "downscale_factor",
    "ChannelShuffle": "groups",
    **{
        f"{kind}Pad{r}d": "padding" for kind in ("Zero", "Reflection", "Replication") for r in RANKS
    },
    **{f"ConstantPad{r}d": "padding value" for r in RANKS},
    "Embedding": "num_embeddings embedding_dim padding_idx=None",
    "MultiheadAttention": (
        "embed_dim num_heads dropout=0 bias=True add_bias_kv=False add_zero_attn=False kdim=None "
        "vdim=None batch_first=False"
    ),
    "LSTM": f"{RECURRENT} proj_size=0",
    "GRU": RECURRENT,
    "RNN": f"input_size hidden_size num_layers=1 nonlinearity=tanh {CELL}",
}

#: Activations -> Keras' names for them, which our operator has.
ACTIVATIONS = {
    "ReLU": "relu", "ReLU6": "relu6", "LeakyReLU": "leaky_relu", "ELU": "elu", "CELU": "celu",
    "SELU": "selu", "SiLU": "silu", "GELU": "gelu", "Mish": "mish", "Sigmoid": "sigmoid",
    "Tanh": "tanh", "Softmax": "softmax", "Softmax2d": "softmax", "LogSoftmax": "log_softmax",
    "Softmin": "softmax", "Softplus": "softplus", "Softsign": "softsign",
    "LogSigmoid": "log_sigmoid", "Hardswish": "hard_swish", "Hardsigmoid": "hard_sigmoid",
    "Hardtanh": "hard_tanh", "Threshold": "threshold", "Hardshrink": "hard_shrink",
    "Softshrink": "soft_shrink", "Tanhshrink": "tanh_shrink",
}  # fmt: skip

#: Functions of torch.nn.functional -> the module that does the same with the same arguments.
FUNCTIONAL = {
    **{f"max_pool{r}d": f"MaxPool{r}d" for r in RANKS},
    **{f"avg_pool{r}d": f"AvgPool{r}d" for r in RANKS},
    **{f"lp_pool{r}d": f"LPPool{r}d" for r in RANKS},
    **{f"adaptive_avg_pool{r}d": f"AdaptiveAvgPool{r}d" for r in RANKS},
    **{f"adaptive_max_pool{r}d": f"AdaptiveMaxPool{r}d" for r in RANKS},
    **{f"dropout{r}": f"Dropout{r}" for r in ("", "1d", "2d", "3d")},
    "alpha_dropout": "AlphaDropout", "relu": "ReLU", "relu_": "ReLU", "relu6": "ReLU6",
    "leaky_relu": "LeakyReLU", "elu": "ELU", "celu": "CELU", "selu": "SELU", "silu": "SiLU",
    "gelu": "GELU", "mish": "Mish", "sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax",
    "log_softmax": "LogSoftmax", "softplus": "Softplus", "softsign": "Softsign",
    "logsigmoid": "LogSigmoid", "hardswish": "Hardswish", "hardsigmoid": "Hardsigmoid",
    "hardtanh": "Hardtanh", "glu": "GLU", "interpolate": "Upsample", "upsample": "Upsample",
    "pixel_shuffle": "PixelShuffle", "pixel_unshuffle": "PixelUnshuffle",
    "local_response_norm": "LocalResponseNorm",
}  # fmt: skip

#: Modules that score an output: no part of the network.
LOSSES = ("Loss",)

#: Methods that give their tensor back: nothing of its shape changes.
SAME = frozenset(
    {
        "contiguous", "to", "cuda", "cpu", "float", "half", "double", "detach", "clone", "type",
        "requires_grad_", "type_as", "bfloat16", "identity",
    }
)  # fmt: skip

#: Functions of one element, by our operator's name.
ELEMENTWISE = frozenset(
    {"exp", "log", "sqrt", "rsqrt", "abs", "square", "clamp", "neg", "sin", "cos", "floor", "round"}
)

#: Functions that make a tensor of a given size.
MAKERS = frozenset({"randn", "rand", "zeros", "ones", "empty"})

MERGES = {
    "add": "+", "sub": "-", "subtract": "-", "mul": "*", "multiply": "*", "div": "/",
    "divide": "/", "true_divide": "/", "matmul": "@", "bmm": "@", "mm": "@", "pow": "**",
}  # fmt: skip

CONSTANTS: dict[str, Any] = {"True": True, "False": False, "None": None}


def parameters(signature: str) -> tuple[list[str], dict[str, Any]]:
    """Names in order, and defaults, of a signature above."""
    positions, defaults = [], {}
    for part in signature.split():
        name, given, text = part.partition("=")
        positions.append(name)
        if given:
            number = text.lstrip("-").isdigit()
            defaults[name] = int(text) if number else CONSTANTS.get(text, text)
    return positions, defaults
