"""The arguments of a layer's calls and the tensors in them, as Keras 3 and Keras 2 write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from convcalc.errors import ModelError
from convcalc.network import MAX_OPS
from convcalc.readers.keras.text import MAX_DEPTH, short

#: Layer, call of that layer, output of that call: where a tensor comes from.
History = tuple[str, int, int]


class Ref(str):
    """The name of a tensor, where a call's other arguments are plain values."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor among a call's arguments, not yet named."""

    history: History


def leaves(value: Any, where: str) -> Iterator[History]:
    """The (layer, call, output) triples in a list, a list of lists, or a mapping."""
    stack = [value]
    while stack:
        if len(stack) > MAX_OPS:
            raise ModelError(f"{where}: it names more than {MAX_OPS:,} tensors")
        item = stack.pop()
        if item is None:
            continue
        if isinstance(item, dict):
            stack.extend(item[key] for key in sorted(item, key=str, reverse=True))
        elif is_history(item):
            yield item[0], item[1], item[2]
        elif isinstance(item, (list, tuple)):
            stack.extend(reversed(item))
        else:
            raise ModelError(f"{where}: {short(item)} does not name a layer's output")


def is_history(item: Any) -> bool:
    return (
        isinstance(item, (list, tuple))
        and len(item) in (3, 4)
        and isinstance(item[0], str)
        and type(item[1]) is int
        and type(item[2]) is int
    )


def arguments(
    node: Any, where: str, seen: dict[History, tuple[int, ...] | None]
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of one call, in Keras 3's mapping or Keras 2's list.

    Raises:
        ModelError: it is neither.
    """
    if isinstance(node, dict):
        args, kwargs = node.get("args", ()), node.get("kwargs", {})
        if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
            raise ModelError(f"{where}: an inbound node has malformed args or kwargs")
        return (
            [value(arg, where, seen, 0) for arg in args],
            {
                str(key): value(arg, where, seen, 0)
                for key, arg in kwargs.items()
                if key not in ("mask", "training")
            },
        )
    if isinstance(node, (list, tuple)):
        positional: list[Any] = []
        named: dict[str, Any] = {}
        stack = [node]
        while stack:
            item = stack.pop()
            if not isinstance(item, (list, tuple)):
                raise ModelError(f"{where}: {short(item)} is no inbound tensor")
            if len(item) == 4 and item[0] == "_CONSTANT_VALUE":
                positional.append(item[2])
            elif is_history(item):
                positional.append(Tensor((item[0], item[1], item[2])))
            else:
                stack.extend(reversed(item))
                continue
            extra = item[3] if len(item) == 4 else None
            if isinstance(extra, dict):
                for key, arg in extra.items():
                    if key not in ("mask", "training", "name"):
                        tensor = is_history(arg)
                        named[str(key)] = Tensor((arg[0], arg[1], arg[2])) if tensor else arg
        return positional, named
    raise ModelError(f"{where}: an inbound node is a {type(node).__name__}")


def value(item: Any, where: str, seen: dict[History, tuple[int, ...] | None], depth: int) -> Any:
    """An argument with its tensors found, in the forms that Keras 3 writes."""
    if depth > MAX_DEPTH:
        raise ModelError(f"{where}: an argument is nested too deeply")
    if isinstance(item, (list, tuple)):
        return [value(part, where, seen, depth + 1) for part in item]
    if not isinstance(item, dict):
        return item
    kind, config = item.get("class_name"), item.get("config")
    if kind == "__keras_tensor__":
        history = config.get("keras_history") if isinstance(config, dict) else None
        if not is_history(history):
            raise ModelError(f"{where}: {short(history)} does not name a layer's output")
        assert isinstance(config, dict)
        assert isinstance(history, (list, tuple))
        key = (history[0], history[1], history[2])
        shape = config.get("shape")
        fits = isinstance(shape, (list, tuple)) and all(type(n) is int for n in shape[1:])
        seen[key] = tuple(shape[1:]) if fits and shape is not None else None
        return Tensor(key)
    if kind == "__tuple__" and isinstance(config, dict):
        return value(config.get("items", []), where, seen, depth + 1)
    if kind is None:
        return {key: value(part, where, seen, depth + 1) for key, part in item.items()}
    return item


def tensors_in(item: Any) -> Iterator[Tensor | Ref]:
    """The tensors among arguments, in order."""
    stack = [item]
    while stack:
        part = stack.pop()
        kind = type(part)
        if kind is Tensor or kind is Ref:
            yield part
        elif kind is list or kind is tuple:
            stack.extend(part[::-1])
        elif kind is dict:
            # In the order in which Keras flattens mappings.
            stack.extend(part[key] for key in sorted(part, key=str, reverse=True))


def resolved(
    item: Any, made: Mapping[History, Ref], name: str, shift: Mapping[tuple[str, bool], int]
) -> Any:
    """Arguments with the tensors' names filled in.

    Raises:
        ModelError: a call has no such output.
    """
    if isinstance(item, Tensor):
        layer, call, output = item.history
        history = (layer, call - shift.get((layer, False), 0), output)
        if history not in made:
            raise ModelError(f"'{name}' reads output {output} of '{layer}', which has fewer")
        return made[history]
    if isinstance(item, list):
        return [resolved(part, made, name, shift) for part in item]
    if isinstance(item, dict):
        return {key: resolved(part, made, name, shift) for key, part in item.items()}
    return item
