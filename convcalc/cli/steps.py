"""A derivation as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convcalc.analysis.derivation import Step


def step_lines(steps: Sequence[Step]) -> list[str]:
    """Three lines a step: what and in symbols, with the values put in, and why."""
    lines: list[str] = []
    for step in steps:
        result = f"{step.result:,}" if isinstance(step.result, int) else str(step.result)
        unit = f" {step.unit}" if step.unit else ""
        lines.append(f"{step.quantity} = {step.symbols}" if step.symbols else step.quantity)
        lines.append(
            f"    = {step.values} = {result}{unit}" if step.values else f"    = {result}{unit}"
        )
        if step.note:
            lines.append(f"    {step.note}")
    return lines
