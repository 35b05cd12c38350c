"""The classics that `keras.applications` lacks, written down as specs, each with its source.

Where a paper leaves room, torchvision's reading is taken, so that its published counts must come
out (batch-norm statistics, which we count and torchvision does not, apart).
"""

from __future__ import annotations

from typing import Any

Layers = list[dict[str, Any] | str]


def conv(filters: int, kernel: int, name: str, **more: Any) -> dict[str, Any]:
    fields = {key: more.pop(key) for key in ("from",) if key in more}
    fields |= {"from": more.pop("source")} if "source" in more else {}
    return {"conv": {"filters": filters, "kernel": kernel, **more}, "name": name, **fields}


def seed_layer() -> dict[str, Any]:
    layer = {"filters": 200, "kernel": 5, "stride": 1, "padding": "same"}
    return {"input": [150, 100, 3], "layers": [{"conv": layer, "name": "conv"}]}


def lenet5() -> dict[str, Any]:
    return {
        "input": [28, 28, 1],
        "layers": [
            {"conv": {"filters": 6, "kernel": 5, "padding": "same", "activation": "tanh"}},
            {"average_pool": 2},
            {"conv": {"filters": 16, "kernel": 5, "activation": "tanh"}},
            {"average_pool": 2},
            {"conv": {"filters": 120, "kernel": 5, "activation": "tanh"}},
            "flatten",
            {"dense": {"units": 84, "activation": "tanh"}},
            {"dense": {"units": 10, "activation": "softmax"}},
        ],
    }


def mnist_convnet() -> dict[str, Any]:
    return {
        "input": [28, 28, 1],
        "layers": [
            {"conv": {"filters": 32, "kernel": 3, "activation": "relu"}},
            {"max_pool": 2},
            {"conv": {"filters": 64, "kernel": 3, "activation": "relu"}},
            {"max_pool": 2},
            "flatten",
            {"dropout": 0.5},
            {"dense": {"units": 10, "activation": "softmax"}},
        ],
    }


def alexnet() -> dict[str, Any]:
    relu = {"activation": "relu"}
    pool = {"max_pool": {"kernel": 3, "stride": 2}}
    return {
        "input": [224, 224, 3],
        "layers": [
            conv(64, 11, "conv1", stride=4, padding=2, **relu),
            pool,
            conv(192, 5, "conv2", padding=2, **relu),
            pool,
            conv(384, 3, "conv3", padding=1, **relu),
            conv(256, 3, "conv4", padding=1, **relu),
            conv(256, 3, "conv5", padding=1, **relu),
            pool,
            {"adaptive_pool": 6},
            "flatten",
            {"dropout": 0.5},
            {"dense": {"units": 4096, **relu}, "name": "fc6"},
            {"dropout": 0.5},
            {"dense": {"units": 4096, **relu}, "name": "fc7"},
            {"dense": {"units": 1000}, "name": "fc8"},
        ],
    }


def squeezenet() -> dict[str, Any]:
    layers: Layers = [conv(96, 7, "conv1", stride=2, activation="relu")]
    pool = {"max_pool": {"kernel": 3, "stride": 2, "ceil_mode": True}}
    fires = [(16, 64), (16, 64), (32, 128), None, (32, 128), (48, 192), (48, 192), (64, 256), None]
    fires.append((64, 256))
    layers.append(pool)
    number = 1
    for fire in fires:
        if fire is None:
            layers.append(pool)
            continue
        number += 1
        squeeze, expand = fire
        name = f"fire{number}"
        layers += [
            conv(squeeze, 1, f"{name}/squeeze", activation="relu"),
            conv(expand, 1, f"{name}/expand1", activation="relu"),
            conv(
                expand,
                3,
                f"{name}/expand3",
                padding=1,
                activation="relu",
                source=f"{name}/squeeze",
            ),
            {
                "concat": {},
                "name": f"{name}/concat",
                "from": [f"{name}/expand1", f"{name}/expand3"],
            },
        ]
    layers += [
        {"dropout": 0.5},
        conv(1000, 1, "classifier", activation="relu"),
        {"global_pool": {}},
    ]
    return {"input": [224, 224, 3], "layers": layers}


def normed(filters: int, kernel: int, name: str, relu: bool = True, **more: Any) -> Layers:
    """conv, batch norm, ReLU; the last one is called `name`."""
    first = conv(filters, kernel, f"{name}/conv", bias=False, **more)
    layers: Layers = [first, {"batch_norm": {}, "name": f"{name}/bn" if relu else name}]
    if relu:
        layers.append({"activation": "relu", "name": name})
    return layers


