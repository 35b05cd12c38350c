"""Two reports side by side, layer by layer where they correspond."""

from __future__ import annotations

from difflib import SequenceMatcher

from convcalc.report import Layer, Model, Report, Settings, schema


@schema
class Pair(Model):
    """A layer of each side; null where the other side has no such layer."""

    left: Layer | None
    right: Layer | None


@schema
class Difference(Model):
    """One total on both sides; peaks are there where both sides have one."""

    quantity: str
    left: int
    right: int


@schema
class Comparison(Model):
    """Totals, memory by the book and by the engines, and the layers that differ."""

    left: str
    right: str
    left_settings: Settings
    right_settings: Settings
    totals: list[Difference]
    layers: list[Pair]
    same_layers: int


def compare(left: Report, right: Report) -> Comparison:
    """What differs between two analyses.

    Layers correspond by name; in networks that name them differently, by type and output shape.
    """
    totals = [
        Difference(quantity=name, left=value, right=getattr(right.totals, name))
        for name, value in left.totals.model_dump().items()
    ]
    totals += [
        Difference(
            quantity=f"textbook_{name}",
            left=getattr(left.memory.textbook, name),
            right=getattr(right.memory.textbook, name),
        )
        for name in ("inference_bytes", "training_bytes")
    ]
    for mode in ("inference", "training"):
        sides = [getattr(report.memory, mode) for report in (left, right)]
        if None not in sides:
            totals.append(
                Difference(
                    quantity=f"{mode}_peak_bytes",
                    left=sides[0].peak_bytes,
                    right=sides[1].peak_bytes,
                )
            )
    pairs = aligned(left.layers, right.layers)
    return Comparison(
        left=left.network,
        right=right.network,
        left_settings=left.settings,
        right_settings=right.settings,
        totals=totals,
        layers=[pair for pair in pairs if pair.left != pair.right],
        same_layers=sum(pair.left == pair.right for pair in pairs),
    )


def aligned(left: list[Layer], right: list[Layer]) -> list[Pair]:
    """Corresponding layers, in order, with those that only one side has between them."""
    common = {layer.name for layer in left} & {layer.name for layer in right}
    if 2 * len(common) >= min(len(left), len(right)):
        keys = [[layer.name for layer in side] for side in (left, right)]
    else:
        keys = [[f"{layer.type} {layer.output_shape}" for layer in side] for side in (left, right)]
    pairs: list[Pair] = []
    matcher = SequenceMatcher(None, keys[0], keys[1], autojunk=False)
    for tag, i, j, m, n in matcher.get_opcodes():
        if tag == "equal":
            pairs += [Pair(left=a, right=b) for a, b in zip(left[i:j], right[m:n], strict=True)]
        else:
            pairs += [Pair(left=layer, right=None) for layer in left[i:j]]
            pairs += [Pair(left=None, right=layer) for layer in right[m:n]]
    return pairs
