"""The messages of kvmscope's errors and gaps, as its code has them: texts, with … for what is filled in at run time.

Nothing is run. Where code raises an error, the expression of its message is followed to its texts: through names,
both sides of conditions, constants of other modules, what functions return, and what callers pass as an argument.
What comes from elsewhere (the kernel's words for an errno, another program's answer, a name) is a …, so a message that
is nothing else has no text of kvmscope, and is left out.
"""

from __future__ import annotations

import ast
import importlib
import itertools
import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import kvmscope
from kvmscope import errors
from kvmscope.errors import KvmscopeError

SOURCES = Path(errors.__file__).parent
HOLE = "…"
GAP = "gap"

_FORMS = {
    "FormatError": ("{} at byte …: expected {}, got …", ("what", "expected")),
    "CatalogError": ("…expected {}, found …", ("expected",)),
    "OutputError": ("the output could not be written: {}", ("reason",)),
}
"""How a kind of error makes its message of its arguments, where that is not one argument alone (errors.py)."""

_PLAIN = ("{}", ("reason",))
_FAIL = "fail"
_MOST_STEPS = 12
_MOST_TEXTS = 64


@dataclass(frozen=True, slots=True, order=True)
class Message:
    """What a kind of error, or a gap, says. ``remedy`` is what it suggests to try, or empty."""

    slug: str
    text: str
    remedy: str = ""

    def matches(self, said: str) -> bool:
        pattern = ".*".join(re.escape(part) for part in self.text.split(HOLE))
        return re.fullmatch(pattern, said, re.DOTALL) is not None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A place in a text that the callers of a function fill."""

    function: ast.FunctionDef | ast.AsyncFunctionDef
    name: str


Text = tuple["str | Parameter", ...]


@dataclass(frozen=True)
class Module:
    """A parsed file, with the functions and classes around each of its nodes."""

    name: str
    tree: ast.Module
    parents: dict[ast.AST, ast.AST] = field(repr=False)

    @classmethod
    def read(cls, path: Path, root: Path) -> Module:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        parts = path.relative_to(root).with_suffix("").parts
        return cls(".".join(parts[:-1] if parts[-1] == "__init__" else parts), tree, parents)

    def functions_around(self, node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        while (node := self.parents.get(node, self.tree)) is not self.tree:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def is_passed(self, statement: ast.stmt, *, before: ast.AST) -> bool:
        """Whether whoever comes to a node of the same function has run this statement: it is in a block around it."""
        block = self.block_of(statement)
        while (parent := self.parents.get(before)) is not None:
            if isinstance(before, ast.stmt) and self.block_of(before) == block:
                return True
            before = parent
        return False

    def block_of(self, statement: ast.stmt) -> int:
        """A number for the list of statements that this one is in."""
        parent = self.parents[statement]
        lists = (getattr(parent, name, None) for name in ("body", "orelse", "finalbody"))
        return next((id(each) for each in lists if isinstance(each, list) and statement in each), id(parent))

    @cached_property
    def imported(self) -> Mapping[str, tuple[str, str]]:
        """The module and the name there of what is imported by name; the package's own, with or without dots."""
        found = {}
        package = self.name.split(".")[:-1]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
                for alias in node.names:
                    found[alias.asname or alias.name] = (".".join(filter(None, base)), alias.name)
        return found

    @cached_property
    def constants(self) -> Mapping[str, ast.expr]:
        found = {}
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[node.targets[0].id] = node.value
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                found[node.target.id] = node.value
        return found


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of the expressions that a name may stand for; those of one ``block`` belong together."""

    block: int | None
    module: Module
    node: ast.expr


class Program:
    """All files of the package."""

    def __init__(self, root: Path) -> None:
        modules = [Module.read(path, root) for path in sorted(root.rglob("*.py"))]
        self.modules = {module.name: module for module in modules}
        self._functions: dict[str, list[tuple[Module, ast.FunctionDef | ast.AsyncFunctionDef]]] = {}
        self._calls: dict[str, list[tuple[Module, ast.Call]]] = {}
        for module in modules:
            for node in ast.walk(module.tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    self._functions.setdefault(node.name, []).append((module, node))
                elif isinstance(node, ast.Call) and (name := _name_of(node.func)) and not _is_of_a_mapping(node):
                    self._calls.setdefault(name, []).append((module, node))

    def calls(self, name: str) -> Sequence[tuple[Module, ast.Call]]:
        return self._calls.get(name, ())

    def function(self, module: Module, call: ast.Call) -> tuple[Module, ast.FunctionDef | ast.AsyncFunctionDef] | None:
        """The function that is called, if its name leaves one choice."""
        name = _name_of(call.func)
        there, wanted = module.imported.get(name, (module.name, name))
        found = self._functions.get(wanted, [])
        near = [each for each in found if each[0].name == there]
        return near[0] if len(near) == 1 else found[0] if len(found) == 1 else None

    def callers(
        self, module: Module, function: ast.FunctionDef | ast.AsyncFunctionDef
    ) -> Iterator[tuple[Module, ast.Call]]:
        name = function.name
        if name == "__init__":
            around = module.parents[function]
            name = around.name if isinstance(around, ast.ClassDef) else name
        for there, call in self.calls(name):
            found = self.function(there, call)
            is_near = there is module or not name.startswith("_")
            if (
                name != function.name
                or (found and found[1] is function)
                or (not found and is_near and _fits(call, function))
            ):
                yield there, call

    def constant(self, module: Module, name: str) -> tuple[Module, ast.expr] | None:
        if name in module.constants:
            return module, module.constants[name]
        there, wanted = module.imported.get(name, ("", ""))
        if there in self.modules and wanted in self.modules[there].constants:
            return self.modules[there], self.modules[there].constants[wanted]
        return None


class Reading:
    """The texts that expressions can have."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def together(self, module: Module, nodes: Sequence[ast.expr]) -> list[tuple[Text, ...]]:
        """Those of several expressions, only as they occur together where one block or one return sets their names."""
        found: list[tuple[Text, ...]] = []
        for choice in itertools.product(*(self._alternatives(module, node) for node in nodes)):
            if len({each.block for each in choice} - {None}) <= 1:
                found += itertools.product(*(self.texts(each.module, each.node) for each in choice))
        return found[:_MOST_TEXTS]

    def _alternatives(self, module: Module, node: ast.expr) -> list[Alternative]:
        """What a name may be set to, each with where that is; another expression is its own."""
        settings = list(self._settings(module, node)) if isinstance(node, ast.Name) else []
        if not settings or any(isinstance(statement, ast.AugAssign) for statement, _ in settings):
            return [Alternative(None, module, node)]
        found = []
        for statement, value in settings:
            if isinstance(value, ast.Subscript) and (parts := list(self._parts_returned(module, value))):
                found += parts
            else:
                found.append(Alternative(module.block_of(statement) if statement else None, module, value))
        return found

    def _parts_returned(self, module: Module, node: ast.Subscript) -> Iterator[Alternative]:
        """What a function has at a place of the tuples that it returns."""
        called = self.program.function(module, node.value) if isinstance(node.value, ast.Call) else None
        at = node.slice.value if isinstance(node.slice, ast.Constant) else None
        if called is None or not isinstance(at, int):
            return
        there, function = called
        for each in ast.walk(function):
            if isinstance(each, ast.Return) and isinstance(each.value, ast.Tuple):
                yield Alternative(id(each), there, each.value.elts[at])

    def texts(self, module: Module, node: ast.expr, steps: int = _MOST_STEPS) -> list[Text]:
        """Each text that a node can have, with its holes and parameters."""
        found = list(dict.fromkeys(itertools.islice(self._texts(module, node, steps), _MOST_TEXTS)))
        return found or [(HOLE,)]

    def _texts(self, module: Module, node: ast.expr, steps: int) -> Iterator[Text]:
        if steps == 0:
            yield (HOLE,)
            return
        match node:
            case ast.Constant(value=str(text)):
                yield (text,)
            case ast.JoinedStr(values=parts):
                yield from self._joined(module, parts, steps)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                yield from self._joined(module, [left, right], steps)
            case ast.IfExp(body=body, orelse=orelse):
                yield from self._each(module, [body, orelse], steps)
            case ast.BoolOp(values=values):
                yield from self._each(module, values, steps)
            # A name or a number that is shown is a hole, and so is what a function makes of one.
            case ast.FormattedValue(value=value, conversion=-1) if not isinstance(value, ast.Call):
                yield from self.texts(module, value, steps - 1)
            case ast.Name():
                yield from self._named(module, node, steps)
            case ast.Call():
                yield from self._called(module, node, steps)
            case ast.Subscript(value=mapping):
                yield from self._of_mapping(module, mapping, steps)
            case _:
                yield (HOLE,)

    def _each(self, module: Module, nodes: Iterable[ast.expr], steps: int) -> Iterator[Text]:
        for node in nodes:
            yield from self.texts(module, node, steps)

    def _joined(self, module: Module, parts: Sequence[ast.expr], steps: int) -> Iterator[Text]:
        for choice in itertools.product(*(self.texts(module, part, steps) for part in parts)):
            yield tuple(itertools.chain(*choice))

    def _named(self, module: Module, node: ast.Name, steps: int) -> Iterator[Text]:
        settings = list(self._settings(module, node))
        taken_up: ast.expr | None = None
        for at, (statement, value) in enumerate(settings):
            before = [each for _, each in settings[at + 1 : at + 2]] if isinstance(statement, ast.AugAssign) else []
            if value is not taken_up:
                yield from self._joined(module, [*before, value], steps - 1)
            if before and isinstance(statement, ast.AugAssign) and module.is_passed(statement, before=node):
                taken_up = before[0]
        for function in () if settings else module.functions_around(node):
            if node.id in _parameters(function):
                yield (Parameter(function, node.id),)
                return
        if not settings and (constant := self.program.constant(module, node.id)):
            yield from self.texts(*constant, steps - 1)

    def _settings(self, module: Module, node: ast.Name) -> Iterator[tuple[ast.stmt | None, ast.expr]]:
        """What a name may be set to where it is used: by the last statements before, in each branch."""
        for function in module.functions_around(node):
            found = [each for each in ast.walk(function) if isinstance(each, ast.stmt) and each.lineno <= node.lineno]
            found = [each for each in found if node not in _inside(each)]
            for statement in sorted(found, key=lambda each: each.lineno, reverse=True):
                if (value := _value(statement, node.id)) is not None:
                    yield statement, value
                    if not isinstance(statement, ast.AugAssign) and module.is_passed(statement, before=node):
                        return
            named = [
                each for each in ast.walk(function) if isinstance(each, ast.NamedExpr) and each.target.id == node.id
            ]
            yield from ((None, each.value) for each in named)
            if named or node.id in _parameters(function):
                return

    def _called(self, module: Module, call: ast.Call, steps: int) -> Iterator[Text]:
        """What a function of the package returns, with the arguments in it."""
        if _is_of_a_mapping(call):
            assert isinstance(call.func, ast.Attribute)
            yield from self._of_mapping(module, call.func.value, steps)
            for default in call.args[1:]:
                yield from self.texts(module, default, steps)
            return
        if (found := self.program.function(module, call)) is None:
            yield (HOLE,)
            return
        there, function = found
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and node.value is not None:
                for text in self.texts(there, node.value, steps - 1):
                    yield from self._filled(text, function, module, call, steps - 1)

    def _of_mapping(self, module: Module, node: ast.expr, steps: int) -> Iterator[Text]:
        if isinstance(node, ast.Name) and (constant := self.program.constant(module, node.id)):
            module, node = constant
        values = node.values if isinstance(node, ast.Dict) else []
        for value in values:
            yield from self.texts(module, value, steps - 1)
        if not values:
            yield (HOLE,)

    def _filled(
        self, text: Text, function: ast.AST, module: Module, call: ast.Call, steps: int = _MOST_STEPS
    ) -> list[Text]:
        """A text of a function with what a call passes for its parameters."""
        choices = [
            self._phrases(module, argument, steps, alone=len(text) == 1)
            if isinstance(part, Parameter) and part.function is function and (argument := _argument(call, part))
            else [(HOLE,) if isinstance(part, Parameter) and part.function is function else (part,)]
            for part in text
        ]
        return [tuple(itertools.chain(*choice)) for choice in itertools.product(*choices)]

    def _phrases(self, module: Module, node: ast.expr, steps: int, *, alone: bool) -> list[Text]:
        """What is passed for a parameter; within a longer text phrases alone, as a single word is a name."""
        if isinstance(node, ast.Call) and not alone:
            return [(HOLE,)]
        texts = self.texts(module, node, steps)
        return texts if alone else list(dict.fromkeys(text if " " in _shown(text) else _holes(text) for text in texts))

    def by_callers(self, module: Module, row: tuple[Text, ...], steps: int = 4) -> Iterator[tuple[str, ...]]:
        """Texts with what all callers pass, once nothing but holes is left in them."""
        function = next((part.function for text in row for part in text if isinstance(part, Parameter)), None)
        callers = list(self.program.callers(module, function)) if function is not None and steps else []
        if function is None or not callers:
            yield tuple(_shown(text) for text in row)
            return
        for there, call in callers:
            for choice in itertools.product(*(self._filled(text, function, there, call) for text in row)):
                yield from self.by_callers(there, choice, steps - 1)


