"""tools/kernel_stats.py reads tables as the kernel's own macros say, and tells what the catalogue says otherwise."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from kvmscope.catalog.kernels import known_kernels, read_kernels, read_stat, version_of
from kvmscope.catalog.stats import load_stats, parse_stats
from kvmscope.codec.schema_json import parse
from kvmscope.lab.kernels import cache_folder
from kvmscope.schema import Base, KernelTables, Kind, Scope, Shape, Unit

TOOL = Path(__file__).parent.parent / "tools" / "kernel_stats.py"
SOURCES = cache_folder().with_name("sources")

HOST = r"""
/* a header with as many macros as it takes */
#define VM_STATS_DESC(stat, type, unit, base, exp, sz, bsz) { { STATS_DESC_COMMON(type, unit), .name = #stat } }
#define KIND_OF(SCOPE, stat, type, unit, base, exp, sz, bsz)	\
	SCOPE##_STATS_DESC(stat, type, unit, base, exp, sz, bsz)
#define STATS_DESC_COUNTER(SCOPE, name)				\
	KIND_OF(SCOPE, name, KVM_STATS_TYPE_CUMULATIVE,		\
		KVM_STATS_UNIT_NONE, KVM_STATS_BASE_POW10, 0, 1, 0)
#define STATS_DESC_SIZES(SCOPE, name, count)			\
	KIND_OF(SCOPE, name, KVM_STATS_TYPE_LINEAR_HIST,	\
		KVM_STATS_UNIT_BYTES, KVM_STATS_BASE_POW2, 10, count, 4)
#define KVM_GENERIC_VM_STATS() STATS_DESC_COUNTER(VM_GENERIC, flushes)
#define KVM_GENERIC_VCPU_STATS()				\
	STATS_DESC_COUNTER(VCPU_GENERIC, polls),		\
	STATS_DESC_SIZES(VCPU_GENERIC, sizes, BUCKETS)
"""
TABLES = """
const struct _kvm_stats_desc kvm_vm_stats_desc[] = {
	KVM_GENERIC_VM_STATS(),
	/* STATS_DESC_COUNTER(VM, not_there), */
	STATS_DESC_COUNTER(VM, own), // the last
};
struct kvm_stats_desc kvm_vcpu_stats_desc[] = {
	KVM_GENERIC_VCPU_STATS(),
#ifdef CONFIG_CPU_LOONGSON64
	STATS_DESC_COUNTER(VCPU, on_loongson),
#else
	STATS_DESC_COUNTER(VCPU, elsewhere),
#endif
	STATS_DESC_COUNTER(VCPU, exits)
};
"""


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kernel_stats", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kernel_stats"] = module
    spec.loader.exec_module(module)
    return module


tool = _load()
Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Lays out a kernel source tree of one architecture."""

    def lay_out(
        tables: str = TABLES,
        host: str = HOST,
        architecture: str = "mips",
        file: str = "mips.c",
        version: str = "6.1.0",
    ) -> Path:
        include, folder = tmp_path / "include" / "linux", tmp_path / "arch" / architecture / "kvm"
        include.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        parts = zip(("VERSION", "PATCHLEVEL", "SUBLEVEL"), version.split("."), strict=True)
        makefile = "".join(f"{key} = {part}\n" for key, part in parts)
        (tmp_path / "Makefile").write_text(f"# SPDX\n{makefile}EXTRAVERSION =\n")
        (include / "kvm_types.h").write_text("#define BUCKETS 8\n")
        (include / "kvm_host.h").write_text(host)
        (folder / file).write_text(tables)
        return tmp_path

    return lay_out


def port(name: str) -> object:
    return next(each for each in tool.PORTS if each.name == name)


def stats(tree: Path, name: str = "mips") -> dict[Scope, dict[str, Shape]]:
    return {table.scope: dict(table.stats) for table in tool.read_tree(tree, port(name))}


def test_tables_are_read_as_the_macros_of_that_kernel_say(tree: Tree) -> None:
    counter, sizes = Shape(Kind.CUMULATIVE), Shape(Kind.LINEAR_HISTOGRAM, Unit.BYTES, Base.POW2, 10, 8, 4)
    assert stats(tree()) == {
        Scope.VM: {"flushes": counter, "own": counter},
        Scope.VCPU: {"polls": counter, "sizes": sizes, "elsewhere": counter, "exits": counter},
    }


def test_what_depends_on_the_configuration_is_read_for_each_port(tree: Tree) -> None:
    assert "on_loongson" in stats(tree(), "mips-loongson64")[Scope.VCPU]
    assert "elsewhere" not in stats(tree(), "mips-loongson64")[Scope.VCPU]


