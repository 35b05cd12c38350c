"""Keras' names: what its layers take by position, and which functions do what a layer does."""

from __future__ import annotations

import re

CONV = "filters kernel_size strides padding data_format dilation_rate groups activation use_bias"
TRANSPOSED = (
    "filters kernel_size strides padding output_padding data_format dilation_rate activation "
    "use_bias"
)
TRANSPOSED_3D = TRANSPOSED.replace("output_padding data_format", "data_format output_padding")
DEPTHWISE = (
    "kernel_size strides padding depth_multiplier data_format dilation_rate activation use_bias"
)
SEPARABLE = (
    "filters kernel_size strides padding data_format dilation_rate depth_multiplier activation "
    "use_bias"
)
POOL = "pool_size strides padding data_format name"
GLOBAL = "data_format keepdims"
ADAPTIVE = "output_size data_format"
RECURRENT = "units activation recurrent_activation use_bias"
ACROSS = "height_factor width_factor fill_mode interpolation seed fill_value data_format"

#: Class -> names of its positional arguments, in order, as far as people write them by position.
SIGNATURES: dict[str, str] = {
    **{f"Conv{rank}D": CONV for rank in (1, 2, 3)},
    **{f"Convolution{rank}D": CONV for rank in (1, 2, 3)},
    "Conv1DTranspose": TRANSPOSED,
    "Conv2DTranspose": TRANSPOSED,
    "Conv3DTranspose": TRANSPOSED_3D,
    **{f"DepthwiseConv{rank}D": DEPTHWISE for rank in (1, 2)},
    **{f"SeparableConv{rank}D": SEPARABLE for rank in (1, 2)},
    **{f"{kind}Pooling{rank}D": POOL for kind in ("Max", "Average") for rank in (1, 2, 3)},
    **{f"Global{kind}Pooling{rank}D": GLOBAL for kind in ("Max", "Average") for rank in (1, 2, 3)},
    **{
        f"Adaptive{kind}Pooling{rank}D": ADAPTIVE
        for kind in ("Max", "Average")
        for rank in (1, 2, 3)
    },
    "Dense": "units activation use_bias",
    "EinsumDense": "equation output_shape activation bias_axes",
    "MultiHeadAttention": "num_heads key_dim value_dim dropout use_bias output_shape",
    "GroupQueryAttention": "head_dim num_query_heads num_key_value_heads dropout use_bias",
    "Attention": "use_scale score_mode dropout seed",
    "AdditiveAttention": "use_scale dropout",
    "Embedding": "input_dim output_dim",
    "BatchNormalization": "axis momentum epsilon center scale",
    "LayerNormalization": "axis epsilon center scale",
    "GroupNormalization": "groups axis epsilon center scale",
    "RMSNormalization": "axis epsilon",
    "UnitNormalization": "axis",
    "SpectralNormalization": "layer power_iterations",
    "Rescaling": "scale offset",
    "Normalization": "axis mean variance invert",
    "Activation": "activation",
    "ReLU": "max_value negative_slope threshold",
    "LeakyReLU": "negative_slope",
    "ThresholdedReLU": "theta",
    "ELU": "alpha",
    "Softmax": "axis",
    "PReLU": "",
    "Dropout": "rate noise_shape seed",
    "AlphaDropout": "rate noise_shape seed",
    "GaussianDropout": "rate seed",
    "GaussianNoise": "stddev seed",
    "SpatialDropout1D": "rate seed name dtype",
    "SpatialDropout2D": "rate data_format seed name dtype",
    "SpatialDropout3D": "rate data_format seed name dtype",
    "ActivityRegularization": "l1 l2",
    "Masking": "mask_value",
    **dict.fromkeys(("Identity", "Add", "Subtract", "Multiply", "Average"), ""),
    **dict.fromkeys(("Maximum", "Minimum"), ""),
    "Concatenate": "axis",
    "Dot": "axes normalize",
    "Reshape": "target_shape",
    "Flatten": "data_format",
    "Permute": "dims",
    "RepeatVector": "n",
    "ZeroPadding1D": "padding data_format",
    "ZeroPadding2D": "padding data_format",
    "ZeroPadding3D": "padding data_format",
    "Cropping1D": "cropping",
    "Cropping2D": "cropping data_format",
    "Cropping3D": "cropping data_format",
    "UpSampling1D": "size",
    "UpSampling2D": "size data_format interpolation",
    "UpSampling3D": "size data_format",
    "Resizing": "height width interpolation",
    "CenterCrop": "height width data_format",
    "RandomCrop": "height width seed data_format name",
    "RandomFlip": "mode seed data_format",
    "RandomRotation": "factor fill_mode interpolation seed fill_value data_format",
    "RandomTranslation": ACROSS,
    "RandomZoom": ACROSS,
    "RandomContrast": "factor value_range seed",
    "RandomBrightness": "factor value_range seed",
    "RandomHue": "factor value_range data_format seed",
    "RandomSaturation": "factor value_range data_format seed",
    "LSTM": RECURRENT,
    "GRU": RECURRENT,
    "SimpleRNN": "units activation use_bias",
    "Bidirectional": "layer merge_mode weights backward_layer",
    "TimeDistributed": "layer",
    "Lambda": "function output_shape mask arguments",
    "ConvLSTM2D": CONV.replace(" groups", ""),
}


