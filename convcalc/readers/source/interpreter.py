"""Follows source text through its syntax tree, as far as building a network needs.

The text is never compiled and never run: this walks the tree with an allow-list of nodes, names and
methods, counts its steps, and bounds every value.  What is not on the list is an error that says
where it stands.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from convcalc.errors import ModelError
from convcalc.readers.source import plain
from convcalc.readers.source.functions import BUILTINS, REFUSED, Builtin
from convcalc.readers.source.values import (
    Base,
    External,
    Function,
    Ignored,
    Instance,
    Method,
    Scope,
    Thing,
    UserClass,
    hashed,
)

#: Expressions and statements looked at; ResNet-152 takes some 20,000.
MAX_STEPS = 200_000
MAX_CALLS = 64

SYMBOLS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
    ast.Pow: "**", ast.LShift: "<<", ast.RShift: ">>", ast.BitAnd: "&", ast.BitOr: "|",
    ast.BitXor: "^", ast.MatMult: "@", ast.USub: "-", ast.UAdd: "+", ast.Invert: "~",
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip

#: Dunder names that tutorials write and that mean something here.
DUNDERS = frozenset({"__init__", "__name__", "__call__"})


class Located(ModelError):
    """An error that says already where in the text it is."""


class Break(Exception):
    """`break` on its way to the loop."""


class Continue(Exception):
    """`continue` on its way to the loop."""


class Return(Exception):
    """`return` on its way to the call."""

    def __init__(self, value: Any) -> None:
        self.value = value


class World(Protocol):
    """A framework whose layers the text may build."""

    def owns(self, path: str) -> bool:
        """Whether a dotted name belongs to it."""

    def constant(self, path: str) -> Any:
        """The value of a name that is no function or class; `NotImplemented` if there is none."""

    def call(self, path: str, args: list[Any], kwargs: dict[str, Any], run: Run) -> Any:
        """What calling that name gives."""

    def base(self, path: str) -> Base | None:
        """What a class inherits from that name; None if nothing that matters."""

    def is_tensor(self, value: Any) -> bool:
        """Whether a value is a tensor."""

    def follows(self, value: Any) -> bool:
        """Whether a value is a tensor of the network that is being built."""


def parse(text: str) -> ast.Module:
    """The syntax tree of pasted text.

    Raises:
        ModelError: it is no Python.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as error:
        place = f"line {error.lineno or 1}, column {error.offset or 1}"
        raise Located(f"{place}: this is not valid Python ({error.msg})") from None
    except (ValueError, MemoryError, RecursionError) as error:
        reason = str(error) or "it is nested too deeply"
        raise ModelError(f"the source cannot be parsed: {reason[:200]}") from None


