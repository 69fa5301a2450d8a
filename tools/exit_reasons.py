#!/usr/bin/env python3
"""Takes the names of exit reasons out of kernel headers into src/kvmscope/catalog/exit_reasons.toml.

    tools/exit_reasons.py TREE...           write the file from these kernel source trees, oldest first
    tools/exit_reasons.py --check TREE...   fail if the file is not what these trees give
    tools/exit_reasons.py --check           fail if the file lacks or misnames what this machine's headers have

A tree is a kernel source tree, or as much of one as arch/{x86,arm64}/include and include/uapi/linux. The headers of the
machine (linux-libc-dev) are those for x86 and for user space alone; what they know must be in the file by the same
name, while the file may know more. A number that two trees name differently has the name of the newest.

Names are those that the kernel's own trace prints, made fit for a stat: lower case, other signs turned into _.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

TARGET = Path(__file__).parents[1] / "src/kvmscope/catalog/exit_reasons.toml"
UAPI = {
    "arch/x86/include/uapi/asm": Path("/usr/include/x86_64-linux-gnu/asm"),
    "include/uapi/linux": Path("/usr/include/linux"),
}
"""Where linux-libc-dev has what is in a tree."""

Find = Callable[[str], Path]
Names = dict[int, str]

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_DEFINE = re.compile(r"^#define[ \t]+(\w+)[ \t]+(.+)$", re.MULTILINE)
_PAIR = re.compile(r'\{\s*([^,{}]+?)\s*,\s*"([^"]+)"\s*\}')
_ESR = re.compile(r"ECN\((\w+)\)")
_SUFFIX = re.compile(r"\b0*(0x[0-9a-fA-F]+|\d+)[uUlL]*\b")


def read_defines(paths: list[Path]) -> dict[str, str]:
    """Every object-like macro of these headers, with continued lines joined."""
    found: dict[str, str] = {}
    for path in paths:
        text = _COMMENT.sub("", path.read_text(encoding="utf-8")).replace("\\\n", " ")
        found.update(_DEFINE.findall(text))
    return found


def value(expression: str, defines: Mapping[str, str]) -> int:
    """The number that a macro's text stands for, in 32 bits: of names, numbers, signs, sums, UL()."""
    return _number(expression, defines) & 0xFFFF_FFFF


def _number(expression: str, defines: Mapping[str, str]) -> int:
    return _sum(ast.parse(_SUFFIX.sub(r"\1", expression).strip(), mode="eval").body, defines)


def _sum(node: ast.expr, defines: Mapping[str, str]) -> int:
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.Name(id=name):
            return _number(defines[name], defines)
        case ast.Call(func=ast.Name(id="UL"), args=[inner]):
            return _sum(inner, defines)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_sum(operand, defines)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _sum(left, defines) + _sum(right, defines)
    raise SystemExit(f"not understood: {ast.unparse(node)}")


