"""Errors that are told to people: one line that says what, where and what to do.

Each carries the exit code of the command line, so that no caller has to translate.
"""

from __future__ import annotations

from typing import ClassVar


class ConvcalcError(ValueError):
    """Base of every error that convcalc raises on purpose."""

    exit_code: ClassVar[int] = 2


class UsageError(ConvcalcError):
    """A setting that makes no sense: an unknown option value, a budget that cannot be read."""

    exit_code = 2


class ModelError(ConvcalcError):
    """A model that cannot be read or that does not fit together."""

    exit_code = 4


class ShapeError(ModelError):
    """An operator that cannot take the shapes it is given.

    Operators raise it without knowing where they stand; the network adds the op's name.
    """


class MissingExtra(ConvcalcError):
    """An optional dependency that is not installed."""

    exit_code = 5

    def __init__(self, extra: str) -> None:
        super().__init__(f"this needs the extra '{extra}': pip install 'convcalc[{extra}]'")
        self.extra = extra
