#!/usr/bin/env python3
"""Reads the tables of statistics out of kernel sources, and holds the catalogue to them.

    tools/kernel_stats.py extract TREE [--arch ARCH]     the stats of a tree, as `kvmscope schema dump` writes them
    tools/kernel_stats.py check TREE...                  fail if the catalogue says something else than these trees
    tools/kernel_stats.py add TREE...                    add these trees to src/kvmscope/catalog/kernels/
    tools/kernel_stats.py fetch SERIES...                get the trees of Debian's linux-source packages; prints where
    tools/kernel_stats.py known FOLDER                   write src/kvmscope/catalog/kernels/ again from the trees in
                                                         FOLDER, one each kernel, and from captured stats files

A tree is a kernel source tree, or as much of one as its Makefile, arch/*/kvm, include/linux/kvm* and virt/kvm. The
macros of the tables are expanded as that kernel defines them, so that a macro which is new needs no change here. What
cannot be expanded, or a table that is not found, ends in an error: nothing is guessed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from kvmscope.analysis.schema_diff import shape_words
from kvmscope.catalog.kernels import PROVIDER, known_kernels, read_kernels, version_of
from kvmscope.catalog.stats import StatCatalog, StatEntry, load_stats
from kvmscope.codec.schema_json import encode
from kvmscope.codec.statsfile import parse
from kvmscope.errors import KvmscopeError
from kvmscope.lab.kernel_packages import Apt, run_tool
from kvmscope.lab.kernels import cache_folder
from kvmscope.schema import Base, KernelTables, Kind, Scope, Shape, Table, Unit

PROJECT = Path(__file__).parents[1]
KNOWN = PROJECT / "src/kvmscope/catalog/kernels"
CAPTURED = PROJECT / "tests/data/statsfile"

_KINDS = {
    "CUMULATIVE": Kind.CUMULATIVE,
    "INSTANT": Kind.INSTANT,
    "PEAK": Kind.PEAK,
    "LINEAR_HIST": Kind.LINEAR_HISTOGRAM,
    "LOG_HIST": Kind.LOG_HISTOGRAM,
}

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)(?:\(([^()]*)\))?[ \t]*(.*)$", re.MULTILINE)
_TABLE = r"kvm_stats_desc\s+kvm_{scope}_stats_desc\[\]\s*=\s*\{{(.*?)\n\}};"
_CALL = re.compile(r"(\w+)\s*\(")
_DESCRIBES = re.compile(r"(VM|VCPU)(_GENERIC)?_STATS_DESC")
_CONDITION = re.compile(r"#\s*(ifdef|ifndef|if|else|elif|endif)\b\s*(.*)")

Word = TypeVar("Word", Kind, Unit, Base)


class NotUnderstood(Exception):
    """Something of a kernel source that this tool cannot read."""


@dataclass(frozen=True, slots=True)
class Port:
    """One way to build KVM: which folder of arch/, which files (a part of their names), with what configured."""

    name: str
    folder: str
    file: str = ""
    configured: frozenset[str] = frozenset()


PORTS = (
    Port("arm64", "arm64"),
    Port("loongarch", "loongarch"),
    Port("mips", "mips"),
    Port("mips-loongson64", "mips", configured=frozenset({"CONFIG_CPU_LOONGSON64"})),
    Port("powerpc", "powerpc", "book3s"),
    Port("powerpc-booke", "powerpc", "booke"),
    Port("riscv", "riscv"),
    Port("s390", "s390"),
    Port("x86", "x86"),
)
"""The servers' port of powerpc has its name alone; that of embedded CPUs (booke) has other stats."""


@dataclass(frozen=True, slots=True)
class Macro:
    parameters: tuple[str, ...] | None
    body: str


