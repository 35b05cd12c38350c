"""Random Keras networks: every layer's shape, parameters and multiplications equal Keras'.

CONVCALC_RANDOM_NETWORKS sets how many are drawn (300 unless told otherwise).
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from convcalc.readers.keras import read_config

keras = pytest.importorskip("keras")
sys.path.insert(0, str(Path(__file__).parents[1]))
import keras_oracle  # noqa: E402
from keras import layers as kl  # noqa: E402
from keras.src.layers.convolutional.base_conv import BaseConv  # noqa: E402
from keras.src.layers.convolutional.base_conv_transpose import BaseConvTranspose  # noqa: E402
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv  # noqa: E402
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv  # noqa: E402

NETWORKS = int(os.environ.get("CONVCALC_RANDOM_NETWORKS", "300"))
BLOCK = 50
ACTIVATIONS = [None, "relu", "linear", "gelu", "silu", "softmax", "hard_sigmoid", "elu"]


def first_input(layer: Any) -> Any:
    """What a layer was called on first."""
    return layer._inbound_nodes[0].input_tensors[0]


class Generator:
    """Draws layers onto a pool of tensors; what Keras refuses is drawn again."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.rank = self.draw.choice((1, 2, 2, 3))
        self.first = self.draw.random() < 0.2
        self.format = "channels_first" if self.first else "channels_last"

    def each(self, *choices: int) -> Any:
        """One number for all axes, or one for each."""
        if self.draw.random() < 0.5:
            return self.draw.choice(choices)
        return tuple(self.draw.choice(choices) for _ in range(self.rank))

    def layer(self, shape: tuple[Any, ...]) -> Any:
        """A layer for an input of that shape (batch included)."""
        draw, rank = self.draw, self.rank
        channels = shape[1 if self.first else -1]
        divisors = [g for g in (1, 2, 3, 4, 6) if channels % g == 0]
        common = {"trainable": draw.random() < 0.9}
        window = {
            "kernel_size": self.each(1, 2, 3, 4, 5),
            "padding": draw.choice(("same", "valid")),
            "data_format": self.format,
            "use_bias": draw.random() < 0.7,
            "activation": draw.choice(ACTIVATIONS),
            **common,
        }
        if draw.random() < 0.6:
            window["strides"] = self.each(1, 2, 3)
        else:
            window["dilation_rate"] = self.each(1, 2, 3)
        axis = 1 if self.first else -1
        kind = draw.choice(
            ("conv", "conv", "conv", "depthwise", "separable", "transposed", "transposed", "pool",
             "pad", "crop", "up", "batch_norm", "norm", "activation", "dropout", "prelu", "permute",
             "reshape")
        )  # fmt: skip
        if kind == "conv":
            groups = draw.choice(divisors)
            if rank == 1 and not self.first and draw.random() < 0.2:
                window["padding"] = "causal"
            filters = groups * draw.randint(1, 4)
            return getattr(kl, f"Conv{rank}D")(filters, groups=groups, **window)
        if kind in ("depthwise", "separable") and rank < 3:
            for key in ("strides", "dilation_rate"):
                # Keras' depthwise layers take one number for each, but only equal strides in 2D.
                if isinstance(window.get(key), tuple):
                    window[key] = window[key][0]
            window["depth_multiplier"] = draw.randint(1, 3)
            if kind == "depthwise":
                return getattr(kl, f"DepthwiseConv{rank}D")(**window)
            return getattr(kl, f"SeparableConv{rank}D")(draw.randint(1, 6), **window)
        if kind == "transposed":
            if draw.random() < 0.4:
                strides = window.get("strides", 1)
                low = min(strides) if isinstance(strides, tuple) else strides
                window["output_padding"] = draw.randrange(low)
            return getattr(kl, f"Conv{rank}DTranspose")(draw.randint(1, 6), **window)
        if kind == "pool":
            name = draw.choice(("MaxPooling", "AveragePooling"))
            strides = draw.choice((None, 1, 2, 3))
            return getattr(kl, f"{name}{rank}D")(
                self.each(1, 2, 3),
                strides=strides,
                padding=window["padding"],
                data_format=self.format,
            )
        if kind in ("pad", "crop"):
            pairs = tuple((draw.randint(0, 2), draw.randint(0, 2)) for _ in range(rank))
            sides = pairs[0] if rank == 1 else pairs
            if kind == "pad":
                return getattr(kl, f"ZeroPadding{rank}D")(sides, data_format=self.format)
            more = {} if rank == 1 else {"data_format": self.format}
            if rank == 1 and self.first:
                return kl.Identity()
            return getattr(kl, f"Cropping{rank}D")(sides, **more)
        if kind == "up":
            if rank == 1:
                return kl.Identity() if self.first else kl.UpSampling1D(draw.randint(1, 2))
            return getattr(kl, f"UpSampling{rank}D")(self.each(1, 2), data_format=self.format)
        if kind == "batch_norm":
            return kl.BatchNormalization(
                axis=axis, scale=draw.random() < 0.7, center=draw.random() < 0.7, **common
            )
        if kind == "norm":
            return draw.choice(
                (
                    lambda: kl.LayerNormalization(
                        axis=draw.choice((axis, [1, 2])), scale=draw.random() < 0.7, **common
                    ),
                    lambda: kl.GroupNormalization(draw.choice(divisors), axis=axis, **common),
                    lambda: kl.RMSNormalization(axis=axis, **common),
                    lambda: kl.UnitNormalization(axis=axis),
                    lambda: kl.Rescaling(0.5, 1),
                    lambda: kl.Normalization(axis=axis),
                )
            )()
        if kind == "dropout":
            return draw.choice((kl.Dropout, kl.GaussianNoise, kl.GaussianDropout))(0.3)
        if kind == "prelu":
            return kl.PReLU(shared_axes=draw.choice((None, [1], [1, 2])), **common)
        if kind == "permute":
            order = list(range(1, rank + 2))
            draw.shuffle(order)
            return kl.Permute(tuple(order))
        if kind == "reshape":
            sizes = list(shape[1:])
            draw.shuffle(sizes)
            if draw.random() < 0.5:
                sizes[draw.randrange(len(sizes))] = -1
            return kl.Reshape(sizes)
        return draw.choice((kl.ReLU, kl.LeakyReLU, kl.ELU, kl.Softmax, kl.Identity))()

    def head(self, x: Any) -> Any:
        """What comes behind the last feature map, or nothing."""
        draw = self.draw
        kind = draw.choice(("flatten", "global", "attention", "recurrent", "none", "many"))
        if kind == "flatten":
            return kl.Dense(draw.randint(1, 9), activation=draw.choice(ACTIVATIONS))(
                kl.Flatten(data_format=self.format)(x)
            )
        if kind == "global":
            name = draw.choice(("GlobalAveragePooling", "GlobalMaxPooling"))
            pool = getattr(kl, f"{name}{self.rank}D")
            return pool(data_format=self.format, keepdims=draw.random() < 0.5)(x)
        if kind == "attention" and not self.first:
            steps = kl.Reshape((-1, x.shape[-1]))(x)
            output = draw.choice((None, 5))
            attention = kl.MultiHeadAttention(
                draw.randint(1, 3), draw.randint(1, 4), value_dim=draw.choice((None, 3)),
                output_shape=output, use_bias=draw.random() < 0.5,
            )  # fmt: skip
            return (
                attention(steps, steps)
                if draw.random() < 0.5
                else attention(query=steps, value=kl.Dense(4)(steps))
            )
        if kind == "many" and not self.first:
            return kl.Dense(draw.randint(1, 5), use_bias=draw.random() < 0.5)(x)
        return x

    def model(self, shape: tuple[int, ...], layers: int, depth: int = 0) -> Any:
        """A functional or Sequential model on inputs of that shape."""
        draw = self.draw
        sequential = draw.random() < (0.3 if depth else 0.15)
        inputs = [keras.Input(shape)]
        if not sequential and not depth and draw.random() < 0.2:
            inputs.append(keras.Input(shape))
        pool = list(inputs)
        made: list[Any] = []
        chain: list[Any] = []
        used: set[int] = set()
        tries = 0
        while len(made) < layers and tries < 10 * layers:
            tries += 1
            x = pool[-1] if sequential or draw.random() < 0.7 else draw.choice(pool)
            chance = draw.random()
            if not sequential and chance < 0.15:
                alike = [t for t in pool if t.shape == x.shape]
                parts = draw.sample(alike, min(len(alike), draw.randint(2, 3)))
                if len(parts) < 2:
                    continue
                merges = [kl.Add, kl.Multiply, kl.Average, kl.Maximum, kl.Minimum]
                axis = draw.randint(1, self.rank + 1)
                layer = draw.choice([*(m() for m in merges), kl.Concatenate(axis=axis)])
                given: Any = parts
            elif not sequential and chance < 0.22 and made:
                layer, given = draw.choice(made), x
                # Keras looks only at the channels of windows when it calls a layer again.
                windows = (BaseConv, BaseDepthwiseConv, BaseSeparableConv, BaseConvTranspose)
                if (
                    not isinstance(layer, windows)
                    and getattr(first_input(layer), "shape", None) != x.shape
                ):
                    continue
            elif chance < 0.3 and depth < 2:
                layer, given = self.model(tuple(x.shape[1:]), draw.randint(1, 3), depth + 1), x
                layer.trainable = draw.random() < 0.85
            else:
                layer, given = self.layer(x.shape), x
            try:
                y = layer(given)
            except (ValueError, TypeError, ZeroDivisionError, NotImplementedError):
                continue
            volume = 1
            for size in y.shape[1:]:
                volume *= size
            if len(y.shape) != self.rank + 2 or not 0 < volume < 60_000 or min(y.shape[1:]) < 1:
                continue
            used.update(id(t) for t in (given if isinstance(given, list) else [given]))
            pool.append(y)
            made.append(layer)
            chain.append(layer)
        if sequential:
            # A shared layer has no place in a chain; a refused one was never added.
            return keras.Sequential([inputs[0], *chain])
        ends = [t for t in pool[len(inputs) :] if id(t) not in used] or [pool[-1]]
        if depth:
            ends = ends[-1:]
        else:
            ends[-1] = self.head(ends[-1])
        return keras.Model(
            inputs if len(inputs) > 1 else inputs[0], ends if len(ends) > 1 else ends[0]
        )


@pytest.mark.parametrize("block", range((NETWORKS + BLOCK - 1) // BLOCK))
def test_random_networks_equal_keras(block: int) -> None:
    for seed in range(block * BLOCK, min((block + 1) * BLOCK, NETWORKS)):
        generator = Generator(seed)
        sizes = tuple(generator.draw.randint(4, 12) for _ in range(generator.rank))
        channels = generator.draw.randint(1, 6)
        shape = (channels, *sizes) if generator.first else (*sizes, channels)
        model = generator.model(shape, generator.draw.randint(2, 9))
        config = model.to_json()
        try:
            keras_oracle.check(model, read_config(config))
        except Exception as error:
            raise AssertionError(f"network {seed}: {error}\n{config[:3000]}") from error
        if seed % 10 == 0:
            keras.utils.clear_session()
