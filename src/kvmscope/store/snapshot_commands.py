"""Anonymises command lines and libvirt's XML: options stay, and those values that judging reads.

Rule: a value stays if it is a switch, or if judging reads its option and all of its parts are numbers or words of the
vocabulary. Everything else is replaced by a pseudonym. Judging the redacted text yields the same settings.
Source: ``host.config`` and ``host.vmm`` define which parts of command lines and XML are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from ..catalog.caveats import AllOf, AnyOf, Condition, FirstKnown, HasVmmOption, Inverted, load_caveats
from ..errors import FormatError
from ..host.libvirt_xml import LibvirtDomain, parse_domain
from .snapshot_names import Pseudonyms

_SWITCHES: Final = frozenset("on off yes no true false y n".split())
_JUDGED: Final = frozenset("M accel cpu cpus device global irqchip m machine object overcommit platform smp".split())
"""Options whose values judging reads, without dashes."""
_NUMBERED: Final = _JUDGED - {"device", "object", "platform"}
"""The options among these whose numbers describe the size of a VM and do not identify it."""
_OPTION = re.compile(r"--?[a-z][a-z0-9-]{0,40}|-[MS]")
_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,60}", re.IGNORECASE)
_FLAG = re.compile(r"[+-][a-z0-9_.-]{1,30}|hv[_-][a-z0-9_-]{1,30}|vmx|svm|kvm_?[a-z0-9_]*")
"""Flags of -cpu: switched on or off, or names that QEMU takes as switched on when they stand alone."""
_NUMBERS = re.compile(r"(?:0x[0-9a-f]{1,16}|\d{1,12}[kmgt]?i?b?)(?::\d{1,6})*", re.IGNORECASE)
_WINDOWS = re.compile(r"http://microsoft\.com/win(?:/(?:\d[\dkr]{0,4}|xp|vista))?(?!\w)")
_PARTS = re.compile(r"(?:[^,]|,,)+")
_TOKENS = re.compile(r"[^\W_]+")
_WORDS: Final = frozenset(
    """
    none pc q35 i440fx microvm virt isapc pseries s390 ccw virtio rhel jammy noble focal bionic xenial hpb pve kvm
    tcg split kernel userspace host max base model passthrough maximum custom qemu32 qemu64 kvm32 kvm64 phenom
    core2duo coreduo athlon n270 pentium pentium2 pentium3 epyc rome milan genoa turin opteron g1 g2 g3 g4 g5 dhyana
    yongfeng conroe penryn nehalem westmere sandybridge ivybridge haswell broadwell skylake client server
    cascadelake cooperlake icelake sapphirerapids graniterapids sierraforest clearwaterforest diamondrapids
    denverton snowridge knightsmill notsx ibrs ibpb tsx cortex neoverse n1 n2 v1 v2 v3 v4 v5 v6 a53 a57 a72 a76
    delay discard catchup merge slew sev snp tdx guest intel amd iommu smmuv3 pit rtc hpet apic kvmclock hypervclock
    tsc armvtimer platform x86 64 i386 aarch64 force require optional disable forbid qemu vmx svm synic stimer avic
    vapic relaxed evmcs emsr_bitmap
    """.split()
)
_PROGRAM_WORDS: Final = _WORDS | frozenset(
    """
    system kvm spice qemu firecracker cloud hypervisor crosvm lkvm static kvmtool vm krunvm krun libkrun python
    python3 wrapped jailer x86 64 alioth cli stratovirt runsc sandbox openvmm vboxheadless virtualboxvm containerd shim
    kata v2
    """.split()
)


class CommandRedaction:
    """Redacts command lines of VMMs and libvirt's XML."""

    def __init__(self, names: Pseudonyms) -> None:
        self._names = names
        self._kept_parts = {option for caveat in load_caveats().values() for option in _options_in(caveat.holds_if)}

    def argv(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """The command line, redacted."""
        return tuple(self._argv(argv))

    def program(self, name: str) -> str:
        """The file name of a program, of which only words of VMM names stay."""
        return _TOKENS.sub(
            lambda match: match[0] if match[0].lower() in _PROGRAM_WORDS else self._names.name(match[0]), name
        )

    def xml(self, data: bytes | None) -> bytes | None:
        """Libvirt's XML, reduced to the parts that are read; None if it cannot be parsed."""
        if data is None:
            return None
        try:
            domain = parse_domain(data)
        except FormatError:
            return None
        return "".join(self._xml(domain)).encode("utf-8", "replace")

    def _argv(self, argv: tuple[str, ...]) -> Iterator[str]:
        option = ""
        for place, word in enumerate(argv):
            if place == 0:
                yield self._program_path(word)
                continue
            name, equals, value = word.partition("=")
            if _OPTION.fullmatch(name):
                option = name.lstrip("-")
                yield name + (f"={self._value(value, option)}" if equals else "")
            elif word in ("-", "--"):
                yield word
            else:
                yield self._value(word, option)

    def _program_path(self, word: str) -> str:
        directory, slash, name = word.rpartition("/")
        return (self._names.path(directory) if directory else "") + slash + self.program(name)

    def _value(self, text: str, option: str) -> str:
        if text.startswith("{"):
            try:
                return json.dumps(self._json(json.loads(text), option), separators=(",", ":"))
            except (ValueError, RecursionError):
                return self._names.name(text)
        return _PARTS.sub(lambda match: self._part(match[0], option), text)

    def _part(self, part: str, option: str) -> str:
        if part in self._kept_parts or (option == "cpu" and _FLAG.fullmatch(part)):
            return part
        key, equals, value = part.partition("=")
        if not equals:
            return self._word(part, option)
        return f"{key if _KEY.fullmatch(key) else self._names.name(key)}={self._word(value, option)}"

    def _json(self, value: Any, option: str) -> Any:
        if isinstance(value, dict):
            return {
                (key if _KEY.fullmatch(key) else self._names.name(key)): self._json(item, option)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self._json(item, option) for item in value]
        if isinstance(value, str):
            return self._word(value, option)
        if isinstance(value, bool) or value is None:
            return value
        return self._names.number(int(value)) if abs(value) < 1 << 63 else 0

    def _word(self, word: str, option: str) -> str:
        if not word or word.lower() in _SWITCHES:
            return word
        if option in _JUDGED and self._is_known(word, numbers=option in _NUMBERED):
            return word
        if option in _JUDGED and option not in _NUMBERED and word.isdecimal():
            return str(self._names.number(int(word[:18])))
        return self._names.identifier(word)

    @staticmethod
    def _is_known(word: str, *, numbers: bool) -> bool:
        """Whether a value consists of known words and, with ``numbers``, of numbers, which must not identify."""
        if _NUMBERS.fullmatch(word):
            return numbers
        tokens = _TOKENS.findall(word)
        return (
            len(word) <= 48
            and any(token.lower() in _WORDS for token in tokens)
            and all(token.lower() in _WORDS or (token.isdecimal() and len(token) <= 3) for token in tokens)
        )

    def _judged(self, value: str | None) -> str | None:
        if value is None or value.lower() in _SWITCHES or self._is_known(value, numbers=False):
            return value
        return self._names.name(value)

    # --- XML ----------------------------------------------------------------------------------------------------------

    def _xml(self, domain: LibvirtDomain) -> Iterator[str]:
        status = f"<domstatus{_attributes(pid=_number(domain.pid, self._names))}>" if domain.is_running else ""
        yield f"{status}<domain{_attributes(type=self._judged(domain.type))}>"
        yield _element("name", self._names.name(domain.name or ""))
        yield _element("uuid", self._names.identifier(domain.uuid or ""))
        yield from self._known_as(dict(domain.known_as))
        yield from self._os(domain.os_id)
        if domain.vcpus is not None:
            yield f"<vcpu{_attributes(current=domain.current_vcpus)}>{domain.vcpus}</vcpu>"
        yield f"<os><type{_attributes(machine=self._judged(domain.machine))}>hvm</type></os><features>"
        yield ("<apic/>" if domain.apic else "") + ("<pae/>" if domain.pae else "")
        if domain.ioapic_driver is not None:
            yield f"<ioapic{_attributes(driver=self._judged(domain.ioapic_driver))}/>"
        yield f"<hyperv{_attributes(mode=self._judged(domain.hyperv_mode))}>"
        yield from (f"<{name} state='{'on' if is_on else 'off'}'/>" for name, is_on in domain.hyperv if name in _WORDS)
        if (direct := domain.hyperv_flag("tlbflush.direct")) is not None:
            yield f"<tlbflush><direct state='{'on' if direct else 'off'}'/></tlbflush>"
        yield "</hyperv></features><clock>"
        for timer in domain.timers:
            present = None if timer.present is None else "yes" if timer.present else "no"
            given = {
                "name": self._judged(timer.name),
                "present": present,
                "tickpolicy": self._judged(timer.tick_policy),
            }
            yield f"<timer{_attributes(**given)}/>"
        yield "</clock>"
        if domain.launch_security is not None:
            yield f"<launchSecurity{_attributes(type=self._judged(domain.launch_security))}/>"
        yield from self._cpu(domain)
        yield "</domain>" + ("</domstatus>" if domain.is_running else "")

    def _cpu(self, domain: LibvirtDomain) -> Iterator[str]:
        yield f"<cpu{_attributes(mode=self._judged(domain.cpu_mode))}>"
        if domain.cpu_model is not None:
            yield _element("model", self._judged(domain.cpu_model) or "")
        for feature in domain.cpu_features:
            name = feature.name if re.fullmatch(r"[a-z0-9_.-]{1,30}", feature.name) else self._names.name(feature.name)
            yield f"<feature{_attributes(policy=self._judged(feature.policy), name=name)}/>"
        yield "</cpu>"

    def _os(self, os_id: str | None) -> Iterator[str]:
        """Libosinfo's id of the guest's system, of which only the releases of Windows stay readable."""
        if os_id is not None:
            windows = _WINDOWS.match(os_id)
            rest = os_id[windows.end() if windows else 0 :]
            said = (windows[0] if windows else "") + (self._names.name(rest) if rest else "")
            yield "<metadata><i:libosinfo xmlns:i='http://libosinfo.org/xmlns/libvirt/domain/1.0'>"
            yield f"<i:os{_attributes(id=said)}/></i:libosinfo></metadata>"

    def _known_as(self, known: dict[str, str]) -> Iterator[str]:
        names = {word: self._names.name(value) for word, value in known.items()}
        if "libvirt.title" in names:
            yield _element("title", names["libvirt.title"])
        if any(word.startswith("openstack.") for word in names):
            yield "<metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'>"
            yield _element("nova:name", names.get("openstack.name", ""))
            yield f"<nova:owner>{_element('nova:project', names.get('openstack.project', ''))}</nova:owner>"
            yield f"<nova:flavor{_attributes(name=names.get('openstack.flavor'))}/></nova:instance></metadata>"
        if any(word.startswith("opennebula.") for word in names):
            yield "<metadata><one:vm xmlns:one='http://opennebula.org/xmlns/libvirt/1.0'>"
            yield _element("one:name", names.get("opennebula.name", ""))
            yield f"{_element('one:gname', names.get('opennebula.group', ''))}</one:vm></metadata>"
        if "kubevirt.uid" in names:
            yield "<metadata><kubevirt xmlns='http://kubevirt.io'>"
            yield f"{_element('uid', names['kubevirt.uid'])}</kubevirt></metadata>"


def _options_in(condition: Condition) -> Iterator[str]:
    """The options that a caveat looks for in command lines."""
    match condition:
        case HasVmmOption():
            yield from condition.options
        case AllOf() | AnyOf() | FirstKnown():
            for part in condition.parts:
                yield from _options_in(part)
        case Inverted():
            yield from _options_in(condition.part)


def _element(tag: str, text: str) -> str:
    return f"<{tag}>{escape(text)}</{tag}>" if text else ""


def _attributes(**values: str | int | None) -> str:
    return "".join(f" {name}={quoteattr(str(value))}" for name, value in values.items() if value is not None)


def _number(value: int | None, names: Pseudonyms) -> int | None:
    return None if value is None else names.number(value)