def stat_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def printed(macro: str, defines: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """The pairs of a macro that makes a table of __print_symbolic()."""
    for expression, name in _PAIR.findall(defines[macro]):
        yield value(expression, defines), stat_name(name)


def vmx(find: Find) -> Names:
    return dict(printed("VMX_EXIT_REASONS", read_defines([find("arch/x86/include/uapi/asm/vmx.h")])))


def svm(find: Find) -> Names:
    paths = [find(f"arch/x86/include/uapi/asm/{name}.h") for name in ("kvm", "svm")]
    return dict(printed("SVM_EXIT_REASONS", read_defines(paths)))


def arm64(find: Find) -> Names:
    """Exception classes that KVM names; any other class of esr.h by the name that it has there."""
    defines = read_defines([find(f"arch/arm64/include/asm/{name}.h") for name in ("esr", "kvm_arm")])
    prefix = "ESR_ELx_EC_"
    classes = [name.removeprefix(prefix) for name in defines if name.startswith(prefix)]
    named = _ESR.findall(defines["kvm_arm_exception_class"])
    assert set(named) <= set(classes)
    return {
        value(prefix + name, defines): _ESR_RENAMED.get(name, stat_name(name))
        for name in classes
        if name not in _ESR_FIELDS
    }


_ESR_FIELDS = ("MAX", "SHIFT", "WIDTH", "MASK")
_ESR_RENAMED = {"OTHER": "ec_other"}  # since "other" is where reasons are counted that have no name


def arm64_exception(find: Find) -> Names:
    defines = read_defines([find(f"arch/arm64/include/asm/{name}.h") for name in ("virt", "kvm_asm")])
    return dict(printed("kvm_arm_exception_type", defines))


def userspace(find: Find) -> Names:
    """KVM_EXIT_ names whose value is a plain number; sub-reasons and flags of one reason come after the list."""
    text = _COMMENT.sub("", find("include/uapi/linux/kvm.h").read_text(encoding="utf-8"))
    reasons = text[text.index("#define KVM_EXIT_UNKNOWN") :]
    found: Names = {}
    for name, number in re.findall(r"^#define[ \t]+KVM_EXIT_(\w+)[ \t]+(\d+)[ \t]*$", reasons, re.MULTILINE):
        if int(number) != len(found):
            break
        found[int(number)] = stat_name(name)
    return found


TABLES: dict[str, tuple[Callable[[Find], Names], str]] = {
    "vmx": (vmx, "Intel: basic exit reasons; arch/x86/include/uapi/asm/vmx.h, VMX_EXIT_REASONS"),
    "svm": (svm, "AMD: exit codes; arch/x86/include/uapi/asm/svm.h, SVM_EXIT_REASONS"),
    "arm64": (arm64, "Exception classes, if the exception is a trap; arch/arm64/include/asm/esr.h, ESR_ELx_EC_"),
    "arm64_exception": (arm64_exception, "Exceptions; arch/arm64/include/asm/kvm_asm.h, kvm_arm_exception_type"),
    "userspace": (userspace, "What KVM_RUN returns with, on any architecture; include/uapi/linux/kvm.h, KVM_EXIT_"),
}
LIBC_TABLES = ("vmx", "svm", "userspace")


def union(trees: list[Path]) -> dict[str, Names]:
    """Every table over all trees; of two names for a number, that of the later tree."""
    tables: dict[str, Names] = {name: {} for name in TABLES}
    for tree in trees:
        for name, (take, _) in TABLES.items():
            tables[name] |= take(tree.__truediv__)
    for name, names in tables.items():
        if len(set(names.values())) != len(names):
            raise SystemExit(f"{name}: two numbers have one name")
    return tables


def release(tree: Path) -> str:
    fields = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL) = (\d+)", (tree / "Makefile").read_text(), re.MULTILINE))
    return ".".join(fields[name] for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL"))


def render(trees: list[Path]) -> str:
    """The file: each table in the order of its numbers."""
    lines = [
        "# Names of exit reasons by number. Generated by tools/exit_reasons.py; do not edit.",
        f"# From the headers of Linux {', '.join(map(release, trees))}.",
    ]
    for name, names in union(trees).items():
        lines += ["", f"# {TABLES[name][1]}", f"[{name}]"]
        lines += [f'{number:#x} = "{names[number]}"' for number in sorted(names)]
    return "\n".join(lines) + "\n"


def check_against_machine() -> list[str]:
    """What this machine's headers have and the file does not, or has by another name."""

    def find(path: str) -> Path:
        folder, _, name = path.rpartition("/")
        return UAPI[folder] / name

    known = tomllib.loads(TARGET.read_text(encoding="utf-8"))
    found = []
    for table in LIBC_TABLES:
        for number, name in TABLES[table][0](find).items():
            listed = known[table].get(f"{number:#x}")
            if listed != name:
                found.append(f"{table} {number:#x}: the headers say {name}, the file says {listed or 'nothing'}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if not options.trees and not options.check:
        parser.error("name at least one kernel source tree")
    if not options.trees:
        wrong = check_against_machine()
        print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
        return bool(wrong)
    text = render(options.trees)
    if options.check:
        return text != TARGET.read_text(encoding="utf-8")
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
