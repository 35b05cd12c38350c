"""The documentation's drawings, as SVG written here, and the pictures that convcalc makes itself.

    .venv/bin/python scripts/docs_drawings.py    # writes docs/images

Everything that is drawn to scale or carries a number takes it from the program or from a record.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"

# Distinct also without colour vision (Okabe and Ito).
BLUE, SKY, ORANGE, GREEN, PINK = "#0072b2", "#56b4e9", "#e69f00", "#009e73", "#cc79a7"
INK, FAINT, PAPER = "#222222", "#bbbbbb", "#ffffff"


class Drawing:
    """Shapes on a white panel, so that it reads on a light and on a dark page."""

    def __init__(self, width: int, height: int, label: str) -> None:
        self.size = width, height
        self.label = label
        self.parts: list[str] = []

    def rect(
        self, x: float, y: float, w: float, h: float, fill: str = "none", stroke: str = INK,
        width: float = 1, dashed: bool = False, opacity: float = 1,
    ) -> None:  # fmt: skip
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        clear = f' fill-opacity="{opacity:g}"' if opacity != 1 else ""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" fill="{fill}"{clear} '
            f'stroke="{stroke}" stroke-width="{width:g}"{dash}/>'
        )

    def line(
        self, x: float, y: float, to_x: float, to_y: float, stroke: str = INK, width: float = 1
    ) -> None:
        self.parts.append(
            f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" stroke="{stroke}" '
            f'stroke-width="{width:g}"/>'
        )

    def dot(self, x: float, y: float, fill: str, radius: float = 8) -> None:
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{fill}"/>')

    def text(
        self, x: float, y: float, text: str, anchor: str = "start", size: int = 14,
        fill: str = INK,
    ) -> None:  # fmt: skip
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" '
            f'fill="{fill}">{escape(text)}</text>'
        )

    def svg(self) -> str:
        width, height = self.size
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" '
            f'aria-label="{escape(self.label, {chr(34): "&quot;"})}" '
            'font-family="system-ui, sans-serif">\n'
            f'<rect width="{width}" height="{height}" rx="6" fill="{PAPER}"/>\n{body}\n</svg>\n'
        )


def connections() -> Drawing:
    """A fully connected layer beside a convolution, in one dimension."""
    inputs, kernel = 7, 3
    neurons = inputs - kernel + 1
    drawing = Drawing(
        720, 220,
        f"Left: {inputs} inputs, each connected with each of {neurons} neurons. Right: each neuron "
        f"connected with {kernel} neighbouring inputs only, by the same {kernel} weights.",
    )  # fmt: skip
    for left, dense in ((20, True), (380, False)):
        below = [left + 40 + 40 * i for i in range(inputs)]
        above = [left + 80 + 40 * i for i in range(neurons)]
        for n, x in enumerate(above):
            for i, from_x in enumerate(below):
                if dense or n <= i < n + kernel:
                    colour = FAINT if dense else (BLUE, ORANGE, GREEN)[i - n]
                    drawing.line(from_x, 150, x, 60, colour, 1.5)
        for x in above:
            drawing.dot(x, 60, PINK)
        for x in below:
            drawing.dot(x, 150, SKY)
        title = "fully connected" if dense else "convolution"
        count = (
            f"{inputs} x {neurons} = {inputs * neurons} weights"
            if dense
            else f"{kernel} weights, shared by all neurons"
        )
        drawing.text(left + 160, 30, title, "middle", 16)
        drawing.text(left + 160, 190, count, "middle")
    return drawing


def grid(
    drawing: Drawing, x: float, y: float, rows: int, columns: int, cell: float, fill: str
) -> None:
    """Cells of one map."""
    for row in range(rows):
        for column in range(columns):
            drawing.rect(x + column * cell, y + row * cell, cell, cell, fill, FAINT)


def window() -> Drawing:
    """A window of the input and the neuron that looks at it."""
    rows, columns, kernel, cell = 7, 9, 3, 26
    row, column = 2, 4
    drawing = Drawing(
        720, 270,
        f"A {kernel} by {kernel} window of a {rows} by {columns} input, and the one neuron of the "
        f"{rows - kernel + 1} by {columns - kernel + 1} feature map that looks at it.",
    )  # fmt: skip
    grid(drawing, 40, 50, rows, columns, cell, "#eef6fb")
    high, wide = rows - kernel + 1, columns - kernel + 1
    grid(drawing, 460, 76, high, wide, cell, "#fbf0f6")
    x, y = 40 + column * cell, 50 + row * cell
    to_x, to_y = 460 + column * cell, 76 + row * cell
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        drawing.line(
            x + dx * kernel * cell, y + dy * kernel * cell, to_x + dx * cell, to_y + dy * cell,
            ORANGE,
        )  # fmt: skip
    drawing.rect(x, y, kernel * cell, kernel * cell, ORANGE, ORANGE, 2, opacity=0.35)
    drawing.rect(to_x, to_y, cell, cell, PINK, PINK, 2)
    drawing.text(40, 36, f"input, {rows} x {columns}")
    drawing.text(460, 36, f"feature map, {high} x {wide}")
    drawing.text(
        40, 256, f"a filter of {kernel} x {kernel} weights and a bias; stride 1, no padding"
    )
    return drawing


def stack() -> Drawing:
    """Layers as stacks of maps."""
    drawing = Drawing(
        720, 290,
        "Three input channels, four feature maps above them, two above those. A neuron reads its "
        "window in all maps of the layer below.",
    )  # fmt: skip
    layers = (("input: 3 channels", 3, 40, SKY), ("4 feature maps", 4, 270, ORANGE))
    layers += (("2 feature maps", 2, 520, PINK),)
    fronts = []
    for title, maps, left, colour in layers:
        for place in range(maps):
            x, y = left + 16 * place, 90 - 16 * place + 40
            drawing.rect(x, y, 120, 120, PAPER)
            drawing.rect(x, y, 120, 120, colour, INK, 1, opacity=0.25)
            fronts.append((title, x, y))
        drawing.text(left + 40, 280, title, "middle")
    for (left, maps, size), (to_x, to_y) in (
        ((40, 3, 42), (318 + 30, 82 + 36)),
        ((270, 4, 42), (536 + 40, 114 + 40)),
    ):
        for place in range(maps):
            x, y = left + 16 * place + 40, 90 - 16 * place + 40 + 36
            drawing.rect(x, y, size, size, ORANGE, INK, 1, opacity=0.6)
            drawing.line(x + size, y, to_x, to_y, FAINT)
            drawing.line(x + size, y + size, to_x, to_y + 14, FAINT)
        drawing.rect(to_x, to_y, 14, 14, PINK, INK, 1.5)
    drawing.text(
        20, 28, "one neuron reads the same window in every map of the layer below;", size=14
    )
    drawing.text(20, 48, "all neurons of one map share one filter and one bias", size=14)
    return drawing


def way(padding: str, size: int, kernel: int, stride: int) -> tuple[int, int, int]:
    """Outputs, and positions added before and after, as convcalc's own operator has them."""
    from convcalc.ops.window import slides

    (slide,) = slides((size,), kernel, stride, 1, padding)
    return int(slide.output), int(slide.before), int(slide.after)


