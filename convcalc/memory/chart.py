"""The timeline as a picture: stacked areas by kind, the peak marked, what is alive at it named.

The picture is first a list of shapes, which are then written as SVG or drawn as PNG.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from convcalc.memory.program import BACKWARD, UPDATE
from convcalc.report import MemoryProfile
from convcalc.settings import format_bytes

#: Distinct also without colour vision (Okabe and Ito), from what rests to what comes and goes.
COLOURS = {
    "weights": "#0072b2",
    "optimizer": "#56b4e9",
    "inputs": "#999999",
    "activations": "#e69f00",
    "gradients": "#009e73",
    "workspace": "#cc79a7",
}
ORDER = ("weights", "optimizer", "inputs", "activations", "gradients", "workspace")
WIDTH, HEIGHT = 1000, 560
LEFT, RIGHT, TOP, BOTTOM = 80, 20, 64, 196
#: Points of one area; more cannot be told apart at this width.
POINTS = 800
NAMED = 6


@dataclass(frozen=True, slots=True)
class Area:
    """A filled polygon."""

    points: tuple[tuple[float, float], ...]
    colour: str
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line."""

    start: tuple[float, float]
    end: tuple[float, float]
    colour: str = "#444444"


@dataclass(frozen=True, slots=True)
class Text:
    """One line of text; `anchor` is start, middle or end."""

    at: tuple[float, float]
    text: str
    anchor: str = "start"
    size: int = 13


Shape = Area | Line | Text


def thinned(series: Sequence[int], places: Sequence[range]) -> list[int]:
    """The largest value of each range."""
    return [max(series[i] for i in place) for place in places]