def canonical(type_: str) -> str:
    """A class by its first name: "MaxPooling2D" for "MaxPool2D"."""
    found = re.sub(r"(?<=Max|Avg)Pool(?=\dD)", "Pooling", type_).replace("Avg", "Average")
    return found.replace("Convolution", "Conv")


#: Settings without which the reader would not know the class's default.
DEFAULTS: dict[str, dict[str, object]] = {
    "ZeroPadding1D": {"padding": 1},
    "ZeroPadding2D": {"padding": 1},
    "ZeroPadding3D": {"padding": 1},
    "Cropping1D": {"cropping": [1, 1]},
    "Cropping2D": {"cropping": [[0, 0], [0, 0]]},
    "Cropping3D": {"cropping": [[1, 1], [1, 1], [1, 1]]},
}

#: Keywords that every layer takes.
COMMON = frozenset(
    {
        "name", "dtype", "trainable", "autocast", "input_shape", "batch_input_shape", "input_dim",
        "input_length", "batch_size", "weights", "dynamic", "implementation", "unroll", "seed",
        "stateful", "go_backwards", "dropout", "recurrent_dropout", "return_sequences",
        "return_state", "reset_after", "unit_forget_bias", "time_major", "mask_zero", "epsilon",
        "momentum", "fused", "renorm", "renorm_clipping", "renorm_momentum", "virtual_batch_size",
        "shared_axes", "rms_scaling", "synchronized", "groups", "use_cudnn", "value_dim",
        "flash_attention", "crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias", "keepdims",
        "sparse", "lora_rank", "use_gate", "fill_value", "fill_mode", "interpolation",
        "data_format", "value_range", "alpha", "cast_dtype", "attention_axes", "mean", "variance",
    }
)  # fmt: skip

#: Keywords that change no shape and no count, by their endings.
IRRELEVANT = ("_initializer", "_regularizer", "_constraint", "_init")
DROPPED = frozenset({"weights", "dtype", "seed", "autocast", "arguments", "mask"})

#: Older spellings -> today's.
RENAMED = {("LeakyReLU", "alpha"): "negative_slope", ("Dropout", "p"): "rate"}

#: Functions of keras.layers that are a layer at once.
MERGES = {
    "add": "Add",
    "subtract": "Subtract",
    "multiply": "Multiply",
    "average": "Average",
    "maximum": "Maximum",
    "minimum": "Minimum",
    "concatenate": "Concatenate",
    "dot": "Dot",
}

#: Functions on tensors, by what stands behind keras.ops, keras.backend, keras.activations, tf, ...
#: -> (class that the Keras reader knows, names of the arguments behind the tensors).
OPS: dict[str, tuple[str, str]] = {
    **{
        name: (kind, "")
        for name, kind in {
            "add": "Add", "subtract": "Subtract", "multiply": "Multiply", "divide": "Divide",
            "maximum": "Maximum", "minimum": "Minimum", "matmul": "Matmul", "relu": "Relu",
            "relu6": "Relu6", "sigmoid": "Sigmoid", "tanh": "Tanh", "silu": "Silu",
            "swish": "Silu", "gelu": "Gelu", "elu": "Elu", "selu": "Selu", "exp": "Exp",
            "leaky_relu": "LeakyRelu", "softplus": "Softplus", "softmax": "Softmax",
            "log_softmax": "LogSoftmax", "hard_sigmoid": "HardSigmoid", "sqrt": "Sqrt",
            "square": "Square", "abs": "Abs", "negative": "Negative", "log": "Log",
            "hard_swish": "HardSilu", "hard_silu": "HardSilu", "identity": "Identity",
            "stop_gradient": "Identity", "cast": "Identity", "truediv": "Divide",
            "clip_by_value": "Clip", "clip": "Clip", "dropout": "Identity",
        }.items()
    },
    **{
        name: (kind, "axis keepdims")
        for name, kind in {
            "mean": "Mean", "sum": "Sum", "max": "Max", "min": "Min", "reduce_mean": "Mean",
            "reduce_sum": "Sum", "reduce_max": "Max", "reduce_min": "Min",
        }.items()
    },
    "concat": ("Concatenate", "axis"),
    "concatenate": ("Concatenate", "axis"),
    "reshape": ("Reshape", "newshape"),
    "transpose": ("Transpose", "axes"),
    "permute_dimensions": ("Transpose", "axes"),
    "expand_dims": ("ExpandDims", "axis"),
    "squeeze": ("Squeeze", "axis"),
    "split": ("Split", "indices_or_sections axis"),
}  # fmt: skip

#: Operators of Python on tensors -> class.
OPERATORS = {
    "+": "Add",
    "-": "Subtract",
    "*": "Multiply",
    "/": "TrueDivide",
    "**": "Power",
    "@": "Matmul",
}
