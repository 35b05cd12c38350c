"""The sizes of a network's inputs, as people give them to a reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from convcalc.errors import ModelError

Size = tuple[int, ...]

#: The height, width and channels of the one input, or sizes by the inputs' names.  By name, Keras
#: models and our specs take height, width, channels, and files of ONNX and PyTorch the whole shape
#: as they have it, with the batch.
Input = Size | Mapping[str, Size] | None


def by_name(given: Input, names: Sequence[str], network: str) -> dict[str, Size]:
    """The sizes given for some of a network's inputs, by name.

    Raises:
        ModelError: no input has that name, or one size is given for several inputs.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                known = ", ".join(f"'{known}'" for known in names)
                raise ModelError(f"'{network}' has no input '{name}'; its inputs: {known}")
        return {name: tuple(size) for name, size in given.items()}
    if len(names) != 1:
        raise ModelError(
            f"'{network}' has {len(names)} inputs; one size does not say which: "
            f"give one for each by name ({', '.join(names)})"
        )
    return {names[0]: tuple(given)}


def laid_out(size: Size, channels_first: bool) -> Size:
    """Height, width, channels in the order that the network has them."""
    return (*size[-1:], *size[:-1]) if channels_first else size