def read_tree(tree: Path, port: Port) -> tuple[Table, ...] | None:
    """The tables of a port, VM and vCPU; None if this kernel has no statistics that describe themselves there."""
    headers = [tree / "include/linux" / name for name in ("kvm_types.h", "kvm_host.h")]
    if not headers[1].exists() or "STATS_DESC" not in headers[1].read_text(encoding="utf-8"):
        raise NotUnderstood(f"{tree} is no kernel source with KVM statistics (5.14 or later)")
    macros = read_macros("\n".join(path.read_text(encoding="utf-8") for path in headers))
    sources = [path for path in sorted((tree / "arch" / port.folder / "kvm").rglob("*.c")) if port.file in path.name]
    texts = [_COMMENT.sub("", path.read_text(encoding="utf-8", errors="replace")) for path in sources]
    tables = {scope: _find_table(texts, scope, f"{tree}: {port.name}") for scope in Scope}
    if None in tables.values():
        if any(tables.values()):
            raise NotUnderstood(f"{tree}: {port.name} has a table of one scope and none of the other")
        return None
    return tuple(
        Table(PROVIDER, scope, MappingProxyType(dict(read_stats(body or "", macros, port.configured))))
        for scope, body in tables.items()
    )


def _find_table(texts: Iterable[str], scope: Scope, where: str) -> str | None:
    pattern = re.compile(_TABLE.format(scope=scope.value), re.DOTALL)
    found = [table for text in texts for table in pattern.findall(text)]
    if len(found) > 1:
        raise NotUnderstood(f"{where} has {len(found)} tables of {scope.value} stats")
    return found[0] if found else None


def read_macros(text: str) -> dict[str, Macro]:
    """Every macro of a header; of one that is defined again, the last."""
    joined = _COMMENT.sub("", text).replace("\\\n", " ")
    return {
        name: Macro(tuple(part.strip() for part in parameters.split(",")) if parameters is not None else None, body)
        for name, parameters, body in ((found[1], found[2], found[3].strip()) for found in _DEFINE.finditer(joined))
    }


def read_stats(body: str, macros: Mapping[str, Macro], configured: frozenset[str]) -> Iterator[tuple[str, Shape]]:
    """The stats that the body of a table describes, in its order."""
    for name, arguments in _calls(_preprocess(body, configured)):
        yield from _expand(name, arguments, macros)


def _preprocess(body: str, configured: frozenset[str]) -> str:
    kept: list[str] = []
    open_: list[bool] = []
    for line in body.splitlines():
        condition = _CONDITION.match(line.strip())
        if condition is None:
            if all(open_):
                kept.append(line)
        elif condition[1] in ("ifdef", "ifndef"):
            open_.append((condition[2].strip() in configured) == (condition[1] == "ifdef"))
        elif condition[1] == "else":
            open_[-1] = not open_[-1]
        elif condition[1] == "endif":
            open_.pop()
        elif option := re.fullmatch(r"(?:IS_ENABLED|defined)\s*\((\w+)\)", condition[2].strip()):
            open_.append(option[1] in configured)
        else:
            raise NotUnderstood(f"not understood: {line.strip()}")
    return "\n".join(kept)


def _calls(text: str) -> Iterator[tuple[str, list[str]]]:
    """The calls of macros in a text that has nothing else but commas."""
    at = 0
    while call := _CALL.search(text, at):
        between = text[at : call.start()].strip(", \t\n")
        if between:
            raise NotUnderstood(f"not understood: {between[:60]!r}")
        end = _closing(text, call.end())
        yield call[1], _split(text[call.end() : end])
        at = end + 1
    if rest := text[at:].strip(", \t\n"):
        raise NotUnderstood(f"not understood: {rest[:60]!r}")


def _closing(text: str, start: int) -> int:
    depth = 1
    for at in range(start, len(text)):
        depth += (text[at] == "(") - (text[at] == ")")
        if depth == 0:
            return at
    raise NotUnderstood(f"no end of {text[start : start + 60]!r}")


def _split(arguments: str) -> list[str]:
    parts, depth = [""], 0
    for char in arguments:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts] if arguments.strip() else []


def _expand(name: str, arguments: Sequence[str], macros: Mapping[str, Macro]) -> Iterator[tuple[str, Shape]]:
    if _DESCRIBES.fullmatch(name):
        yield _describe(arguments, macros)
        return
    macro = macros.get(name)
    if macro is None or macro.parameters is None:
        raise NotUnderstood(f"no macro {name}()")
    parameters = [parameter for parameter in macro.parameters if parameter]
    if len(parameters) != len(arguments):
        raise NotUnderstood(f"{name}() takes {len(parameters)} arguments and has {len(arguments)}")
    values = dict(zip(parameters, arguments, strict=True))
    body = re.sub(r"\w+", lambda word: values.get(word[0], word[0]), macro.body)
    for inner, inner_arguments in _calls(re.sub(r"\s*##\s*", "", body)):
        yield from _expand(inner, inner_arguments, macros)


