"""Configurations as VMMs and libvirt write them, and what is read from each. See tests/data/apicv/README.md."""

from __future__ import annotations

import tomllib
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.host import libvirt_xml
from kvmscope.host.apicv import Hardware
from kvmscope.host.config import (
    Confidential,
    InterruptConfig,
    Irqchip,
    Pit,
    Setting,
    config_of,
    of_domain,
    of_process,
)
from kvmscope.host.config.settings import apic_id, highest_apic_id
from kvmscope.host.libvirt_files import read_config
from kvmscope.host.process import VmmProcess

CASES = sorted((Path(__file__).parents[2] / "data" / "apicv").glob("*.toml"))


def process(vmm: str, *argv: str, managed_by: str | None = None, name: str | None = None) -> VmmProcess:
    known_as = (("libvirt.domain", name),) if managed_by == "libvirt" and name else ()
    return VmmProcess(7, vmm, name, None, managed_by, "command", argv, 1, known_as)


def qemu(*options: str) -> InterruptConfig:
    return of_process(process("qemu", "qemu-system-x86_64", *options))


def plain(value: object) -> object:
    return "unknown" if value is None else value.value if isinstance(value, Enum) else value


def load(path: Path) -> tuple[dict[str, Any], InterruptConfig]:
    case = tomllib.loads(path.read_text())
    if "xml" in case:
        return case, of_domain(libvirt_xml.parse_domain(case["xml"].encode()), hardware=Hardware.AMD)
    vmm = process(case["vmm"], *case["argv"], managed_by=case.get("managed_by"))
    return case, of_process(vmm, hardware=Hardware.AMD)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_configuration_is_read_as_its_vmm_reads_it(path: Path) -> None:
    case, config = load(path)
    read = {name: plain(config.settings[name].value) for name in case["settings"]}
    assert read == case["settings"]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_setting_has_its_evidence(path: Path) -> None:
    _, config = load(path)
    assert all(setting.evidence for setting in config.settings.values())
    assert not any(setting.is_sure for setting in config.settings.values() if setting.value is None)


def test_there_are_fixtures_for_each_of_the_main_ways_to_run_a_vm() -> None:
    names = [path.stem.split("-")[0] for path in CASES]
    assert names.count("qemu") >= 12
    assert names.count("libvirt") >= 4
    assert names.count("cloud") >= 4


def test_the_evidence_is_the_option_as_it_stands() -> None:
    assert qemu("-M", "q35,kernel_irqchip=split").irqchip == Setting(Irqchip.SPLIT, "kernel_irqchip=split")
    policy = "kvm-pit.lost_tick_policy=discard"
    assert qemu("-global", policy).pit == Setting(Pit.DISCARD, f"-global {policy}")


@pytest.mark.parametrize("rest", ["hv-synic=off", "hv_synic=off,hv-avic=off", "hv-apicv=off,-hv-synic"])
@pytest.mark.parametrize("order", [1, -1])
def test_hv_passthrough_overrides_every_other_enlightenment(rest: str, order: int) -> None:
    config = qemu("-cpu", ",".join(["host", *["hv_passthrough", rest][::order]]))
    assert config.synic == Setting(True, "-cpu …,hv-passthrough=on")
    assert (config.avic_hint.value, config.avic_hint.is_sure) == (True, False)
    assert qemu("-cpu", f"host,hv-passthrough=off,{rest}").synic.value is False


@pytest.mark.parametrize(
    ("cpu", "intel", "amd", "unknown"),
    [
        ("host,-vmx", False, None, None),
        ("host,-svm", None, False, None),
        ("host,-vmx,-svm", False, False, False),
        ("Haswell,+vmx", True, False, True),
        ("EPYC,svm=on,vmx=off", False, True, True),
        ("EPYC", False, False, False),
        ("host", None, None, None),
    ],
)
def test_of_vmx_and_svm_the_one_that_the_hosts_cpu_has_counts(
    cpu: str, intel: bool | None, amd: bool | None, unknown: bool | None
) -> None:
    def nested(hardware: Hardware | None) -> Setting[bool]:
        return of_process(process("qemu", "qemu-system-x86_64", "-cpu", cpu), hardware=hardware).nested

    assert [nested(hardware).value for hardware in (Hardware.INTEL, Hardware.AMD, None)] == [intel, amd, unknown]
    assert not (unknown and nested(None).is_sure)


