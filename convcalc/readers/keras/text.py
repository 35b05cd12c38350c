"""What the parts of this reader share: a bound, and values in messages."""

from __future__ import annotations

from typing import Any

#: Models within models; Keras' own networks have two levels.
MAX_DEPTH = 100


def short(value: Any) -> str:
    """A value in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