def padding() -> Drawing:
    """ "valid" and "same" along one axis."""
    size, kernel, stride, cell = 12, 4, 3, 32
    drawing = Drawing(
        720, 380,
        f"{size} inputs, a kernel of {kernel}, a stride of {stride}: valid ignores the last two "
        "inputs, same adds one zero on the right.",
    )  # fmt: skip
    for kind, top in (("valid", 70), ("same", 250)):
        outputs, before, after = way(kind, size, kernel, stride)
        left = 150
        seen = (outputs - 1) * stride + kernel - before
        for i in range(-before, size + after):
            outside = not 0 <= i < size
            ignored = i >= seen and not outside
            fill = "#eeeeee" if ignored else (PAPER if outside else SKY)
            drawing.rect(left + i * cell, top, cell, cell, fill, INK, 1, outside, 0.6)
            name = "0" if outside else str(i)
            drawing.text(left + (i + 0.5) * cell, top + 21, name, "middle", 13)
        for n in range(outputs):
            start = left + (n * stride - before) * cell
            y = top + cell + 12 + 12 * (n % 2)
            colour = (BLUE, ORANGE, GREEN, PINK)[n % 4]
            drawing.line(start + 2, y, start + kernel * cell - 2, y, colour, 5)
            centre = start + kernel * cell / 2
            drawing.line(centre, y, centre, top + 86, colour, 1.5)
            drawing.rect(centre - 14, top + 86, 28, 24, colour, INK, 1, opacity=0.5)
        drawing.text(20, top + 21, f'"{kind}"', size=16)
        if kind == "valid":
            rule = f"floor(({size} - {kernel}) / {stride}) + 1 = {outputs} outputs"
            rest = f"; the last {size - seen} inputs are ignored"
        else:
            rule = f"ceil({size} / {stride}) = {outputs} outputs"
            rest = f"; {before} zeros before, {after} after"
        drawing.text(left, top - 14, rule + rest)
    return drawing