def _describe(arguments: Sequence[str], macros: Mapping[str, Macro]) -> tuple[str, Shape]:
    """What VM_STATS_DESC(stat, type, unit, base, exp, sz, bsz) and its like describe; 5.14 had neither of the last."""
    if len(arguments) not in (5, 7):
        raise NotUnderstood(f"a stat of {len(arguments)} parts: {', '.join(arguments)}")
    name, kind, unit, base, exponent, size, bucket_size = (*arguments, "1", "0")[:7]
    return name, Shape(
        _word(kind, "KVM_STATS_TYPE_", _KINDS),
        _word(unit, "KVM_STATS_UNIT_", Unit.__members__),
        _word(base, "KVM_STATS_BASE_", Base.__members__),
        _number(exponent, macros),
        _number(size, macros),
        _number(bucket_size, macros),
    )


def _word(text: str, start: str, words: Mapping[str, Word]) -> Word:
    word = text.removeprefix(start)
    if not text.startswith(start) or word not in words:
        raise NotUnderstood(f"{text} is none of {', '.join(start + each for each in words)}")
    return words[word]


def _number(text: str, macros: Mapping[str, Macro]) -> int:
    macro = macros.get(text)
    try:
        return int(macro.body if macro else text, 0)
    except ValueError:
        raise NotUnderstood(f"{text} is no number") from None


def read_version(tree: Path) -> str:
    """The version that a tree's Makefile has, as ``6.1.192``."""
    makefile = tree / "Makefile"
    text = makefile.read_text(encoding="utf-8") if makefile.exists() else ""
    parts = [re.search(rf"^{key} *= *(\d+)$", text, re.MULTILINE) for key in ("VERSION", "PATCHLEVEL", "SUBLEVEL")]
    if None in parts:
        raise NotUnderstood(f"{tree} has no Makefile with its version")
    return ".".join(part[1] for part in parts if part)


def read_kernel(tree: Path, port: Port) -> KernelTables | None:
    """What a port of a tree has, or None."""
    tables = read_tree(tree, port)
    version = read_version(tree)
    how = f"from the source of {version}"
    return None if tables is None else KernelTables(f"{port.name}-{version}", version, port.folder, False, how, tables)


# --- the catalogue of stats -------------------------------------------------------------------------------------------


def differences(kernels: Sequence[KernelTables], stats: StatCatalog) -> Iterator[str]:
    """What the catalogue says otherwise than kernels of one architecture and version, its ports, have it.

    Stable releases have more than their series began with, so a stat that is older than the catalogue says is no
    difference there.
    """
    architecture, version = kernels[0].architecture, version_of(kernels[0])
    assert architecture is not None and version is not None
    series = ".".join(map(str, version[:2]))
    there = {(table.scope, name) for kernel in kernels for table in kernel.tables for name in table.stats}
    for kernel in kernels:
        for table in kernel.tables:
            for name, shape in table.stats.items():
                entry = stats.find(PROVIDER, table.scope, name)
                if told := _judge(entry, shape, architecture, series, is_stable=len(version) > 2):
                    yield f"{kernel.name}: {table.scope.value} {name}: {told}"
    for entry in stats.of_kernel(architecture, series):
        if (entry.scope, entry.name) not in there:
            yield f"{kernels[0].name}: {entry.scope.value} {entry.name}: in the catalogue, not in the kernel"


def _judge(entry: StatEntry | None, shape: Shape, architecture: str, series: str, *, is_stable: bool) -> str | None:
    if entry is None:
        return "not in the catalogue"
    is_backport = is_stable and architecture in entry.since and entry.until is None
    if not entry.had_by(architecture, series) and not is_backport:
        return f"the catalogue has it for {architecture} {entry.since.get(architecture, 'nowhere')} to {entry.until}"
    says = entry.shape_in(series)
    return None if says == shape else f"{shape_words(shape)}; in the catalogue {shape_words(says)}"