def test_libvirts_features_are_told_apart_by_the_hosts_vendor_too() -> None:
    cpu = "<cpu mode='custom'><model>Haswell</model><feature policy='require' name='vmx'/></cpu>"
    domain = libvirt_xml.parse_domain(f"<domain type='kvm'>{cpu}</domain>".encode())
    assert of_domain(domain, hardware=Hardware.INTEL).nested.value is True
    assert of_domain(domain, hardware=Hardware.AMD).nested.value is False
    assert (of_domain(domain).nested.value, of_domain(domain).nested.is_sure) == (True, False)


def test_a_config_file_before_an_option_does_not_hide_it() -> None:
    later = qemu("-readconfig", "a.cfg", "-machine", "q35,kernel_irqchip=split")
    assert later.irqchip.value is Irqchip.SPLIT
    earlier = qemu("-machine", "q35,kernel_irqchip=split", "-readconfig", "a.cfg")
    assert earlier.irqchip.value is None
    assert "a.cfg" in earlier.irqchip.evidence


def test_a_config_file_does_not_hide_the_cpu_which_has_no_group_in_it() -> None:
    incus = qemu("-cpu", "host,hv_passthrough,svm=off", "-readconfig", "/run/incus/win/qemu.conf")
    assert (incus.synic.value, incus.nested.value, incus.irqchip.value) == (True, None, None)
    assert qemu("-readconfig", "a.cfg").synic.value is None


def test_a_value_that_qemu_does_not_have_is_unknown() -> None:
    assert qemu("-M", "q35,kernel_irqchip=maybe").irqchip.value is None
    assert qemu("-global", "kvm-pit.lost_tick_policy=merge").pit.value is None


@pytest.mark.parametrize(
    "argv",
    [
        ("/usr/bin/qemu-system-aarch64", "-M", "virt"),
        ("qemu-system-s390x",),
        ("/usr/libexec/qemu-kvm", "-machine", "virt-rhel9.4.0,gic-version=3"),
        ("microvm@arm", "-M", "virt,gic-version=3"),
        ("kvm", "-machine", "s390-ccw-virtio-8.2"),
        ("ppc", "-machine", "type=pseries-9.0,accel=kvm"),
    ],
    ids=lambda argv: argv[0],
)
def test_a_qemu_for_another_architecture_says_nothing_of_apics(argv: tuple[str, ...]) -> None:
    config = of_process(process("qemu", *argv))
    assert not any(setting.value is not None for setting in config.settings.values())
    assert "not an x86 guest" in config.irqchip.evidence


@pytest.mark.parametrize(
    "program",
    [
        "/usr/bin/qemu-system-x86_64",
        "/usr/bin/qemu-system-x86_64-ev",
        "qemu-system-i386",
        "/usr/libexec/qemu-kvm",
        "qemu-kvm-one",
        "one-qemu",
        "/usr/bin/kvm-spice",
        "/opt/x/qemu-kvm-custom",
        "microvm@web",
        "/nix/store/abc-qemu/bin/.qemu-system-x86_64-wrapped",
        "emulator",
    ],
)
def test_a_qemu_of_any_name_has_the_configuration_of_its_options(program: str) -> None:
    said = ("-M", "q35,kernel_irqchip=split", "-cpu", "host,hv-synic=on,-vmx")
    config = of_process(process("qemu", program, *said), hardware=Hardware.INTEL)
    assert config.settings == qemu_on_intel(*said).settings
    assert (config.irqchip.value, config.synic.value, config.nested.value) == (Irqchip.SPLIT, True, False)


def qemu_on_intel(*options: str) -> InterruptConfig:
    return of_process(process("qemu", "qemu-system-x86_64", *options), hardware=Hardware.INTEL)


def test_a_confidential_guest_of_an_unknown_kind_is_unknown() -> None:
    config = qemu("-machine", "q35,confidential-guest-support=x0", "-object", "new-guest,id=x0")
    assert config.confidential.value is None
    assert qemu("-machine", "q35").confidential.value is Confidential.NONE


