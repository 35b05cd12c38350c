#!/usr/bin/env python3
"""Draw convcalc/data/sample.png: a house and a fence, full of horizontal and vertical edges.

    scripts/draw_sample.py [FILE]

Rectangles only, so that every version of Pillow draws the same pixels.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw

WIDTH, HEIGHT = 192, 128
SKY, GRASS, WALL, JOINT, ROOF = "#9cc4e4", "#6a9a4e", "#d8b48c", "#b98f66", "#8c3b32"
GLASS, FRAME, DOOR, PATH, POST, SUN = (
    "#33475b",
    "#f4f1e8",
    "#5a3b26",
    "#c9c2b2",
    "#f7f7f2",
    "#f6d55c",
)


def draw() -> Image.Image:
    """The picture, 192 x 128 pixels, RGB."""
    image = Image.new("RGB", (WIDTH, HEIGHT), SKY)
    pen = ImageDraw.Draw(image)

    def box(left: int, top: int, width: int, height: int, colour: str) -> None:
        pen.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)

    box(0, 92, WIDTH, HEIGHT - 92, GRASS)
    for step in range(5):  # the sun, in steps
        box(154 + 2 * step, 12 + 2 * (4 - step), 20 - 4 * step, 4 + 4 * step, SUN)
    for row in range(26):  # the roof, a row at a time
        box(78 - 2 * row, 14 + row, 4 + 4 * row, 1, ROOF)
    box(100, 14, 10, 22, ROOF)  # the chimney
    box(34, 40, 92, 56, WALL)
    for top in range(46, 96, 7):
        box(34, top, 92, 1, JOINT)
    for left in (44, 92):
        box(left, 52, 24, 22, FRAME)
        for column in (0, 11):
            for row in (0, 10):
                box(left + 2 + column, 54 + row, 9, 8, GLASS)
    box(72, 60, 16, 36, DOOR)
    box(84, 78, 2, 3, SUN)
    box(70, 96, 20, HEIGHT - 96, PATH)
    for left in [*range(4, 66, 8), *range(96, 190, 8)]:
        box(left, 98, 3, 22, POST)
    for top in (102, 111):
        box(2, top, 64, 2, POST)
        box(94, top, 97, 2, POST)
    return image


if __name__ == "__main__":
    default = Path(__file__).resolve().parent.parent / "convcalc" / "data" / "sample.png"
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    draw().save(target, optimize=True)