# --- Debian's packages ------------------------------------------------------------------------------------------------

_SUITES = ("debian bookworm", "debian bookworm-updates", "debian-security bookworm-security")
_PARTS = ("Makefile", "arch/*/kvm/*", "include/linux/kvm_types.h", "include/linux/kvm_host.h")


def fetch(series: Sequence[str], cache: Path) -> list[Path]:
    """The trees of linux-source packages, as far as this tool reads them; from the cache where they are there."""
    cache.mkdir(parents=True, exist_ok=True)
    missing = [each for each in series if not (cache / each).exists()]
    if missing:
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache) as name:
            scratch = Path(name)
            apt = Apt(scratch / "apt", arch="amd64", suites=_SUITES)
            apt.update()
            with ThreadPoolExecutor() as pool:
                trees = list(pool.map(lambda each: _fetch_one(apt, each, scratch / each), missing))
            for each, tree in zip(missing, trees, strict=True):
                tree.rename(cache / each)
    return [cache / each for each in series]


def _fetch_one(apt: Apt, series: str, scratch: Path) -> Path:
    (package,) = apt.download([apt.show(f"linux-source-{series}")], into=scratch / "deb")
    unpack_source(package, series, into=scratch / "tree")
    return scratch / "tree"


def unpack_source(package: Path, series: str, *, into: Path) -> None:
    """Lay out the few files of a linux-source package that matter, of 80,000."""
    into.mkdir(parents=True)
    top = f"linux-source-{series}"
    script = (
        'set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -xO "./usr/src/$2.tar.xz" | xz -dc'
        ' | tar -x -C "$3" --strip-components=1 --wildcards "${@:4}"'
    )
    run_tool(["bash", "-c", script, "unpack", str(package), top, str(into), *(f"{top}/{part}" for part in _PARTS)])


# --- the catalogue of kernels -----------------------------------------------------------------------------------------

SERIES = tuple(
    kernel.name.removeprefix("x86-")
    for kernel in known_kernels()
    if re.fullmatch(r"x86-\d+\.\d+", kernel.name)  # x86 has all of them
)
_FIRST = {"riscv": "5.16", "loongarch": "6.7"}
_HISTORY = {
    ("s390", "6.7"): "6.8",
    ("loongarch", "6.7"): "6.8",
    ("loongarch", "6.15"): "6.14",
    ("loongarch", "6.16"): "6.14",
}
"""Where no source is at hand and the sources before and after differ: the kernel that had the same, by the patches."""
_LATE = 30
"""A stable release from this on may have stats that its series began without."""
_CAPTURES = {
    ("x86", "6.1"): ("6.1.0-56-cloud-amd64", "emulated"),
    ("x86", "6.12"): ("6.12.95+deb12-cloud-amd64", "emulated"),
    ("x86", "6.18"): ("6.18.44", "on a machine"),
    ("x86", "7.3"): ("7.3.4+deb13-cloud-amd64", "emulated"),
    ("arm64", "6.1"): ("6.1.0-56-cloud-arm64", "emulated"),
}

Tree = tuple[str, tuple[Table, ...]]
"""A version and its tables."""


def write_known(folder: Path, target: Path) -> None:
    """Write the catalogue of kernels anew from the trees in a folder, and from what was captured."""
    trees = sorted((path for path in folder.iterdir() if (path / "Makefile").exists()), key=_version_key)
    target.mkdir(exist_ok=True)
    for port in PORTS:
        found = [(kernel.release or "", kernel.tables) for tree in trees if (kernel := read_kernel(tree, port))]
        kernels = [kernel for series in SERIES for kernel in _kernels_of(port, series, found)]
        (target / f"{port.name}.json").write_text(known_text(port, kernels), encoding="utf-8")


def add_kernel(tree: Path, folder: Path) -> Iterator[str]:
    """Add a tree to the files of known kernels, where its statistics are not there yet; yields a line for each port."""
    for port in PORTS:
        if kernel := read_kernel(tree, port):
            file = folder / f"{port.name}.json"
            known = read_kernels(file.read_text(encoding="utf-8"), file.name)
            added = _new_kernel(port, kernel, known)
            if added:
                kernels = sorted([*known, added], key=lambda each: version_of(each) or ())
                file.write_text(known_text(port, kernels), encoding="utf-8")
            yield f"{added.name}: added" if added else f"{kernel.name}: its statistics are there already"