def buckets(count: int, most: int) -> list[range]:
    """`count` positions in at most `most` ranges."""
    step = max(1, -(-count // most))
    return [range(start, min(start + step, count)) for start in range(0, count, step)]


def shapes(profile: MemoryProfile) -> list[Shape]:
    """What the picture consists of."""
    places = buckets(len(profile.steps), POINTS)
    totals = [sum(values) for values in zip(*profile.bytes.values(), strict=True)]
    top = max(totals) or 1
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(place: float) -> float:
        return LEFT + wide * place / max(len(places) - 1, 1)

    def y(value: float) -> float:
        return TOP + high * (1 - value / (top * 1.05))

    found: list[Shape] = [
        Text((LEFT, 22), title(profile), size=16),
        Text((LEFT, 44), subtitle(profile)),
    ]
    for value in ticks(top):
        found.append(Line((LEFT, y(value)), (WIDTH - RIGHT, y(value)), "#dddddd"))
        found.append(Text((LEFT - 8, y(value) + 4), format_bytes(value), "end", 12))
    # Within a range all kinds are taken at the position of the largest sum, so that areas add up.
    chosen = [max(place, key=totals.__getitem__) for place in places]
    below = [0] * len(places)
    for kind in ORDER:
        above = [low + profile.bytes[kind][i] for low, i in zip(below, chosen, strict=True)]
        if any(above[i] != below[i] for i in range(len(places))):
            upper = [(x(i), y(value)) for i, value in enumerate(above)]
            lower = [(x(i), y(value)) for i, value in reversed(list(enumerate(below)))]
            found.append(Area((*upper, *lower), COLOURS[kind], kind))
        below = above
    found.extend(marks(profile, places, x, y))
    found.extend(legend(profile))
    return found


def title(profile: MemoryProfile) -> str:
    """What is shown."""
    optimizer = f", {profile.optimizer}" if profile.mode == "training" else ""
    return (
        f"{profile.network}: one step of {profile.mode}, batch {profile.batch}, "
        f"{profile.dtype}{optimizer}, {profile.engine} on {profile.device}"
    )


def subtitle(profile: MemoryProfile) -> str:
    """The figure."""
    found = profile.prediction
    low, high = found.interval
    return (
        f"peak {format_bytes(found.peak_bytes)} ({format_bytes(low)} to {format_bytes(high)} nine "
        f"times in ten) at {found.at}"
    )


def ticks(top: int) -> list[int]:
    """Three to six round values up to `top`."""
    step = 10 ** (len(str(top)) - 1)
    for divisor in (1, 2, 5, 10):
        if top * divisor // step >= 3:
            step = max(step // divisor, 1)
            break
    return list(range(0, top + 1, step))


def marks(profile: MemoryProfile, places: Sequence[range], x: Any, y: Any) -> Iterable[Shape]:
    """Where the backward pass and the update begin, and where the peak is."""
    bottom = y(0)
    for phase in (BACKWARD, UPDATE):
        first = next((i for i, step in enumerate(profile.steps) if step.phase == phase), None)
        if first is not None:
            place = next(i for i, found in enumerate(places) if first in found)
            yield Line((x(place), TOP), (x(place), bottom), "#888888")
            # Near the right edge the word would be cut off: it stands before its line there.
            late = x(place) > WIDTH - RIGHT - 60
            at = (x(place) + (-4 if late else 4), TOP + 12)
            yield Text(at, phase, "end" if late else "start", 12)
    place = next(i for i, found in enumerate(places) if profile.peak_step in found)
    yield Line((x(place), TOP - 6), (x(place), bottom), "#d00000")
    side = "end" if place > len(places) / 2 else "start"
    yield Text((x(place) + (-4 if side == "end" else 4), TOP - 8), "peak", side, 12)
    yield Text((LEFT, bottom + 18), "operations of the step, in order of execution", size=12)


def legend(profile: MemoryProfile) -> Iterable[Shape]:
    """Colours with their bytes at the peak, and the largest buffers."""
    line = HEIGHT - BOTTOM + 44
    for row, kind in enumerate(ORDER):
        top = line + 20 * row
        size = profile.prediction.breakdown.get(kind, 0)
        corners = ((LEFT, top - 10), (LEFT + 12, top - 10), (LEFT + 12, top + 2), (LEFT, top + 2))
        yield Area(corners, COLOURS[kind], kind)
        yield Text((LEFT + 20, top), f"{kind} {format_bytes(size)}")
    yield Text((LEFT + 240, line - 0), "largest at the peak:")
    for row, buffer in enumerate(profile.alive[:NAMED], 1):
        text = f"{format_bytes(buffer.bytes)}  {buffer.name} ({buffer.kind})"
        yield Text((LEFT + 240, line + 20 * row), text)


def svg(profile: MemoryProfile) -> str:
    """The picture as SVG, without scripts, styles or anything fetched."""
    body = []
    for shape in shapes(profile):
        if isinstance(shape, Area):
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
            name = escape(shape.title)
            body.append(
                f'<polygon points="{points}" fill="{shape.colour}"><title>{name}</title></polygon>'
            )
        elif isinstance(shape, Line):
            (x1, y1), (x2, y2) = shape.start, shape.end
            body.append(
                f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
                f'stroke="{shape.colour}"/>'
            )
        else:
            x, y = shape.at
            body.append(
                f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{shape.anchor}" '
                f'font-size="{shape.size}" fill="#222222">{escape(shape.text)}</text>'
            )
    label = escape(f"{title(profile)}; {subtitle(profile)}", {'"': "&quot;"})
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{label}" '
            'font-family="system-ui, sans-serif">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            *body,
            "</svg>",
            "",
        ]
    )


def png(profile: MemoryProfile) -> bytes:
    """The picture as PNG.

    Raises:
        MissingExtra: Pillow is not installed.
    """
    import io

    from convcalc.errors import MissingExtra

    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise MissingExtra("images") from None
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    anchors = {"start": "ls", "middle": "ms", "end": "rs"}
    for shape in shapes(profile):
        if isinstance(shape, Area):
            draw.polygon(shape.points, fill=shape.colour)
        elif isinstance(shape, Line):
            draw.line((*shape.start, *shape.end), fill=shape.colour)
        else:
            font = ImageFont.load_default(shape.size)
            draw.text(shape.at, shape.text, "#222222", font, anchors[shape.anchor])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


BLOCKS = " ▁▂▃▄▅▆▇█"


def terminal(profile: MemoryProfile, width: int, height: int = 10) -> list[str]:
    """The sum over all kinds as bars of text, with the peak marked above."""
    label = 9
    totals = [sum(values) for values in zip(*profile.bytes.values(), strict=True)]
    places = buckets(len(totals), max(width - label - 1, 10))
    columns = thinned(totals, places)
    top = max(columns) or 1
    peak = next(i for i, place in enumerate(places) if profile.peak_step in place)
    lines = [" " * label + " " + " " * peak + "▼ peak"]
    for row in range(height, 0, -1):
        cells = []
        for value in columns:
            eighths = round(value / top * height * 8) - (row - 1) * 8
            cells.append(BLOCKS[min(max(eighths, 0), 8)])
        name = format_bytes(top * row / height) if row in (height, height // 2) else ""
        lines.append(f"{name:>{label}} {''.join(cells).rstrip()}")
    phases = [profile.steps[place[0]].phase for place in places]
    names = ""
    for i, phase in enumerate(phases):
        if (i == 0 or phases[i - 1] != phase) and len(names) <= i and phase != "rest":
            names = names.ljust(i) + f"|{phase} "
    return [*lines, " " * label + " " + names[: len(columns)].rstrip()]
