"""What each layer class of Keras is made of."""

from __future__ import annotations

from convcalc.readers.keras.build import Rule
from convcalc.readers.keras.rules import elementwise, functions, products, recurrence, windows

LAYERS: dict[str, Rule] = {
    **windows.RULES,
    **products.RULES,
    **elementwise.RULES,
    **functions.RULES,
    **recurrence.RULES,
}