def _new_kernel(port: Port, kernel: KernelTables, known: Sequence[KernelTables]) -> KernelTables | None:
    """A kernel under the name of its series if that is new, else under its own; None if the series has its tables."""
    assert kernel.release is not None
    series = _series(kernel.release)
    same = [each for each in known if _series(each.name.removeprefix(f"{port.name}-")) == series]
    if [table.stats for table in kernel.tables] in [[table.stats for table in each.tables] for each in same]:
        return None
    return kernel if same else replace(kernel, name=f"{port.name}-{series}")


def _version_key(tree: Path) -> tuple[int, ...]:
    return tuple(map(int, read_version(tree).split(".")))


def _kernels_of(port: Port, series: str, trees: Sequence[Tree]) -> Iterator[KernelTables]:
    if SERIES.index(series) < SERIES.index(_FIRST.get(port.name, SERIES[0])):
        return
    version, how, tables = _choose(port, series, trees)
    if capture := _CAPTURES.get((port.name, series)):
        yield _captured(port, series, *capture, tables)
    else:
        yield KernelTables(f"{port.name}-{series}", version, port.folder, False, how, tables)
    for version, other in trees:
        if _series(version) == series and other != tables:
            yield KernelTables(f"{port.name}-{version}", version, port.folder, False, _source(version), other)
            return


def _choose(port: Port, series: str, trees: Sequence[Tree]) -> tuple[str, str, tuple[Table, ...]]:
    """What a series began with: release, how that is known, and the tables."""
    place = SERIES.index(series)
    own = [tree for tree in trees if _series(tree[0]) == series]
    before = [tree for tree in trees if SERIES.index(_series(tree[0])) < place]
    after = [tree for tree in trees if SERIES.index(_series(tree[0])) > place]
    is_between_equals = bool(before and after) and before[-1][1] == after[0][1]
    if own and (not is_between_equals or own[0][1] == after[0][1] or int(own[0][0].split(".")[2]) < _LATE):
        return own[0][0], _source(own[0][0]), own[0][1]
    if is_between_equals:
        how = f"nothing changed from the source of {before[-1][0]} to that of {after[0][0]}"
        return series, how, after[0][1]
    like = _HISTORY.get((port.name, series))
    for version, tables in trees:
        if _series(version) == like:
            return series, f"as {like}, by the history of patches", tables
    raise NotUnderstood(f"{port.name} {series}: no source, and its neighbours differ")


def _captured(port: Port, series: str, uname: str, how: str, derived: tuple[Table, ...]) -> KernelTables:
    tables = tuple(
        parse((CAPTURED / f"{port.name}-{series}-{scope.value}.bin").read_bytes()).schema(PROVIDER, scope).table
        for scope in Scope
    )
    if [table.stats for table in tables] != [table.stats for table in derived]:
        raise NotUnderstood(f"{port.name} {series}: what was captured is not what its source says")
    how = f"from its own stats fds, {how}"
    return KernelTables(f"{port.name}-{series}", uname, port.folder, True, how, tables)