def strides() -> Drawing:
    """The same kernel at three strides."""
    size, kernel, cell = 9, 3, 36
    drawing = Drawing(
        720, 330, f"{size} inputs and a kernel of {kernel}: at stride 1, 2 and 3, without padding."
    )
    for place, stride in enumerate((1, 2, 3)):
        outputs, _, _ = way("valid", size, kernel, stride)
        top, left = 30 + 100 * place, 150
        for i in range(size):
            drawing.rect(left + i * cell, top, cell, 22, SKY, INK, 1, opacity=0.5)
        for n in range(outputs):
            centre = left + (n * stride + kernel / 2) * cell
            colour = (BLUE, ORANGE, GREEN)[n % 3]
            drawing.line(left + n * stride * cell, top + 22, centre - 8, top + 55, colour)
            drawing.line(
                left + (n * stride + kernel) * cell, top + 22, centre + 8, top + 55, colour
            )
            drawing.rect(centre - 8, top + 55, 16, 16, colour, INK, 1, opacity=0.7)
        drawing.text(20, top + 16, f"stride {stride}", size=16)
        drawing.text(left + size * cell + 20, top + 66, f"{outputs} outputs")
    return drawing


def pooling() -> Drawing:
    """Max pooling with numbers."""
    values = ((3, 1, 0, 2), (5, 2, 4, 1), (0, 7, 1, 1), (2, 6, 3, 8))
    cell = 44
    drawing = Drawing(
        560,
        240,
        "Max pooling, 2 by 2 with stride 2: of each window of four values the largest stays.",
    )
    colours = (SKY, ORANGE, GREEN, PINK)
    for row in range(4):
        for column in range(4):
            x, y = 40 + column * cell, 40 + row * cell
            colour = colours[2 * (row // 2) + column // 2]
            drawing.rect(x, y, cell, cell, colour, INK, 1, opacity=0.45)
            drawing.text(x + cell / 2, y + 28, str(values[row][column]), "middle", 16)
    for row in range(2):
        for column in range(2):
            x, y = 360 + column * cell, 84 + row * cell
            drawing.rect(x, y, cell, cell, colours[2 * row + column], INK, 1, opacity=0.45)
            block = [values[2 * row + i][2 * column + j] for i in (0, 1) for j in (0, 1)]
            drawing.text(x + cell / 2, y + 28, str(max(block)), "middle", 16)
    drawing.line(230, 128, 340, 128, INK, 1.5)
    drawing.line(340, 128, 330, 122, INK, 1.5)
    drawing.line(340, 128, 330, 134, INK, 1.5)
    drawing.text(285, 118, "largest", "middle")
    return drawing


def two_layers() -> Drawing:
    """The book's two memory rules on LeNet-5."""
    import convcalc

    report = convcalc.analyze("lenet5")
    rule = report.memory.textbook
    drawing = Drawing(
        720, 310,
        f"The outputs of LeNet-5's layers in bytes. Inference: the two largest neighbours, "
        f"{rule.inference_bytes:,} bytes. Training: all, {rule.training_bytes:,} bytes.",
    )  # fmt: skip
    names = [layer.name for layer in report.layers]
    held = rule.inference_layers
    top = max(layer.output_bytes or 0 for layer in report.layers)
    for place, layer in enumerate(report.layers):
        size = layer.output_bytes or 0
        height = max(180 * size / top, 1.5)
        x = 40 + place * 660 / len(names)
        colour = ORANGE if layer.name in held else SKY
        drawing.rect(x, 230 - height, 56, height, colour, INK)
        drawing.text(x + 28, 222 - height, f"{size:,}", "middle", 13)
        drawing.text(x + 28, 248, layer.name, "middle", 11)
    drawing.text(
        40,
        276,
        f"inference, by the book: the two largest neighbours, {rule.inference_bytes:,} bytes",
    )
    drawing.text(40, 298, f"training, by the book: all of them, {rule.training_bytes:,} bytes")
    return drawing


#: Records of the seed layer: what is written beside the bar, and which record it is.
RUNS = (
    ("inference, TensorFlow, batch 1", "tensorflow", "allocator", "cpu", "inference", 1, False),
    ("training, TensorFlow, batch 1", "tensorflow", "allocator", "cpu", "training", 1, False),
    ("the same with XLA", "tensorflow", "allocator", "cpu", "training", 1, True),
    ("training, PyTorch, batch 8", "torch", "memtracker", "gpu", "training", 8, False),
    ("training, XLA for an H100, batch 8", "jax", "compiled", "h100", "training", 8, True),
)


def beside_the_book() -> Drawing:
    """How many times the book's figure runs of its own layer took."""
    import convcalc

    records = [
        json.loads(line)
        for path in sorted((ROOT / "benchmarks" / "memory").glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    drawing = Drawing(
        720, 60 + 40 * len(RUNS),
        "What the layer of the book took in runs, in multiples of the book's figure.",
    )  # fmt: skip
    drawing.text(
        20, 28, "the layer of the book: memory that a run took, over the book's rule", size=15
    )
    for place, (title, *wanted) in enumerate(RUNS):
        keys = ("framework", "method", "device", "mode", "batch", "jit")
        record = next(
            r
            for r in records
            if r["network"] == "seed_layer"
            and [r[key] for key in keys] == wanted
            and r["optimizer"] in ("none", "adam")
            and r["threads"] in (None, 1)
            and r["dtype"] == "float32"
        )
        rule = convcalc.analyze("seed_layer", batch=record["batch"]).memory.textbook
        ratio = record["peak_bytes"] / rule.training_bytes
        y = 44 + 40 * place
        drawing.text(20, y + 18, title)
        drawing.rect(270, y, 90 * ratio, 26, ORANGE if "inf" not in title else SKY, INK)
        drawing.text(278 + 90 * ratio, y + 18, f"{ratio:.2f}")
    drawing.line(360, 40, 360, 50 + 40 * len(RUNS), BLUE, 2)
    drawing.text(360, 54 + 40 * len(RUNS), "1 = the book", "middle", 12, BLUE)
    return drawing


DRAWINGS: dict[str, Callable[[], Drawing]] = {
    "connections.svg": connections,
    "window.svg": window,
    "stack.svg": stack,
    "padding.svg": padding,
    "strides.svg": strides,
    "pooling.svg": pooling,
    "two-layers.svg": two_layers,
    "beside-the-book.svg": beside_the_book,
}

#: What convcalc draws itself: file, and the command that makes it.
MADE: dict[str, Sequence[str]] = {
    "timeline.svg": ("memory", "resnet50", "--batch", "32", "--engine", "torch", "--plot"),
    "vertical.png": ("filter", "--sample", "bundled", "--kernel", "vertical", "--output"),
    "horizontal.png": ("filter", "--sample", "bundled", "--kernel", "horizontal", "--output"),
}


def same(name: str, one: bytes, two: bytes) -> bool:
    """Whether two pictures say the same; a predicted timeline may move a little."""
    from docs import alike

    if name.endswith(".png"):
        import io

        from PIL import Image

        pictures = [Image.open(io.BytesIO(data)) for data in (one, two)]
        return pictures[0].size == pictures[1].size and (
            pictures[0].tobytes() == pictures[1].tobytes()
        )
    if name in MADE:
        labels = [re.findall(rb'aria-label="([^"]*)"', data)[0].decode() for data in (one, two)]
        return alike(labels[0], labels[1], predicted=True)
    return one == two


def write(*, check: bool = False) -> list[str]:
    """Draw everything; the names of what was not as it is drawn now."""
    from docs import Session

    IMAGES.mkdir(exist_ok=True)
    made = {name: draw().svg().encode() for name, draw in DRAWINGS.items()}
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Path(folder))
        for name, arguments in MADE.items():
            session.convcalc([*arguments, name])
            made[name] = (Path(folder) / name).read_bytes()
    made["sample.png"] = (ROOT / "convcalc" / "data" / "sample.png").read_bytes()
    changed = []
    for name, data in made.items():
        path = IMAGES / name
        if not path.exists() or not same(name, path.read_bytes(), data):
            changed.append(name)
            if not check:
                path.write_bytes(data)
    return changed


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    for each in write():
        print(f"wrote docs/images/{each}")
