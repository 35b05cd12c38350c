"""What a name can stand for while source text is read.

Plain values are Python's own: numbers, texts, lists, tuples, mappings, ranges and slices.
Everything else is a `Thing`, which says itself what may be done with it.  Nothing of the text ever
becomes a Python function, class or module.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convcalc.errors import ModelError
from convcalc.readers.source import plain

if TYPE_CHECKING:
    from convcalc.readers.source.interpreter import Run


class Thing:
    """A value that is no plain one.  Whatever it does not allow is an error."""

    what = "this value"

    def attribute(self, name: str, run: Run) -> Any:
        raise ModelError(f"{self.what} has no '{name}' that this reader knows")

    def assign(self, name: str, value: Any) -> None:
        raise ModelError(f"{self.what}: setting '{name}' is not supported")

    def call(self, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        raise ModelError(f"{self.what} cannot be called")

    def item(self, key: Any, run: Run) -> Any:
        raise ModelError(f"{self.what} cannot be indexed")

    def set_item(self, key: Any, value: Any) -> None:
        raise ModelError(f"an item of {self.what} cannot be set")

    def binary(self, symbol: str, other: Any, swapped: bool, run: Run) -> Any:
        raise ModelError(f"'{symbol}' with {self.what} is not supported")

    def unary(self, symbol: str, run: Run) -> Any:
        raise ModelError(f"'{symbol}' of {self.what} is not supported")

    def values(self, run: Run) -> Sequence[Any]:
        raise ModelError(f"{self.what} cannot be looped over")

    def truth(self) -> bool:
        return True


@dataclass(eq=False)
class Ignored(Thing):
    """What the reader does not follow because no network depends on it: data, optimizers, plots.

    Whatever is made of it is ignored too; a layer that takes it as a setting is an error.
    """

    origin: str

    @property
    def what(self) -> str:  # type: ignore[override]
        return f"'{self.origin}'"

    def attribute(self, name: str, run: Run) -> Any:
        return self

    def assign(self, name: str, value: Any) -> None:
        return None

    def set_item(self, key: Any, value: Any) -> None:
        return None

    def call(self, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        run.check_followed(self.what, [*args, *kwargs.values()])
        return self

    def item(self, key: Any, run: Run) -> Any:
        return self

    def binary(self, symbol: str, other: Any, swapped: bool, run: Run) -> Any:
        return self

    def unary(self, symbol: str, run: Run) -> Any:
        return self

    def values(self, run: Run) -> Sequence[Any]:
        return ()

    def truth(self) -> bool:
        raise ModelError(
            f"the condition depends on '{self.origin}', which is not run; "
            "leave only the branch that applies"
        )


@dataclass(eq=False)
class External(Thing):
    """A name that comes from outside the text, by its dotted path: "torch.nn.Conv2d"."""

    path: str

    @property
    def what(self) -> str:  # type: ignore[override]
        return f"'{self.path}'"

    def attribute(self, name: str, run: Run) -> Any:
        return run.external(f"{self.path}.{name}")

    def assign(self, name: str, value: Any) -> None:
        return None

    def call(self, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        return run.call_external(self.path, args, kwargs)

    def item(self, key: Any, run: Run) -> Any:
        return Ignored(self.path)

    def binary(self, symbol: str, other: Any, swapped: bool, run: Run) -> Any:
        return Ignored(self.path)

    def unary(self, symbol: str, run: Run) -> Any:
        return Ignored(self.path)

    def values(self, run: Run) -> Sequence[Any]:
        return ()


class Scope:
    """Names of one function, class or of the whole text."""

    __slots__ = ("names", "owner", "parent", "shared")

    def __init__(
        self, parent: Scope | None, owner: tuple[UserClass, Instance] | None = None
    ) -> None:
        self.names: dict[str, Any] = {}
        self.parent: Scope | None = parent
        inherited: tuple[UserClass, Instance] | None = parent.owner if parent else None
        self.owner: tuple[UserClass, Instance] | None = owner or inherited
        self.shared: dict[str, Scope] = {}
        """Names that `global` or `nonlocal` said belong to another scope."""

    def find(self, name: str) -> Scope | None:
        scope: Scope | None = self
        while scope is not None and name not in scope.names:
            scope = scope.parent
        return scope

    def set(self, name: str, value: Any) -> None:
        self.shared.get(name, self).names[name] = value


@dataclass(eq=False)
class Function(Thing):
    """A function, method or lambda of the text."""

    name: str
    arguments: ast.arguments
    body: list[ast.stmt] | ast.expr
    scope: Scope
    defaults: list[Any]
    keyword_defaults: Mapping[str, Any]
    kind: str = "function"
    """ "function", "static", "class" or "property", as its decorator says."""

    @property
    def what(self) -> str:  # type: ignore[override]
        return f"'{self.name}'"

    @property
    def required(self) -> list[str]:
        """Parameters that a call must give."""
        a = self.arguments
        names = [p.arg for p in (*a.posonlyargs, *a.args)]
        named = [p.arg for p in a.kwonlyargs if p.arg not in self.keyword_defaults]
        return names[: len(names) - len(self.defaults)] + named

    def attribute(self, name: str, run: Run) -> Any:
        if name == "__name__":
            return self.name
        return super().attribute(name, run)

    def call(self, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        return run.call_function(self, args, kwargs)


@dataclass(eq=False)
class Bound(Thing):
    """A method with the object that it belongs to."""

    function: Function
    instance: Any
    owner: UserClass

    @property
    def what(self) -> str:  # type: ignore[override]
        return f"'{self.function.name}'"

    def call(self, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        owner = (self.owner, self.instance) if isinstance(self.instance, Instance) else None
        return run.call_function(self.function, [self.instance, *args], kwargs, owner)


class Method(Thing):
    """A method that the reader itself provides."""

    def __init__(self, name: str, function: Any) -> None:
        self.what = f"'{name}'"
        self.function = function

    def call(self, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        return self.function(*args, **kwargs)


class Base(Thing):
    """A class of a framework from which classes of the text inherit."""

    what = "a framework's class"

    def start(self, instance: Instance, args: list[Any], kwargs: dict[str, Any], run: Run) -> None:
        """What its `__init__` does."""

    def get(self, instance: Instance, name: str, run: Run) -> Any:
        """An attribute that instances have from it; `Ignored` for what does not matter."""
        return Ignored(name)

    def run(self, instance: Instance, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        """What calling an instance does."""
        return Ignored(instance.cls.name)


@dataclass(eq=False)
class UserClass(Thing):
    """A class of the text."""

    name: str
    parents: list[UserClass]
    base: Base | None
    names: dict[str, Any] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)
    """What a dataclass takes, in order."""

    @property
    def what(self) -> str:  # type: ignore[override]
        return f"class '{self.name}'"

    def lineage(self) -> list[UserClass]:
        """The class and those that it inherits from, nearest first, each once."""
        found: list[UserClass] = []
        queue = [self]
        while queue:
            cls = queue.pop(0)
            if cls not in found:
                found.append(cls)
                queue.extend(cls.parents)
        return found

    def lookup(self, name: str, after: UserClass | None = None) -> tuple[Any, UserClass] | None:
        """What `name` means, and the class that says so; `after`: as `super()` of that class."""
        classes = self.lineage()
        if after is not None:
            classes = classes[classes.index(after) + 1 :]
        for cls in classes:
            if name in cls.names:
                return cls.names[name], cls
        return None

    @property
    def framework(self) -> Base | None:
        return next((cls.base for cls in self.lineage() if cls.base is not None), None)

    def attribute(self, name: str, run: Run) -> Any:
        if name == "__name__":
            return self.name
        found = self.lookup(name)
        if found is None:
            return super().attribute(name, run)
        value, owner = found
        if isinstance(value, Function) and value.kind == "class":
            return Bound(value, self, owner)
        return value

    def call(self, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        instance = Instance(self)
        found = self.lookup("__init__")
        if found is not None:
            Bound(found[0], instance, found[1]).call(args, kwargs, run)
        elif self.fields:
            instance.attrs.update(zip(self.fields, args, strict=False))
            instance.attrs.update(kwargs)
        elif (base := self.framework) is not None:
            base.start(instance, args, kwargs, run)
        run.made(instance)
        return instance


@dataclass(eq=False)
class Instance(Thing):
    """An object of a class of the text."""

    cls: UserClass
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def what(self) -> str:  # type: ignore[override]
        return f"an object of class '{self.cls.name}'"

    def attribute(self, name: str, run: Run) -> Any:
        if name in self.attrs:
            return self.attrs[name]
        found = self.cls.lookup(name)
        if found is not None:
            return bound(found, self, run)
        base = self.cls.framework
        return super().attribute(name, run) if base is None else base.get(self, name, run)

    def assign(self, name: str, value: Any) -> None:
        self.attrs[name] = value

    def call(self, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        base = self.cls.framework
        if base is not None:
            return base.run(self, args, kwargs, run)
        found = self.cls.lookup("__call__")
        if found is None:
            return super().call(args, kwargs, run)
        return Bound(found[0], self, found[1]).call(args, kwargs, run)


def bound(found: tuple[Any, UserClass], instance: Instance, run: Run) -> Any:
    """What a class says of a name, seen from one of its objects."""
    value, owner = found
    if not isinstance(value, Function) or value.kind == "static":
        return value
    method = Bound(value, instance.cls if value.kind == "class" else instance, owner)
    return method.call([], {}, run) if value.kind == "property" else method


@dataclass(eq=False)
class Super(Thing):
    """``super()`` within a method."""

    owner: UserClass
    instance: Instance
    what = "super()"

    def attribute(self, name: str, run: Run) -> Any:
        found = self.instance.cls.lookup(name, self.owner)
        if found is not None:
            return bound(found, self.instance, run)
        base = self.instance.cls.framework
        if name in ("__init__", "build"):
            if base is None or name == "build":
                return Method(name, lambda *args, **kwargs: None)
            start = base.start
            return Method(
                name, lambda *args, **kwargs: start(self.instance, list(args), kwargs, run)
            )
        if base is None:
            return super().attribute(name, run)
        return base.get(self.instance, name, run)


def hashed(values: list[Any]) -> set[Any]:
    """Values as a set.

    Raises:
        ModelError: some are lists or mappings.
    """
    for value in values:
        if not (plain.scalar(value) or (type(value) is tuple and plain.flat(value))):
            if isinstance(value, Thing):
                continue
            raise ModelError("keys are numbers, texts, or tuples of them")
    return set(values)
