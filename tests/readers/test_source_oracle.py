"""Pasted code as tutorials write it, against Keras and PyTorch, which run the very same text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from convcalc.analysis.costs import analyze
from convcalc.network import Network
from convcalc.readers.source import load_source

SNIPPETS = Path(__file__).parents[1] / "data" / "source"
sys.path.insert(0, str(Path(__file__).parents[1]))

#: Keras counts a layer of one's own as one row; here each layer within it is one.
OWN_LAYERS = {"keras_custom_layer_class", "keras_subclass_quickstart"}
#: Layers within layers and cells, whose multiplications the oracle does not know.
UNCOUNTED = {"keras_cnn_lstm", "keras_crop_pad"}
#: Keras' attention makes layers within itself, which count in the names of later ones.
NAMED = {"keras_attention_patches"}


def snippets(framework: str) -> list[Any]:
    return [pytest.param(path, id=path.stem) for path in sorted(SNIPPETS.glob(f"{framework}_*.py"))]


def header(text: str, key: str) -> str | None:
    """What a snippet's first lines say: ``# input: 28x28x1``, ``# model: net``."""
    start = f"# {key}: "
    return next((line[len(start) :] for line in text.split("\n") if line.startswith(start)), None)


def read(path: Path) -> Network:
    text = path.read_text(encoding="utf-8")
    size = header(text, "input")
    return load_source(text, input=None if size is None else tuple(map(int, size.split("x"))))


def executed(path: Path, names: dict[str, Any]) -> Any:
    """The model that the framework itself builds from the part in front of ``# train``."""
    text = path.read_text(encoding="utf-8")
    names = {"__name__": "__main__", **names}
    exec(compile(text.split("\n# train\n")[0], str(path), "exec"), names)
    return eval(header(text, "model") or "model", names)


# Tutorials give the first layer its input_shape, of which Keras 3 disapproves.
@pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`")
@pytest.mark.parametrize("path", snippets("keras"))
def test_keras(path: Path) -> None:
    keras = pytest.importorskip("keras")
    import keras_oracle
    import numpy as np

    def sequential_of(shape: tuple[int, ...], layers: list[Any]) -> Any:
        return keras.Sequential([keras.Input(shape), *layers])

    def functional_of(shape: tuple[int, ...], layer: Any) -> Any:
        start = keras.Input(shape)
        return keras.Model(start, layer.call(start))

    keras.utils.clear_session()
    names = {"sequential_of": sequential_of, "functional_of": functional_of}
    names |= {"Conv2D": keras.layers.Conv2D, "data": [np.zeros((4, 32, 32, 3))]}
    model = executed(path, names)
    net = read(path)
    report = analyze(net)
    assert report.status == "complete"
    assert report.totals.params == model.count_params()
    assert report.totals.trainable_params == keras_oracle.size_of(model.trainable_weights)
    made = [net.tensors[name].shape for name in net.outputs]
    assert made == [keras_oracle.full(tensor) for tensor in model.outputs]
    built_anew = "(" in (header(path.read_text(encoding="utf-8"), "model") or "")
    if path.stem not in OWN_LAYERS | UNCOUNTED | NAMED and not built_anew:
        keras_oracle.check(model, net)


@pytest.mark.parametrize("path", snippets("torch"))
def test_torch(path: Path) -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    model = executed(path, {"torch": torch, "nn": torch.nn, "F": torch.nn.functional}).eval()
    net = read(path)
    ((_, *dims),) = (spec.dims for spec in net.inputs.values())
    if any(map(torch.nn.parameter.is_lazy, model.parameters())):
        model(torch.zeros(1, *dims))
    # Nothing is computed there, and recurrent layers are products that the counter sees.
    model.to("meta")
    with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter:
        outputs = model(torch.zeros(1, *dims))
    made = [net.tensors[name].shape for name in net.outputs]
    wanted = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    assert made == [tuple(tensor.shape) for tensor in wanted]
    report = analyze(net)
    assert report.status == "complete"
    parameters = list(model.parameters())
    statistics = [
        b for name, b in model.named_buffers() if not name.endswith("num_batches_tracked")
    ]
    assert report.totals.params == sum(v.numel() for v in [*parameters, *statistics])
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    assert report.totals.trainable_params == trainable
    assert report.totals.macs * 2 == counter.get_total_flops()
    modules = {name: type(module).__name__ for name, module in model.named_modules()}
    for op in net.ops:
        if op.layer in modules and op.layer:
            assert op.layer_type == modules[op.layer].removeprefix("Lazy")