def test_files_of_a_port_are_told_apart_by_name(tree: Tree) -> None:
    tree(architecture="powerpc", file="book3s.c")
    booke = tree(TABLES.replace("own", "other"), architecture="powerpc", file="booke.c")
    assert "own" in stats(booke, "powerpc")[Scope.VM]
    assert "other" in stats(booke, "powerpc-booke")[Scope.VM]


def test_an_architecture_without_tables_has_none(tree: Tree) -> None:
    assert tool.read_tree(tree("int x;"), port("mips")) is None
    assert tool.read_tree(tree(), port("x86")) is None


def test_a_stat_of_5_14_has_one_value(tree: Tree) -> None:
    host = HOST.replace(", sz, bsz)", ")").replace(", 0, 1, 0)", ", 0)").replace(", 10, count, 4)", ", 10)")
    assert stats(tree(host=host))[Scope.VCPU]["sizes"].size == 1


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        (TABLES.replace("STATS_DESC_COUNTER(VM, own)", "STATS_DESC_OTHER(VM, own)"), r"no macro STATS_DESC_OTHER\(\)"),
        (TABLES.replace("(VM, own)", "(VM, own, 3)"), "takes 2 arguments and has 3"),
        (TABLES.replace("STATS_DESC_COUNTER(VM, own)", "{ .name = 3 }"), "not understood"),
        (TABLES.replace("#ifdef CONFIG_CPU_LOONGSON64", "#if A > 3"), "not understood: #if A > 3"),
        (TABLES + TABLES, "has 2 tables of vm stats"),
        (TABLES.partition("struct kvm_stats_desc")[0], "a table of one scope"),
    ],
)
def test_what_is_not_understood_is_an_error(tree: Tree, tables: str, reason: str) -> None:
    with pytest.raises(tool.NotUnderstood, match=reason):
        tool.read_tree(tree(tables), port("mips"))


def test_an_unknown_type_is_an_error(tree: Tree) -> None:
    with pytest.raises(tool.NotUnderstood, match="KVM_STATS_TYPE_TREND is none of KVM_STATS_TYPE_CUMULATIVE"):
        tool.read_tree(tree(host=HOST.replace("TYPE_CUMULATIVE", "TYPE_TREND")), port("mips"))


def test_what_is_no_kernel_source_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main(["check", str(tmp_path)]) == 2
    assert "is no kernel source with KVM statistics" in capsys.readouterr().err


def test_extract_writes_schema_files(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main(["extract", str(tree()), "--arch", "mips"]) == 0
    kernel = parse(capsys.readouterr().out, file="mips.json")
    assert (kernel.release, kernel.architecture, kernel.captured) == ("6.1.0", "mips", False)
    assert kernel.how == "from the source of 6.1.0"
    assert kernel.tables == tool.read_tree(tree(), port("mips"))
    assert tool.main(["extract", str(tree())]) == 0
    everything = json.loads(capsys.readouterr().out)
    assert [each["kernel"]["architecture"] for each in everything] == ["mips", "mips"]


@pytest.mark.parametrize(
    "text",
    ["exits", "mmu_unsync instant", "guest_mode instant boolean", "halt_wait_ns cumulative seconds@10^-9",
     "halt_wait_hist log_histogram seconds@10^-9 x32", "sizes linear_histogram bytes@2^10 x8/4"],
)  # fmt: skip
def test_stats_are_written_as_they_are_read(text: str) -> None:
    assert tool.write_stat(*read_stat(text)) == text


# --- the catalogue ----------------------------------------------------------------------------------------------------

CATALOGUE = """
[architectures]
mips = "5.14"

[[stat]]
name = "flushes"
scope = "vm"
since = "5.14"
tier = "stable"
meaning = "Flushes."

[[stat]]
name = "own"
scope = "vm"
since = "5.14"
tier = "stable"
meaning = "Own."

[[stat]]
name = "exits"
scope = "vcpu"
since = "5.14"
tier = "stable"
meaning = "Exits."
"""
ONLY_COUNTERS = "\n".join(
    line for line in TABLES.replace("elsewhere", "exits").splitlines() if "VCPU_STATS" not in line
)


def against(tree: Path, catalogue: str) -> list[str]:
    kernel = tool.read_kernel(tree, port("mips"))
    return list(tool.differences([kernel], parse_stats(catalogue, caveats={})))


def test_a_catalogue_that_says_the_same_has_no_differences(tree: Tree) -> None:
    assert against(tree(ONLY_COUNTERS), CATALOGUE) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "own"', 'name = "mine"', ["vm own: not in the catalogue", "vm mine: in the catalogue, not in"]),
        ('"own"\nscope = "vm"', '"own"\nscope = "vcpu"', ["vm own: not in", "vcpu own: in the catalogue, not in"]),
        ('meaning = "Exits."', 'meaning = "E"\nkind = "instant"', ["vcpu exits: cumulative; in the catalogue instant"]),
        (
            'meaning = "Exits."',
            'meaning = "E"\nunit = "nanoseconds"',
            ["cumulative; in the catalogue cumulative, nanoseconds"],
        ),
        ('meaning = "Own."', 'meaning = "O"\nuntil = "6.0"', ["vm own: the catalogue has it for mips 5.14 to 6.0"]),
    ],
)
def test_what_the_catalogue_says_otherwise_is_told(tree: Tree, old: str, new: str, told: list[str]) -> None:
    assert old in CATALOGUE
    found = against(tree(ONLY_COUNTERS), CATALOGUE.replace(old, new))
    assert len(found) == len(told)
    assert all(line.startswith("mips-6.1.0: ") and words in line for line, words in zip(found, told, strict=True))


