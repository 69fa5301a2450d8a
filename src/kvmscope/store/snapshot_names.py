"""Pseudonyms for identifying data: names, uuids, paths, numbers, and the words of free text.

Rule: equal values have the same pseudonym within one ``Pseudonyms``, whose key is random and not stored. Everything not
known to be harmless is replaced; in free text, only plain words and kvmscope's own terms stay.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Iterable
from typing import Final

_NAME_DIGITS = 10
_FIRST_NUMBER = 100_001
_SMALL_NUMBER = 1000
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_PLAIN_WORD = re.compile(r"[a-z]+(?:['’-][a-z]+)*")
_SMALL = re.compile(r"\d{1,3}(?:\.\d{1,3})?")
_EDGES = re.compile(r"^([^\w/]*)(.*?)([^\w/]*)$", re.DOTALL)
_SYSTEM_PATH = re.compile(
    r"/dev/kvm|/etc/machine-id|/run/kvmscope|/proc/(?:cpuinfo|kallsyms|sys/kernel/\w+)"
    r"|/sys/(?:kernel/(?:btf|debug|security|tracing)|fs/bpf|module)(?:/(?:kvm\w*|vmlinux|lockdown|parameters))*"
)
_TERMS: Final = frozenset(
    """
    A An APIC APICv AVIC BIOS BPF BTF CAP_BPF CAP_DAC_READ_SEARCH CAP_IPC_LOCK CAP_PERFMON CAP_SYS_ADMIN CAP_SYS_NICE
    CAP_SYS_PTRACE CONFIG_DEBUG_INFO_BTF=y CPU CPUs EACCES EBUSY EIO ENOENT EOI EPERM GROUP IRQ KVM KVM_GET_API_VERSION
    KVM_GET_STATS_FD KVM_RUN Kubernetes LAPIC Linux MMIO MSR PERFMON PIT QEMU QEMU's QMP SEV SVM SYS_ADMIN SynIC TDX TSC
    VM VMM VMM's VMMs VMs VMX Yama apicv arm64 exits fd fds hostPID kernel.yama.ptrace_scope=0 kvm_amd kvm_arm kvm_hv
    kvm_intel kvm_pvm libbpf1 lockdown=integrity mmu_lock pid=host pidfd_getfd pidfd_open qemu.qmp statsfd userspace
    vCPU vCPUs vmlinux wakeups x86 x86-64
    """.split()
)


class Pseudonyms:
    """Makes pseudonyms. ``terms``: words that stay in free text besides kvmscope's own, such as names of statistics."""

    def __init__(self, terms: Iterable[str] = ()) -> None:
        self._key = secrets.token_bytes(32)
        self._terms = _TERMS | set(terms)
        self._names: dict[str, str] = {}
        self._numbers: dict[int, int] = {}

    def name(self, value: str) -> str:
        """A pseudonym of a name or any other text as a whole; an empty text stays empty."""
        if not value:
            return value
        if value not in self._names:
            self._names[value] = "x" + self._digest(value)[:_NAME_DIGITS]
        return self._names[value]

    def identifier(self, value: str) -> str:
        """A pseudonym of a name; for a uuid or a path, in the same form."""
        if _UUID.fullmatch(value):
            return self.uuid(value)
        return self.path(value) if "/" in value else self.name(value)

    def uuid(self, value: str) -> str:
        """A pseudonym of a uuid, as a uuid; upper and lower case are equal."""
        return str(uuid.UUID(hex=self._digest(value.lower().replace("-", ""))[:32]))

    def path(self, value: str) -> str:
        """A pseudonym of a whole path."""
        return f"/{self.name(value)}"

    def number(self, value: int) -> int:
        """A pseudonym of a number such as a pid; distinct numbers have distinct pseudonyms."""
        return self._numbers.setdefault(value, _FIRST_NUMBER + len(self._numbers))

    def word64(self, value: int) -> int:
        """A pseudonym of an opaque id of 64 bits."""
        return int(self._digest(f"{value:016x}")[:16], 16)

    def hex_id(self, value: str) -> str:
        """A pseudonym of an opaque id of 32 hexadecimal digits."""
        return self._digest(value)[:32]

    def text(self, value: str) -> str:
        """Free text in which known names and all words that are not plain are replaced."""
        for known in sorted(self._names, key=len, reverse=True):
            if known in value:
                pattern = rf"(?<!\w){re.escape(known)}(?!\w)"
                value = re.sub(pattern, lambda _, name=self._names[known]: name, value)  # type: ignore[misc]
        given = set(self._names.values())
        return re.sub(r"\S+", lambda match: self._word(match[0], given), value)

    def _word(self, word: str, given: set[str]) -> str:
        found = _EDGES.match(word)
        assert found is not None
        before, core, after = found.groups()
        if not core or core in given or core in self._terms or _PLAIN_WORD.fullmatch(core):
            return word
        return before + self._replaced(core) + after

    def _replaced(self, core: str) -> str:
        if _SYSTEM_PATH.fullmatch(core) or (_SMALL.fullmatch(core) and float(core) < _SMALL_NUMBER):
            return core
        if core.isascii() and core.isdecimal() and len(core) < 20:
            return str(self.number(int(core)))
        if core[:1].isupper() and _PLAIN_WORD.fullmatch(core.lower()) and core.istitle():
            return core if core.lower() in _STARTS else self.name(core)
        return self.identifier(core)

    def _digest(self, value: str) -> str:
        return hmac.new(self._key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


_STARTS: Final = frozenset("its no not nothing operation permission invalid no such the this there input".split())
"""First words of kvmscope's own reasons and of those of strerror(3)."""
