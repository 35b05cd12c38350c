"""The two rules that books give for the memory of a stack of layers.

Inference can let a layer's output go as soon as the next one is there, so it needs what the two
consecutive layers with the largest sum need.  Training keeps every output for the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from convcalc.report import Textbook


def textbook(names: Sequence[str], sizes: Sequence[int]) -> Textbook:
    """The book's figures for layers with outputs of `sizes` bytes, in order of execution."""
    if len(sizes) < 2:
        inference, pair = sum(sizes), list(names)
    else:
        sums = [a + b for a, b in pairwise(sizes)]
        at = max(range(len(sums)), key=sums.__getitem__)
        inference, pair = sums[at], list(names[at : at + 2])
    return Textbook(inference_bytes=inference, training_bytes=sum(sizes), inference_layers=pair)