def test_a_later_change_of_kind_or_unit_excuses_an_older_kernel(tree: Tree) -> None:
    changed = 'changed = [{since = "6.2", what = "kind", was = "cumulative", text = "Was cumulative."}]'
    entry = f'meaning = "Exits."\nkind = "instant"\n{changed}'
    assert against(tree(ONLY_COUNTERS), CATALOGUE.replace('meaning = "Exits."', entry)) == []
    earlier = entry.replace("6.2", "6.0")
    assert len(against(tree(ONLY_COUNTERS), CATALOGUE.replace('meaning = "Exits."', earlier))) == 1


def test_every_known_kernel_has_what_the_catalogue_says() -> None:
    kernels: dict[tuple[object, object], list[KernelTables]] = {}
    for kernel in known_kernels():
        kernels.setdefault((kernel.architecture, version_of(kernel)), []).append(kernel)
    assert [line for ports in kernels.values() for line in tool.differences(ports, load_stats())] == []


@pytest.mark.needs("sources")
@pytest.mark.parametrize("series", ["6.1", "6.12"])
def test_debians_sources_have_what_the_catalogues_say(series: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The catalogue of stats, and that of kernels, against what a kernel is built from."""
    tree = SOURCES / series
    assert tool.main(["check", str(tree)]) == 0, capsys.readouterr().out
    version = tool.read_version(tree)
    for each in tool.PORTS:
        tables = tool.read_tree(tree, each)
        if tables is None:
            continue
        known = [kernel for kernel in known_kernels() if kernel.name.startswith(f"{each.name}-{series}")]
        assert [table.stats for table in tables] in [[table.stats for table in kernel.tables] for kernel in known], (
            f"{each.name} of {version} is none of {', '.join(kernel.name for kernel in known)}"
        )


def test_the_catalogue_of_kernels_is_written_as_it_is_read() -> None:
    for each in tool.PORTS:
        kernels = [kernel for kernel in known_kernels() if kernel.name.rpartition("-")[0] == each.name]
        assert len(kernels) > 10
        text = (tool.KNOWN / f"{each.name}.json").read_text(encoding="utf-8")
        assert tool.known_text(each, kernels) == text


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """A folder with the known kernels, to add to."""
    return Path(shutil.copytree(tool.KNOWN, tmp_path / "kernels"))


def names_in(folder: Path) -> dict[str, KernelTables]:
    text = (folder / "mips.json").read_text(encoding="utf-8")
    return {kernel.name: kernel for kernel in read_kernels(text, "mips.json")}


@pytest.mark.parametrize(("version", "name"), [("9.4.0", "mips-9.4"), ("6.1.77", "mips-6.1.77")])
def test_one_tree_is_added_to_the_known_kernels(tree: Tree, known: Path, version: str, name: str) -> None:
    """Under its series if that is new; a stable release with other statistics under its own name."""
    before, source = names_in(known), tree(version=version)
    assert list(tool.add_kernel(source, known)) == [f"{name}: added", f"mips-loongson64-{name[5:]}: added"]
    after = names_in(known)
    assert {each: kernel for each, kernel in after.items() if each != name} == before
    assert after[name].tables == tool.read_tree(source, port("mips"))
    assert list(after) == sorted(after, key=lambda each: [int(part) for part in each[5:].split(".")])


def test_a_tree_with_nothing_new_adds_nothing(tree: Tree, known: Path) -> None:
    source = tree(version="9.4.0")
    list(tool.add_kernel(source, known))
    text = (known / "mips.json").read_text(encoding="utf-8")
    assert all(line.endswith("its statistics are there already") for line in tool.add_kernel(source, known))
    assert (known / "mips.json").read_text(encoding="utf-8") == text