def _series(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _source(version: str) -> str:
    return f"from the source of {version}"


def known_text(port: Port, kernels: Sequence[KernelTables]) -> str:
    """The file of a port: each table once, and for each kernel which it has."""
    tables: dict[Scope, list[Mapping[str, Shape]]] = {scope: [] for scope in Scope}
    lines = []
    for kernel in kernels:
        entry: dict[str, Any] = {
            "version": kernel.name.removeprefix(f"{port.name}-"),
            "release": kernel.release,
            "captured": kernel.captured,
            "how": kernel.how,
        }
        for table in kernel.tables:
            if table.stats not in tables[table.scope]:
                tables[table.scope].append(table.stats)
            entry[table.scope.value] = tables[table.scope].index(table.stats)
        if kernel.captured:
            entry["data_size"] = {table.scope.value: table.data_size for table in kernel.tables}
        lines.append(f"    {json.dumps(entry)}")
    scopes = ",\n".join(
        f'    "{scope.value}": [\n' + ",\n".join(map(_table_text, known)) + "\n    ]" for scope, known in tables.items()
    )
    return (
        f'{{\n  "architecture": "{port.folder}",\n  "kernels": [\n' + ",\n".join(lines) + "\n  ],\n"
        f'  "tables": {{\n{scopes}\n  }}\n}}\n'
    )


def _table_text(table: Mapping[str, Shape]) -> str:
    stats = ", ".join(json.dumps(write_stat(name, shape)).replace(" ", "\0") for name, shape in table.items())
    lines = textwrap.wrap(stats, 110, break_long_words=False, break_on_hyphens=False)
    return "      [\n" + "\n".join(f"        {line}" for line in lines).replace("\0", " ") + "\n      ]"


def write_stat(name: str, shape: Shape) -> str:
    """A stat as ``catalog.kernels.read_stat`` reads it, without what is as it is for a plain counter."""
    assert isinstance(shape.kind, Kind) and isinstance(shape.unit, Unit) and isinstance(shape.base, Base)
    scale = f"@{shape.base.number}^{shape.exponent}" if shape.exponent else ""
    bucket = f"/{shape.bucket_size}" if shape.bucket_size else ""
    size = f" x{shape.size}{bucket}" if shape.size != 1 or bucket else ""
    unit = f" {shape.unit.name.lower()}{scale}" if shape.unit is not Unit.NONE or scale else ""
    kind = f" {shape.kind.name.lower()}" if shape.kind is not Kind.CUMULATIVE or unit or size else ""
    return f"{name}{kind}{unit}{size}"


# --- the command ------------------------------------------------------------------------------------------------------


_COMMANDS = {
    "extract": ("TREE", "print the statistics of a kernel source tree"),
    "check": ("TREE", "name what the catalogue of statistics lacks of these trees, or says otherwise"),
    "add": ("TREE", "add these trees to the known kernels"),
    "fetch": ("SERIES", "get the trees of Debian's linux-source packages; prints where they are"),
    "known": ("FOLDER", "write the known kernels again, from the trees of all of them"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    commands = parser.add_subparsers(required=True, dest="command")
    for name, (what, does) in _COMMANDS.items():
        command = commands.add_parser(name, help=does)
        command.add_argument("what", metavar=what, nargs=1 if name in ("extract", "known") else "+")
        if name == "extract":
            command.add_argument("--arch", choices=["all", *(port.name for port in PORTS)], default="all")
    options = parser.parse_args(arguments)
    try:
        if options.command == "extract":
            return _extract(Path(options.what[0]), options.arch)
        if options.command == "check":
            return _check(list(map(Path, options.what)))
        if options.command == "add":
            print("\n".join(line for tree in options.what for line in add_kernel(Path(tree), KNOWN)))
            return 0
        if options.command == "fetch":
            print("\n".join(map(str, fetch(options.what, cache_folder().with_name("sources")))))
            return 0
        write_known(Path(options.what[0]), KNOWN)
    except (NotUnderstood, KvmscopeError) as error:
        print(f"kernel_stats: {error}", file=sys.stderr)
        return 2
    return 0


def _extract(tree: Path, arch: str) -> int:
    kernels = [read_kernel(tree, port) for port in PORTS if arch in ("all", port.name)]
    texts = [encode(kernel) for kernel in kernels if kernel]
    sys.stdout.write(texts[0] if arch != "all" and texts else "[\n" + ",\n".join(texts) + "]\n")
    return 0 if texts else 1


def _check(trees: Sequence[Path]) -> int:
    found = []
    for tree in trees:
        kernels = [kernel for port in PORTS if (kernel := read_kernel(tree, port))]
        by_architecture = {
            kernel.architecture: [each for each in kernels if each.architecture == kernel.architecture]
            for kernel in kernels
        }
        wrong = [line for ports in by_architecture.values() for line in differences(ports, load_stats())]
        count = sum(len(table.stats) for kernel in kernels for table in kernel.tables)
        print(f"{read_version(tree)}: {count} stats of {len(by_architecture)} architectures, {len(wrong)} differences")
        found += wrong
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