def _name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_of_a_mapping(call: ast.Call) -> bool:
    """Whether this is ``get`` of a mapping, which calls no function of the package, whatever is named so there."""
    return isinstance(call.func, ast.Attribute) and call.func.attr == "get"


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    arguments = function.args
    return [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def _inside(statement: ast.stmt) -> set[ast.AST]:
    """The nodes of a statement that sets a name, where the name still has its earlier value."""
    is_setting = isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign)
    return set(ast.walk(statement)) if is_setting else set()


def _value(statement: ast.stmt, name: str) -> ast.expr | None:
    """What a statement sets a name to; of a tuple its part, where that is written out."""
    if isinstance(statement, ast.AnnAssign | ast.AugAssign):
        return statement.value if _name_of(statement.target) == name else None
    if not isinstance(statement, ast.Assign):
        return None
    target, value = statement.targets[0], statement.value
    if isinstance(target, ast.Tuple):
        names = [_name_of(each) for each in target.elts]
        if name not in names:
            return None
        at = names.index(name)
        return value.elts[at] if isinstance(value, ast.Tuple) else ast.Subscript(value, ast.Constant(at))
    return value if isinstance(target, ast.Name) and target.id == name else None


def _argument(call: ast.Call, parameter: Parameter) -> ast.expr | None:
    """What a call passes, or the default."""
    for keyword in call.keywords:
        if keyword.arg == parameter.name:
            return keyword.value
    arguments = parameter.function.args
    positional = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    if parameter.name in positional:
        at = positional.index(parameter.name) - (positional[0] in ("self", "cls"))
        if at < len(call.args):
            return call.args[at]
        defaults = dict(zip(reversed(positional), reversed(arguments.defaults), strict=False))
        return defaults.get(parameter.name)
    keyed = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return next((default for each, default in keyed if each.arg == parameter.name), None)