class Run:
    """One reading of one text."""

    def __init__(self, worlds: Sequence[World], known: Mapping[str, str]) -> None:
        self.worlds = worlds
        self.known = known
        """Names that need no import in a pasted piece of code -> their dotted paths."""
        self.steps = 0
        self.calls = 0
        self.stars: list[str] = []
        self.instances: list[Instance] = []
        self.top = Scope(None)
        self.top.names["__name__"] = "__main__"
        self.scope = self.top

    # Bookkeeping

    def step(self, count: int = 1) -> None:
        self.steps += count
        if self.steps > MAX_STEPS:
            raise ModelError(
                f"it takes more than {MAX_STEPS:,} steps; leave out what does not build the network"
            )

    def made(self, instance: Instance) -> None:
        self.instances.append(instance)

    def values(self, value: Any) -> Sequence[Any]:
        """What a loop over `value` gives, all at once.

        Raises:
            ModelError: it cannot be looped over, or is too long.
        """
        if isinstance(value, Thing):
            found = value.values(self)
        elif isinstance(value, (list, tuple, set, dict, str, range)):
            if len(value) > plain.MAX_LENGTH:
                raise ModelError(f"a loop over more than {plain.MAX_LENGTH:,} items")
            found = list(value)
        else:
            raise ModelError(f"{plain.shown(value)} cannot be looped over")
        self.step(len(found))
        return found

    def truth(self, value: Any) -> bool:
        return value.truth() if isinstance(value, Thing) else bool(value)

    def is_tensor(self, value: Any) -> bool:
        if isinstance(value, (list, tuple)):
            # Lists within lists are looked at where they are used.
            return any(isinstance(v, Thing) and self.is_tensor(v) for v in value[:100])
        return any(world.is_tensor(value) for world in self.worlds)

    def check_followed(self, what: str, args: Iterable[Any]) -> None:
        """Refuse what is not known where it is given a tensor of the network.

        Raises:
            ModelError: one of `args` is such a tensor.
        """
        stack = list(args)
        for value in stack[:1000]:
            if isinstance(value, (list, tuple)):
                stack.extend(value[:100])
        if any(world.follows(value) for value in stack[:1000] for world in self.worlds):
            raise ModelError(
                f"{what} of a tensor of the network is not known to this reader; paste what "
                "defines it, or leave it out"
            )

    # Names from outside

    def external(self, path: str) -> Any:
        """The value of a dotted name."""
        if path in plain.CONSTANTS:
            return plain.CONSTANTS[path]
        for world in self.worlds:
            if world.owns(path):
                value = world.constant(path)
                return External(path) if value is NotImplemented else value
        return External(path)

    def call_external(self, path: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        everything = [*args, *kwargs.values()]
        for world in self.worlds:
            if world.owns(path):
                return world.call(path, args, kwargs, self)
        if path in plain.NUMERIC:
            if any(isinstance(value, Thing) for value in everything):
                return Ignored(path)
            return plain.checked(plain.NUMERIC[path](*args, **kwargs))
        self.check_followed(f"'{path}'", everything)
        return Ignored(path)

    def name(self, name: str) -> Any:
        scope = self.scope.find(name)
        if scope is not None:
            return scope.names[name]
        if name in BUILTINS or name == "super":
            return Builtin(name)
        for module in reversed(self.stars):
            for world in self.worlds:
                if world.owns(f"{module}.{name}") and name in self.known:
                    return self.external(f"{module}.{name}")
        if name in self.known:
            return self.external(self.known[name])
        if name in REFUSED:
            raise ModelError(f"'{name}' is not allowed: the source is read, never run")
        # What builds the network is in the text; what is not defined may be its data.
        return External(f"{self.stars[-1]}.{name}") if self.stars else Ignored(name)

    # Statements

    def program(self, body: Sequence[ast.stmt]) -> None:
        """Follow a whole text.

        Raises:
            ModelError: something in it cannot be followed.
        """
        try:
            self.run(body)
        except (Break, Continue, Return):
            raise ModelError("'break', 'continue' or 'return' outside of what it leaves") from None

    def run(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            self.execute(statement)

    def execute(self, node: ast.stmt) -> None:
        method = STATEMENTS.get(type(node))
        try:
            self.step()
            if method is None:
                raise ModelError(f"'{type(node).__name__}' statements are not supported")
            method(self, node)
        except Located:
            raise
        except (ModelError, *MISTAKES) as error:
            raise located(error, node) from None

    def import_(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.asname:
                self.scope.set(alias.asname, self.external(alias.name))
            else:
                root = alias.name.partition(".")[0]
                self.scope.set(root, External(root))

    def import_from(self, node: ast.ImportFrom) -> None:
        module = node.module or "this_package"
        for alias in node.names:
            if alias.name == "*":
                self.stars.append(module)
            elif module != "__future__":
                value = self.external(f"{module}.{alias.name}")
                self.scope.set(alias.asname or alias.name, value)

    def assign(self, node: ast.Assign) -> None:
        value = self.evaluate(node.value)
        for target in node.targets:
            self.store(target, value)

    def assign_annotated(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.store(node.target, self.evaluate(node.value))

    def assign_augmented(self, node: ast.AugAssign) -> None:
        loaded = ast.copy_location(as_load(node.target), node.target)
        old = self.evaluate(loaded)
        new = self.evaluate(node.value)
        symbol = SYMBOLS[type(node.op)]
        if type(old) is list and symbol == "+":
            old.extend(self.values(new))
            plain.checked(old)
            self.store(node.target, old)
        else:
            self.store(node.target, self.binary(symbol, old, new))

    def store(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.scope.set(target.id, value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            self.unpack(target.elts, value)
        elif isinstance(target, ast.Attribute):
            check_dunder(target.attr)
            owner = self.evaluate(target.value)
            if not isinstance(owner, Thing):
                raise ModelError(f"{plain.shown(owner)} has no attribute to set")
            owner.assign(target.attr, value)
        elif isinstance(target, ast.Subscript):
            owner, key = self.evaluate(target.value), self.evaluate(target.slice)
            if (type(owner) is dict and plain.flat(key)) or (
                type(owner) is list and type(key) is int
            ):
                owner[key] = value
            elif isinstance(owner, Thing):
                owner.set_item(key, value)
                return
            else:
                raise ModelError("this item cannot be set")
            plain.checked(owner)
        else:
            raise ModelError("this cannot be assigned to")

    def unpack(self, targets: Sequence[ast.expr], value: Any) -> None:
        if isinstance(value, (Ignored, External)):
            for target in targets:
                self.store(target.value if isinstance(target, ast.Starred) else target, value)
            return
        items = list(self.values(value))
        stars = [i for i, target in enumerate(targets) if isinstance(target, ast.Starred)]
        if stars:
            at, behind = stars[0], len(targets) - stars[0] - 1
            if len(items) < len(targets) - 1:
                raise ModelError(f"{len(items)} values for {len(targets)} names")
            items = [*items[:at], items[at : len(items) - behind], *items[len(items) - behind :]]
        if len(items) != len(targets):
            raise ModelError(f"{len(items)} values for {len(targets)} names")
        for target, item in zip(targets, items, strict=True):
            self.store(target.value if isinstance(target, ast.Starred) else target, item)

    def expression(self, node: ast.Expr) -> None:
        self.evaluate(node.value)

    def function(self, node: ast.FunctionDef) -> None:
        kind = "function"
        for decorator in node.decorator_list:
            name = last_name(decorator)
            kind = {"staticmethod": "static", "classmethod": "class", "property": "property"}.get(
                name, kind
            )
        self.scope.set(node.name, self.make_function(node.name, node.args, node.body, kind))

    def make_function(
        self,
        name: str,
        arguments: ast.arguments,
        body: list[ast.stmt] | ast.expr,
        kind: str = "function",
    ) -> Function:
        defaults = [self.evaluate(default) for default in arguments.defaults]
        named = {
            parameter.arg: self.evaluate(default)
            for parameter, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            if default is not None
        }
        return Function(name, arguments, body, self.scope, defaults, named, kind)

    def class_(self, node: ast.ClassDef) -> None:
        parents: list[UserClass] = []
        base: Base | None = None
        for expression in node.bases:
            value = self.evaluate(expression)
            if isinstance(value, UserClass):
                parents.append(value)
            elif isinstance(value, External):
                found = [w.base(value.path) for w in self.worlds if w.owns(value.path)]
                base = next((b for b in found if b is not None), base or Base())
            else:
                base = base or Base()
        cls = UserClass(node.name, parents, base)
        outer, self.scope = self.scope, Scope(self.scope)
        try:
            self.run(node.body)
            cls.names = self.scope.names
        finally:
            self.scope = outer
        if any(last_name(d) == "dataclass" for d in node.decorator_list):
            cls.fields = [
                s.target.id
                for s in node.body
                if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)
            ]
        # Methods see the scope around the class, not the names within it.
        for value in cls.names.values():
            if isinstance(value, Function):
                value.scope = outer
        self.scope.set(node.name, cls)

    def return_(self, node: ast.Return) -> None:
        raise Return(None if node.value is None else self.evaluate(node.value))

    def if_(self, node: ast.If) -> None:
        test = self.evaluate(node.test)
        if isinstance(test, Ignored) and harmless([*node.body, *node.orelse]):
            return
        self.run(node.body if self.truth(test) else node.orelse)

    def for_(self, node: ast.For) -> None:
        source = self.evaluate(node.iter)
        # A long range with a break is no long list.
        items = source if isinstance(source, range) else self.values(source)
        for item in items:
            self.step()
            self.store(node.target, item)
            try:
                self.run(node.body)
            except Continue:
                continue
            except Break:
                return
        self.run(node.orelse)

    def while_(self, node: ast.While) -> None:
        while True:
            test = self.evaluate(node.test)
            if isinstance(test, Ignored):
                return
            if not self.truth(test):
                break
            try:
                self.run(node.body)
            except Continue:
                continue
            except Break:
                return
        self.run(node.orelse)

    def with_(self, node: ast.With) -> None:
        for item in node.items:
            value = self.evaluate(item.context_expr)
            if item.optional_vars is not None:
                self.store(item.optional_vars, value)
        self.run(node.body)

    def try_(self, node: ast.Try) -> None:
        self.run([*node.body, *node.orelse, *node.finalbody])

    def raise_(self, node: ast.Raise) -> None:
        reason = ""
        if isinstance(node.exc, ast.Call) and node.exc.args:
            reason = f": {plain.as_text(self.evaluate(node.exc.args[0]))[:200]}"
        raise ModelError(f"the source raises an error here{reason}")

    def delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.scope.names.pop(target.id, None)

    def break_(self, node: ast.Break) -> None:
        raise Break

    def continue_(self, node: ast.Continue) -> None:
        raise Continue

    def global_(self, node: ast.Global) -> None:
        self.scope.shared |= dict.fromkeys(node.names, self.top)

    def nonlocal_(self, node: ast.Nonlocal) -> None:
        for name in node.names:
            owner = self.scope.parent and self.scope.parent.find(name)
            if owner is not None:
                self.scope.shared[name] = owner

    def nothing(self, node: ast.stmt) -> None:
        """A statement without effect on a network."""

    # Expressions

    def evaluate(self, node: ast.expr) -> Any:
        method = EXPRESSIONS.get(type(node))
        try:
            self.step()
            if method is None:
                raise ModelError(f"'{type(node).__name__}' expressions are not supported")
            value = method(self, node)
            kind = type(value)
            if kind is int or kind is str or kind is list or kind is tuple or kind is dict:
                plain.checked(value)
            return value
        except Located:
            raise
        except (ModelError, *MISTAKES) as error:
            raise located(error, node) from None

    def constant(self, node: ast.Constant) -> Any:
        if isinstance(node.value, bytes):
            return Ignored("bytes")
        return plain.checked(node.value)

    def load(self, node: ast.Name) -> Any:
        return self.name(node.id)

    def attribute(self, node: ast.Attribute) -> Any:
        inner = node.value
        attribute = inner.attr if isinstance(inner, ast.Attribute) else ""
        if node.attr == "__name__" and attribute == "__class__":
            # `layer.__class__.__name__` in a loop that prints shapes.
            return Ignored("a class's name")
        check_dunder(node.attr)
        owner = self.evaluate(node.value)
        if isinstance(owner, Thing):
            return owner.attribute(node.attr, self)
        method = plain.METHODS.get(type(owner), {}).get(node.attr)
        if method is None:
            raise ModelError(f"'{node.attr}' of {plain.shown(owner)} is not supported")
        return Method(node.attr, self.plain_method(method, owner))

    def plain_method(self, method: Callable[..., Any], owner: Any) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if isinstance(owner, str):
                self.step(plain.weight(owner))
            if isinstance(owner, str) and any(isinstance(a, Thing) for a in args):
                return Ignored("text")
            bounded = [self.values(a) if isinstance(a, (range, Thing)) and
                       method is plain.METHODS[list]["extend"] else a for a in args]  # fmt: skip
            value = method(owner, *bounded, **kwargs)
            plain.checked(owner)
            self.step(plain.weight(value))
            return value

        return call

    def subscript(self, node: ast.Subscript) -> Any:
        owner, key = self.evaluate(node.value), self.evaluate(node.slice)
        if isinstance(owner, Thing):
            return owner.item(key, self)
        if isinstance(key, Ignored):
            return key
        if not isinstance(owner, (list, tuple, dict, str, range)):
            raise ModelError(f"{plain.shown(owner)} cannot be indexed")
        if isinstance(owner, dict) and not plain.flat(key):
            raise ModelError("keys are numbers and texts")
        if isinstance(owner, (tuple, list, str)) and isinstance(key, slice):
            self.step(plain.weight(owner))
        try:
            return owner[key]
        except (IndexError, KeyError):
            raise ModelError(f"there is no item {plain.shown(key)}") from None

    def slice(self, node: ast.Slice) -> Any:
        ends = [
            None if n is None else self.evaluate(n) for n in (node.lower, node.upper, node.step)
        ]
        return slice(*ends)

    def items(self, nodes: Sequence[ast.expr]) -> list[Any]:
        """The values of a list's or a call's items, stars unfolded."""
        found: list[Any] = []
        for item in nodes:
            if isinstance(item, ast.Starred):
                found.extend(self.values(self.evaluate(item.value)))
            else:
                found.append(self.evaluate(item))
        return found

    def tuple_(self, node: ast.Tuple) -> Any:
        return tuple(self.items(node.elts))

    def list_(self, node: ast.List) -> Any:
        return self.items(node.elts)

    def set_(self, node: ast.Set) -> Any:
        return hashed(self.items(node.elts))

    def dict_(self, node: ast.Dict) -> Any:
        found: dict[Any, Any] = {}
        for key_node, value_node in zip(node.keys, node.values, strict=True):
            value = self.evaluate(value_node)
            if key_node is not None:
                key = self.evaluate(key_node)
                if isinstance(key, Ignored):
                    continue
                (key,) = hashed([key])
                found[key] = value
            elif isinstance(value, dict):
                self.step(len(value))
                found.update(value)
            elif not isinstance(value, Ignored):
                raise ModelError(f"{plain.shown(value)} is no mapping")
        return found

    def binary_(self, node: ast.BinOp) -> Any:
        left, right = self.evaluate(node.left), self.evaluate(node.right)
        return self.binary(SYMBOLS[type(node.op)], left, right)

    def binary(self, symbol: str, left: Any, right: Any) -> Any:
        for value, other, swapped in ((left, right, False), (right, left, True)):
            if self.is_tensor(value) and isinstance(value, Thing):
                return value.binary(symbol, other, swapped, self)
        for value, other, swapped in ((left, right, False), (right, left, True)):
            if isinstance(value, Thing):
                return value.binary(symbol, other, swapped, self)
        if symbol not in plain.BINARY:
            raise ModelError(f"'{symbol}' of {plain.shown(left)} is not supported")
        value = plain.checked(plain.BINARY[symbol](left, right))
        self.step(plain.weight(value))
        return value

    def unary_(self, node: ast.UnaryOp) -> Any:
        value = self.evaluate(node.operand)
        if isinstance(node.op, ast.Not):
            return value if isinstance(value, Ignored) else not self.truth(value)
        symbol = SYMBOLS[type(node.op)]
        if isinstance(value, Thing):
            return value.unary(symbol, self)
        return plain.UNARY[symbol](value)

    def logic(self, node: ast.BoolOp) -> Any:
        stop = isinstance(node.op, ast.Or)
        value: Any = None
        for operand in node.values:
            value = self.evaluate(operand)
            if isinstance(value, Ignored) or self.truth(value) is stop:
                return value
        return value

    def comparison(self, node: ast.Compare) -> Any:
        left = self.evaluate(node.left)
        for operator, right_node in zip(node.ops, node.comparators, strict=True):
            right = self.evaluate(right_node)
            found = self.compare(SYMBOLS[type(operator)], left, right)
            if isinstance(found, Ignored) or not found:
                return found
            left = right
        return True

    def compare(self, symbol: str, left: Any, right: Any) -> Any:
        if symbol in ("is", "is not"):
            same = left is right or (
                plain.scalar(left) and left == right and type(left) is type(right)
            )
            if left is not right and isinstance(left, Ignored):
                return left
            return same is (symbol == "is")
        for value in (left, right):
            if isinstance(value, Ignored):
                return value
        if symbol in ("in", "not in"):
            if isinstance(left, str) and isinstance(right, str):
                self.step(plain.weight(right))
                found = left in right
            else:
                found = any(plain.equal(left, item) for item in self.values(right))
            return found is (symbol == "in")
        self.step(plain.weight(left) + plain.weight(right))
        if symbol in ("==", "!="):
            return plain.equal(left, right) is (symbol == "==")
        if not plain.flat(left) or not plain.flat(right):
            raise ModelError(f"'{symbol}' compares numbers and texts only")
        tests: dict[str, Callable[[Any, Any], bool]] = {
            "<": lambda a, b: a < b,
            "<=": lambda a, b: a <= b,
            ">": lambda a, b: a > b,
            ">=": lambda a, b: a >= b,
        }
        return bool(tests[symbol](left, right))

    def choice(self, node: ast.IfExp) -> Any:
        test = self.evaluate(node.test)
        if isinstance(test, Ignored):
            return test
        return self.evaluate(node.body if self.truth(test) else node.orelse)

    def lambda_(self, node: ast.Lambda) -> Any:
        return self.make_function("lambda", node.args, node.body)

    def named(self, node: ast.NamedExpr) -> Any:
        value = self.evaluate(node.value)
        self.store(node.target, value)
        return value

    def text(self, node: ast.JoinedStr) -> Any:
        found = []
        for part in node.values:
            value = self.evaluate(part)
            if isinstance(value, Ignored):
                return value
            found.append(value)
        made = plain.joined("", found)
        self.step(plain.weight(made))
        return made

    def text_part(self, node: ast.FormattedValue) -> Any:
        value = self.evaluate(node.value)
        spec = "" if node.format_spec is None else self.evaluate(node.format_spec)
        if isinstance(value, Ignored) or isinstance(spec, Ignored):
            return value
        if isinstance(value, Thing):
            return Ignored("text")
        return plain.formatted(value, spec)

    def comprehension(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp) -> Any:
        found: list[Any] = []
        for _ in self.rounds(node.generators):
            found.append(self.evaluate(node.elt))
            plain.checked(found)
        return hashed(found) if isinstance(node, ast.SetComp) else found

    def dict_comprehension(self, node: ast.DictComp) -> Any:
        found: dict[Any, Any] = {}
        for _ in self.rounds(node.generators):
            (key,) = hashed([self.evaluate(node.key)])
            found[key] = self.evaluate(node.value)
        return found

    def rounds(self, generators: Sequence[ast.comprehension]) -> Iterator[None]:
        """Runs through the loops of a comprehension, in a scope of its own."""
        outer, self.scope = self.scope, Scope(self.scope)
        try:
            yield from self.nested(generators)
        finally:
            self.scope = outer

    def nested(self, generators: Sequence[ast.comprehension]) -> Iterator[None]:
        first, *rest = generators
        for item in self.values(self.evaluate(first.iter)):
            self.step()
            self.store(first.target, item)
            if all(self.truth(self.evaluate(test)) for test in first.ifs):
                if rest:
                    yield from self.nested(rest)
                else:
                    yield

    def call(self, node: ast.Call) -> Any:
        called = self.evaluate(node.func)
        args = self.items(node.args)
        kwargs: dict[str, Any] = {}
        for keyword in node.keywords:
            value = self.evaluate(keyword.value)
            if keyword.arg is not None:
                kwargs[keyword.arg] = value
            elif isinstance(value, dict):
                self.step(len(value))
                if not all(isinstance(key, str) for key in value):
                    raise ModelError("names of arguments are texts")
                kwargs.update(value)
            elif not isinstance(value, Ignored):
                raise ModelError(f"{plain.shown(value)} is no mapping of arguments")
        if isinstance(called, Thing):
            return called.call(args, kwargs, self)
        raise ModelError(f"{plain.shown(called)} cannot be called")

    def call_function(
        self,
        function: Function,
        args: list[Any],
        kwargs: dict[str, Any],
        owner: tuple[UserClass, Instance] | None = None,
    ) -> Any:
        self.calls += 1
        if self.calls > MAX_CALLS:
            raise ModelError(f"'{function.name}': calls are nested more than {MAX_CALLS} deep")
        outer, self.scope = self.scope, Scope(function.scope, owner)
        try:
            self.scope.names.update(arguments(function, args, kwargs))
            if isinstance(function.body, ast.expr):
                return self.evaluate(function.body)
            self.run(function.body)
        except Return as result:
            return result.value
        except (Break, Continue):
            raise ModelError(f"'break' or 'continue' of '{function.name}' is in no loop") from None
        finally:
            self.scope = outer
            self.calls -= 1
        return None


def arguments(function: Function, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Values of a function's parameters.

    Raises:
        ModelError: some are missing, or there are too many.
    """
    spec = function.arguments
    only = [parameter.arg for parameter in spec.posonlyargs]
    names = only + [parameter.arg for parameter in spec.args]
    given = dict(zip(names, args, strict=False))
    extra = args[len(names) :]
    if spec.vararg is not None:
        given[spec.vararg.arg] = tuple(extra)
    elif extra:
        raise ModelError(f"'{function.name}' takes {len(names)} arguments, got {len(args)}")
    others: dict[str, Any] = {}
    named = {parameter.arg for parameter in spec.kwonlyargs} | set(names)
    for key, value in kwargs.items():
        if key in given and key in named:
            raise ModelError(f"'{function.name}' got '{key}' twice")
        if key in named:
            given[key] = value
        elif spec.kwarg is not None:
            others[key] = value
        else:
            raise ModelError(f"'{function.name}' has no argument '{key}'")
    if spec.kwarg is not None:
        given[spec.kwarg.arg] = others
    defaults = dict(
        zip(names[len(names) - len(function.defaults) :], function.defaults, strict=True)
    )
    given = {**defaults, **function.keyword_defaults, **given}
    for name in [*names, *(parameter.arg for parameter in spec.kwonlyargs)]:
        if name not in given:
            raise ModelError(f"'{function.name}' needs the argument '{name}'")
    return given


#: What wrong types and values raise while plain values are combined.
MISTAKES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def located(error: Exception, node: ast.AST) -> Located:
    """The error with the place of `node`."""
    place = f"line {getattr(node, 'lineno', 1)}, column {getattr(node, 'col_offset', 0) + 1}"
    text = str(error)
    if isinstance(error, KeyError):
        text = f"there is no item {text}"
    return Located(f"{place}: {text[:500] or type(error).__name__}")


def harmless(body: Sequence[ast.stmt]) -> bool:
    """Whether statements only call something, and add nothing to anything."""
    return all(
        isinstance(statement, ast.Pass | ast.Raise)
        or (
            isinstance(statement, ast.Expr)
            and not (
                isinstance(statement.value, ast.Call)
                and last_name(statement.value)
                in ("add", "append", "extend", "insert", "add_module")
            )
        )
        for statement in body
    )


def check_dunder(name: str) -> None:
    if name.startswith("__") and name not in DUNDERS:
        raise ModelError(f"'{name}' is not allowed: the source is read, never run")


def last_name(node: ast.expr) -> str:
    """The last part of a decorator's name."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def as_load(node: ast.expr) -> ast.expr:
    """A target as an expression that reads it."""
    if isinstance(node, ast.Name):
        return ast.Name(node.id, ast.Load())
    if isinstance(node, ast.Attribute):
        return ast.Attribute(node.value, node.attr, ast.Load())
    if isinstance(node, ast.Subscript):
        return ast.Subscript(node.value, node.slice, ast.Load())
    raise ModelError("this cannot be assigned to")


STATEMENTS: dict[type[ast.AST], Callable[[Run, Any], None]] = {
    ast.Import: Run.import_, ast.ImportFrom: Run.import_from, ast.Assign: Run.assign,
    ast.AnnAssign: Run.assign_annotated, ast.AugAssign: Run.assign_augmented,
    ast.Expr: Run.expression, ast.FunctionDef: Run.function, ast.ClassDef: Run.class_,
    ast.Return: Run.return_, ast.If: Run.if_, ast.For: Run.for_, ast.While: Run.while_,
    ast.With: Run.with_, ast.Try: Run.try_, ast.Raise: Run.raise_, ast.Delete: Run.delete,
    ast.Break: Run.break_, ast.Continue: Run.continue_, ast.Global: Run.global_,
    ast.Nonlocal: Run.nonlocal_, ast.Pass: Run.nothing, ast.Assert: Run.nothing,
}  # fmt: skip

EXPRESSIONS: dict[type[ast.AST], Callable[[Run, Any], Any]] = {
    ast.Constant: Run.constant, ast.Name: Run.load, ast.Attribute: Run.attribute,
    ast.Subscript: Run.subscript, ast.Slice: Run.slice, ast.Tuple: Run.tuple_,
    ast.List: Run.list_, ast.Set: Run.set_, ast.Dict: Run.dict_, ast.BinOp: Run.binary_,
    ast.UnaryOp: Run.unary_, ast.BoolOp: Run.logic, ast.Compare: Run.comparison,
    ast.IfExp: Run.choice, ast.Lambda: Run.lambda_, ast.NamedExpr: Run.named,
    ast.JoinedStr: Run.text, ast.FormattedValue: Run.text_part, ast.Call: Run.call,
    ast.ListComp: Run.comprehension, ast.GeneratorExp: Run.comprehension,
    ast.SetComp: Run.comprehension, ast.DictComp: Run.dict_comprehension,
}  # fmt: skip