def resnet(blocks: tuple[int, ...]) -> dict[str, Any]:
    """ResNet of basic blocks (18, 34): the stride in the first 3x3 of a stage."""
    layers = normed(64, 7, "stem", stride=2, padding=3)
    layers.append({"max_pool": {"kernel": 3, "stride": 2, "padding": 1}, "name": "pool"})
    source = "pool"
    for stage, count in enumerate(blocks):
        filters = 64 * 2**stage
        for index in range(count):
            stride = 2 if stage and not index else 1
            name = f"layer{stage + 1}/{index}"
            layers += normed(filters, 3, f"{name}/a", stride=stride, padding=1, source=source)
            layers += normed(filters, 3, f"{name}/b", relu=False, padding=1)
            shortcut = source
            if stride == 2:
                shortcut = f"{name}/shortcut"
                layers += normed(filters, 1, shortcut, relu=False, stride=stride, source=source)
            layers.append({"add": {}, "name": f"{name}/add", "from": [f"{name}/b", shortcut]})
            source = f"{name}/relu"
            layers.append({"activation": "relu", "name": source})
    layers += [{"global_pool": {}}, {"dense": {"units": 1000}, "name": "fc"}]
    return {"input": [224, 224, 3], "layers": layers}


def googlenet() -> dict[str, Any]:
    """GoogLeNet with batch norm and a 3x3 in the place of the 5x5, as torchvision builds it."""
    layers = normed(64, 7, "conv1", stride=2, padding=3)
    half = {"kernel": 3, "stride": 2, "ceil_mode": True}
    layers.append({"max_pool": half, "name": "pool1"})
    layers += normed(64, 1, "conv2")
    layers += normed(192, 3, "conv3", padding=1)
    layers.append({"max_pool": half, "name": "pool2"})
    widths = {
        "3a": (64, 96, 128, 16, 32, 32),
        "3b": (128, 128, 192, 32, 96, 64),
        "pool3": None,
        "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
        "pool4": None,
        "5a": (256, 160, 320, 32, 128, 128),
        "5b": (384, 192, 384, 48, 128, 128),
    }
    source = "pool2"
    for name, width in widths.items():
        if width is None:
            kernel = 2 if name == "pool4" else 3
            layers.append({"max_pool": {**half, "kernel": kernel}, "name": name})
            source = name
            continue
        one, reduce3, three, reduce5, five, pooled = width
        block = f"inception{name}"
        layers += normed(one, 1, f"{block}/1", source=source)
        layers += normed(reduce3, 1, f"{block}/2a", source=source)
        layers += normed(three, 3, f"{block}/2", padding=1)
        layers += normed(reduce5, 1, f"{block}/3a", source=source)
        layers += normed(five, 3, f"{block}/3", padding=1)
        pool = {"kernel": 3, "stride": 1, "padding": 1, "ceil_mode": True}
        layers.append({"max_pool": pool, "name": f"{block}/pool", "from": source})
        layers += normed(pooled, 1, f"{block}/4")
        source = f"{block}/concat"
        branches = [f"{block}/{branch}" for branch in (1, 2, 3, 4)]
        layers.append({"concat": {}, "name": source, "from": branches})
    layers += [{"global_pool": {}}, {"dropout": 0.2}, {"dense": {"units": 1000}, "name": "fc"}]
    return {"input": [224, 224, 3], "layers": layers}


def unet() -> dict[str, Any]:
    """The U-Net of the paper: unpadded 3x3 convolutions, the skips cropped to fit."""
    layers: Layers = []
    skips: list[tuple[str, int]] = []
    size = 572
    relu = {"activation": "relu"}
    for level, filters in enumerate((64, 128, 256, 512, 1024)):
        name = f"down{level + 1}"
        layers += [conv(filters, 3, f"{name}/a", **relu), conv(filters, 3, f"{name}/b", **relu)]
        size -= 4
        if filters < 1024:
            skips.append((f"{name}/b", size))
            layers.append({"max_pool": 2, "name": f"{name}/pool"})
            size //= 2
    for level, filters in zip((4, 3, 2, 1), (512, 256, 128, 64), strict=True):
        name = f"up{level}"
        transposed = {"filters": filters, "kernel": 2, "stride": 2}
        layers.append({"conv_transpose": transposed, "name": f"{name}/up"})
        size *= 2
        skip, width = skips.pop()
        cut = (width - size) // 2
        layers += [
            {"crop": cut, "name": f"{name}/crop", "from": skip},
            {"concat": {}, "name": f"{name}/concat", "from": [f"{name}/crop", f"{name}/up"]},
            conv(filters, 3, f"{name}/a", **relu),
            conv(filters, 3, f"{name}/b", **relu),
        ]
        size -= 4
    layers.append(conv(2, 1, "classes"))
    return {"input": [572, 572, 1], "layers": layers}


#: name -> (spec, source)
CLASSICS = {
    "seed_layer": (seed_layer, "the textbook layer: 5x5, 200 filters, 150x100 RGB"),
    "lenet5": (lenet5, "LeCun et al. 1998, on 28x28"),
    "mnist_convnet": (mnist_convnet, "Keras' example 'Simple MNIST convnet'"),
    "alexnet": (alexnet, "Krizhevsky 2014, one tower, as in torchvision"),
    "googlenet": (googlenet, "Szegedy et al. 2014, as in torchvision, without auxiliary heads"),
    "squeezenet": (squeezenet, "Iandola et al. 2016, version 1.0"),
    "resnet18": (lambda: resnet((2, 2, 2, 2)), "He et al. 2015, as in torchvision"),
    "resnet34": (lambda: resnet((3, 4, 6, 3)), "He et al. 2015, as in torchvision"),
    "unet": (unet, "Ronneberger et al. 2015, 572x572, unpadded"),
}