@pytest.mark.parametrize(
    ("smp", "highest"),
    [
        ("4", 3),
        ("4,sockets=2,cores=2,threads=1", 3),
        ("6,sockets=2,cores=3,threads=1", 6),
        ("12,sockets=1,cores=6,threads=2", 11),
        ("12,sockets=2,cores=3,threads=2", 13),
        ("6,sockets=2,cores=3", 6),
        ("6,sockets=2,threads=1", 6),
        ("8,cores=4", 7),
        ("8,maxcpus=48,sockets=2,dies=3,cores=4,threads=2", 31 - 8 + 32),
        ("8,threads=2", None),
    ],
)
def test_the_highest_apic_id_follows_from_the_topology(smp: str, highest: int | None) -> None:
    assert qemu("-smp", smp).highest_apic_id.value == highest


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(1, 300))
def test_apic_ids_grow_with_the_index_and_are_distinct(levels: list[int], count: int) -> None:
    ids = [apic_id(index, tuple(levels)) for index in range(count)]
    assert ids == sorted(set(ids))
    assert highest_apic_id(count, tuple(levels)) == ids[-1]


def test_the_xml_fills_what_the_command_line_leaves_open(tmp_path: Path) -> None:
    home = tmp_path / "run" / "libvirt" / "qemu"
    home.mkdir(parents=True)
    (home / "web.xml").write_text(
        "<domain type='kvm'><name>web</name><os><type machine='q35'>hvm</type></os>"
        "<cpu mode='host-passthrough'><feature policy='disable' name='svm'/></cpu>"
        "<features><ioapic driver='qemu'/></features></domain>"
    )
    argv = ("qemu-system-x86_64", "-machine", "q35", "-cpu", "host")
    told = read_config(
        process("qemu", *argv, managed_by="libvirt", name="web"), root=str(tmp_path), hardware=Hardware.AMD
    )
    assert told.nested == Setting(False, "<feature policy='disable' name='svm'/>")
    assert told.irqchip.value is Irqchip.KERNEL, "the command line is what QEMU was really told"


def test_a_damaged_xml_takes_nothing_from_the_command_line(tmp_path: Path) -> None:
    home = tmp_path / "run" / "libvirt" / "qemu"
    home.mkdir(parents=True)
    (home / "bad.xml").write_text("<domain")
    vm = process("qemu", "qemu-system-x86_64", "-cpu", "host", managed_by="libvirt", name="bad")
    assert read_config(vm, root=str(tmp_path)).irqchip.value is Irqchip.KERNEL


def test_a_process_that_cannot_be_seen_has_no_settings() -> None:
    assert not any(setting.value is not None for setting in read_config(None).settings.values())


def test_a_domain_of_another_driver_is_not_judged_by_qemus_defaults() -> None:
    domain = libvirt_xml.parse_domain(b"<domain type='xen'><name>x</name></domain>")
    assert of_domain(domain).pit.value is None


@given(st.lists(st.text(max_size=30), max_size=8), st.sampled_from(["qemu", "crosvm", "cloud-hypervisor", "libkrun"]))
def test_no_command_line_makes_it_fail(words: list[str], vmm: str) -> None:
    options = ["-machine", "-cpu", "-smp", "--cpus", "--platform", "-object", "--irqchip"]
    mixed = [word for pair in zip(options, words, strict=False) for word in pair]
    config = of_process(process(vmm, "qemu-system-x86_64", *mixed))
    assert all(setting.evidence for setting in config.settings.values())


def test_each_command_line_of_a_large_host_is_parsed_once() -> None:
    argv = ("qemu-system-x86_64", "-smp", "2")
    hosts = [VmmProcess(pid, "qemu", f"vm{pid}", None, None, argv[0], argv, start_ticks=pid) for pid in range(10_000)]
    for process in hosts:
        config_of(process, hardware=None)
    parsed = config_of.cache_info().misses
    assert len({id(config_of(process, hardware=None)) for process in hosts}) == 1
    assert config_of.cache_info().misses == parsed
