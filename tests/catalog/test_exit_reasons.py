"""Names of exit reasons: they are those of the kernel's own trace, on each kernel that told them and on this one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmscope.catalog.exit_reasons import ReasonTable, reasons

ROOT = Path(__file__).parents[2]
CAPTURED = sorted((ROOT / "tests/data/exit_reasons").glob("*.txt"))

_TABLE = re.compile(r"__print_symbolic\(REC->\w+(?: & 0xffff)?((?:, \{[^{}]*\})+)\)")
_PAIR = re.compile(r'\{ ?\(?([^,()]+)\)?, ((?:"[^"]*" ?)+)\}')


def tables_printed(text: str) -> Iterator[dict[int, str]]:
    """The tables of number and name in the order in which formats have them, names as stats spell them."""
    for table in _TABLE.findall(text):
        pairs = {}
        for number, words in _PAIR.findall(table):
            name = "".join(re.findall(r'"([^"]*)"', words)).removeprefix("KVM_EXIT_")
            value = sum(int(part.strip().rstrip("ul"), 0) for part in number.split("+")) & 0xFFFF_FFFF
            pairs[value] = re.sub(r"[^a-z0-9]+", "_", name.lower())
        yield pairs


def check(text: str, *tables: ReasonTable) -> None:
    """Each table of the text is part of ours; what ours has in addition is of other kernels."""
    printed = list(tables_printed(text))
    assert [len(pairs) > 3 for pairs in printed] == [True] * len(tables), "each table was found"
    for pairs, table in zip(printed, tables, strict=True):
        named = reasons(table)
        assert {number: (name, named.get(number)) for number, name in pairs.items() if named.get(number) != name} == {}


X86 = (ReasonTable.VMX, ReasonTable.SVM, ReasonTable.USERSPACE)
ARM64 = (ReasonTable.ARM64_EXCEPTION, ReasonTable.ARM64, ReasonTable.USERSPACE)


@pytest.mark.parametrize("captured", CAPTURED, ids=lambda path: path.stem)
def test_the_names_are_those_that_the_kernel_prints(captured: Path) -> None:
    check(captured.read_text(encoding="utf-8"), *(ARM64 if captured.name.startswith("arm64") else X86))


@pytest.mark.needs("root", "kvm")
def test_the_names_are_those_that_this_kernel_prints(tmp_path: Path) -> None:
    events = [f"{tmp_path}/events/kvm/{name}/format" for name in ("kvm_exit", "kvm_userspace_exit")]
    script = f"mount -t tracefs none {tmp_path} && cat {' '.join(events)}"  # in a mount namespace of its own
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=True)
    check(done.stdout, *(ARM64 if os.uname().machine == "aarch64" else X86))


@pytest.mark.parametrize("table", ReasonTable)
def test_names_are_fit_for_stats_and_each_is_there_once(table: ReasonTable) -> None:
    names = list(reasons(table).values())
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch("[a-z][a-z0-9_]*", name)] == []
    assert list(reasons(table)) == sorted(reasons(table))


def test_numbers_that_manuals_give_have_the_names_that_they_give() -> None:
    assert reasons(ReasonTable.VMX)[48] == "ept_violation"
    assert reasons(ReasonTable.SVM)[0x400] == "npf"
    assert reasons(ReasonTable.ARM64)[0x24] == "dabt_low"
    assert reasons(ReasonTable.USERSPACE)[6] == "mmio"


def test_the_file_has_all_that_the_headers_of_this_machine_have() -> None:
    if not Path("/usr/include/x86_64-linux-gnu/asm/vmx.h").exists():
        pytest.skip("linux-libc-dev for x86-64 is not installed")
    done = subprocess.run(
        [sys.executable, ROOT / "tools/exit_reasons.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


TREE = {
    "Makefile": "VERSION = 9\nPATCHLEVEL = 8\nSUBLEVEL = 7\n",
    "arch/x86/include/uapi/asm/vmx.h": """\
#define EXIT_REASON_HLT 12 /* as in the manual */
#define VMX_EXIT_REASONS \\
	{ EXIT_REASON_HLT, "HLT" }, \\
	{ 0x0d, "IN-VD" }
""",
    "arch/x86/include/uapi/asm/kvm.h": "#define DB_VECTOR 1\n",
    "arch/x86/include/uapi/asm/svm.h": """\
#define SVM_EXIT_EXCP_BASE 0x040
#define SVM_EXIT_ERR -1ull
#define SVM_EXIT_REASONS \\
	{ SVM_EXIT_EXCP_BASE + DB_VECTOR, "DB excp" }, \\
	{ SVM_EXIT_ERR, "invalid_guest_state" }
""",
    "arch/arm64/include/asm/esr.h": "#define ESR_ELx_EC_WFx\tUL(0x01)\n#define ESR_ELx_EC_MAX\tUL(0x3F)\n",
    "arch/arm64/include/asm/kvm_arm.h": "#define kvm_arm_exception_class ECN(WFx)\n",
    "arch/arm64/include/asm/virt.h": "#define HVC_STUB_ERR\t0xbadca11\n",
    "arch/arm64/include/asm/kvm_asm.h": '#define kvm_arm_exception_type {HVC_STUB_ERR, "HYP_GONE" }\n',
    "include/uapi/linux/kvm.h": """\
#define KVM_EXIT_UNKNOWN          0
#define KVM_EXIT_IO               1
#define KVM_EXIT_IO_OUT           1
""",
}


def test_the_generator_reads_macros_sums_signs_and_suffixes(tmp_path: Path) -> None:
    for path, text in TREE.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    program = f"import exit_reasons; from pathlib import Path; print(exit_reasons.render([Path({str(tmp_path)!r})]))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT / "tools", capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith("#")]
    assert "Linux 9.8.7" in done.stdout
    assert lines == [
        *("[vmx]", '0xc = "hlt"', '0xd = "in_vd"'),
        *("[svm]", '0x41 = "db_excp"', '0xffffffff = "invalid_guest_state"'),
        *("[arm64]", '0x1 = "wfx"', "[arm64_exception]", '0xbadca11 = "hyp_gone"'),
        *("[userspace]", '0x0 = "unknown"', '0x1 = "io"'),
    ]