def _fits(call: ast.Call, function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a call passes what the function asks for, as far as that is written out."""
    if any(isinstance(each, ast.Starred) for each in call.args) or any(each.arg is None for each in call.keywords):
        return True
    arguments = function.args
    positional = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    positional = positional[1:] if positional[:1] in (["self"], ["cls"]) else positional
    needed = set(positional[: len(positional) - len(arguments.defaults)])
    needed |= {
        each.arg for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if not default
    }
    passed = {*positional[: len(call.args)], *(each.arg for each in call.keywords if each.arg)}
    return len(call.args) <= len(positional) and needed <= passed <= set(_parameters(function))


def _holes(text: Text) -> Text:
    """A hole for its words; parameters stay."""
    return tuple(HOLE if isinstance(part, str) else part for part in text)


def _shown(text: Text) -> str:
    shown = "".join(part if isinstance(part, str) else HOLE for part in text)
    return re.sub(f"{HOLE}(?:{HOLE})+", HOLE, shown)


def _kinds() -> dict[str, str]:
    """The slug of each kind of error by its name, and of what else says why something is missing."""
    for each in pkgutil.walk_packages(kvmscope.__path__, "kvmscope."):  # kinds are known once their modules are loaded
        if not each.name.endswith("__main__"):
            importlib.import_module(each.name)
    kinds: dict[str, str] = {"Gap": GAP, "BadParameter": "usage", _FAIL: "usage"}
    ahead: list[type[KvmscopeError]] = [KvmscopeError]
    while ahead:
        kind = ahead.pop()
        kinds[kind.__name__] = kind.slug
        ahead += kind.__subclasses__()
    return kinds


def messages(root: Path = SOURCES) -> list[Message]:
    """All of them below a folder, in order of slug and text."""
    program = Program(root)
    reading = Reading(program)
    found = set()
    for kind, slug in _kinds().items():
        form, names = _FORMS.get(kind, _PLAIN)
        for module, call in program.calls(kind):
            if kind == _FAIL and not _is_of_an_option(call):
                continue
            nodes = [_part(call, name, at) for at, name in enumerate(names)]
            nodes.append(_part(call, "remedy", None))
            for row in reading.together(module, nodes):
                for *parts, remedy in reading.by_callers(module, row):
                    if _has_text(parts):
                        found.add(
                            Message(slug, form.format(*parts).removeprefix(": "), "" if remedy == HOLE else remedy)
                        )
    return sorted(found)


def _is_of_an_option(call: ast.Call) -> bool:
    """Whether this is click's ``fail(message, param, ctx)``, by which the type of an option refuses a value."""
    return [_name_of(each) for each in call.args[1:]] == ["param", "ctx"]


def _part(call: ast.Call, name: str, at: int | None) -> ast.expr:
    keywords = {each.arg: each.value for each in call.keywords}
    if name in keywords:
        return keywords[name]
    return call.args[at] if at is not None and at < len(call.args) else ast.Constant("")


def _has_text(parts: Iterable[str]) -> bool:
    return any(re.search(r"\w\w", part) for part in parts)
