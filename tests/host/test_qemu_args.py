from __future__ import annotations

import json
import re
import subprocess
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmscope.host import qemu_args
from kvmscope.host.qemu_args import GlobalProperty, Option, Properties, Smp, parse

PROCESSES = Path(__file__).parents[1] / "data" / "host" / "processes"


def qemu(*words: str) -> qemu_args.QemuConfig:
    return parse(["qemu-system-x86_64", *words])


def argv_of(fixture: str) -> list[str]:
    return list(tomllib.loads((PROCESSES / f"{fixture}.toml").read_text())["argv"])


# --- laws -------------------------------------------------------------------------------------------------------------

KEYS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=12)
FEATURES = st.from_regex(r"[a-z][a-z0-9_-]{0,6}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def encode(head: str | None, items: list[tuple[str, str]]) -> str:
    """Properties as somebody would write them for QEMU."""
    parts = [] if head is None else [head.replace(",", ",,")]
    return ",".join(parts + [f"{key}={value.replace(',', ',,')}" for key, value in items])


@given(
    st.none() | st.text(st.characters(exclude_characters="=", exclude_categories=["Cs"]), min_size=1, max_size=20),
    st.lists(st.tuples(KEYS.filter(lambda key: key != "driver"), VALUES), max_size=6),
)
def test_key_value_lists_come_back_as_they_were_written(head: str | None, items: list[tuple[str, str]]) -> None:
    if head is not None and head.startswith((",", "{", "-")):
        return  # no driver begins like that, and the first makes an empty part of itself
    text = encode(head, items)
    if not text:
        return
    if head is None and text.startswith(("-", "{")):
        return
    config = qemu("-device", text)
    assert config.devices == (Properties(head, tuple(items)),)
    assert config.not_understood == ()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.text(max_size=12), st.dictionaries(st.text(max_size=8), JSON_VALUES, max_size=5))
def test_json_objects_come_back_as_they_were_written(kind: str, members: dict[str, qemu_args.Json]) -> None:
    members.pop("qom-type", None)
    config = qemu("-object", json.dumps({"qom-type": kind} | members))
    assert config.objects == (Properties(kind, tuple(members.items())),)


@given(st.lists(st.text(max_size=40) | st.sampled_from([f"-{name}" for name in ("cpu", "smp", "object", "machine")])))
def test_no_command_line_makes_it_raise(argv: list[str]) -> None:
    config = parse(argv)
    assert len(config.options) <= len(argv)
    assert config.smp is None or config.values("smp")


@given(
    st.lists(
        st.tuples(st.sampled_from("+-="), FEATURES, st.sampled_from(["on", "off", "0x1fff", "KVM Hv"])), max_size=8
    )
)
def test_cpu_switches_have_qemus_precedence(given_features: list[tuple[str, str, str]]) -> None:
    words = [f"{name}={value}" if sign == "=" else f"{sign}{name}" for sign, name, value in given_features]
    cpu = qemu("-cpu", ",".join(["host", *words])).cpu
    assert cpu is not None
    for _, name, _ in given_features:
        same = [f for f in given_features if f[1].replace("_", "-") == name.replace("_", "-")]
        signs = {sign for sign, _, _ in same}
        if "-" in signs:  # applied last, wherever it stands
            assert cpu.flag(name) is False
        elif "+" in signs:
            assert cpu.flag(name) is True
        else:
            assert cpu.get(name) == {"on": True, "off": False}.get(same[-1][2], same[-1][2])


def test_a_hostile_command_line_costs_no_more_than_its_length() -> None:
    began = time.process_time()
    for text in ("a," * 50_000, "," * 100_000, "a=" * 50_000, "{" * 100_000, "[" * 100_000, "no," * 30_000):
        qemu("-device", text, "-cpu", text, "-smp", text, "-global", text, "-machine", "{" + text)
    assert time.process_time() - began < 10  # about 1 s where growth is linear, a minute where it is not


# --- options ----------------------------------------------------------------------------------------------------------


def test_options_are_paired_with_their_values() -> None:
    config = qemu(
        "-S", "--name", "x", "-enable-kvm", "disk.img", "-append", "-s quiet", "-unheard-of", "-smp", "2", "-m"
    )
    assert config.options == (
        Option("S"),
        Option("name", "x"),
        Option("enable-kvm"),
        Option("", "disk.img"),
        Option("append", "-s quiet"),
        Option("unheard-of"),
        Option("smp", "2"),
        Option("m"),
    )
    assert config.has("S")
    assert config.values("smp") == ("2",)


@pytest.mark.needs("qemu")
def test_the_options_without_value_are_those_of_the_installed_qemu() -> None:
    help_text = subprocess.run(["qemu-system-x86_64", "-help"], capture_output=True, text=True, check=True).stdout
    bare = set(re.findall(r"^--?([a-zA-Z][\w-]*)(?=  |\t|$| or )", help_text, re.MULTILINE)) - {"dtb"}
    valued = set(re.findall(r"^-([a-zA-Z][\w-]*) [\[<a-zA-Z%]", help_text, re.MULTILINE)) - {"h", "async-teardown"}
    assert len(bare) > 20
    assert len(valued) > 40
    for name in bare:
        assert qemu(f"-{name}", "next").options[0] == Option(name)
    for name in valued - bare:
        assert qemu(f"-{name}", "next").options[0] == Option(name, "next")


@pytest.mark.parametrize("name", ["perfmap", "jitdump"])
def test_options_of_later_qemus_take_no_value_from_the_next(name: str) -> None:
    assert qemu(f"-{name}", "-smp", "2", f"-{name}", "disk.img").options[1:] == (
        Option("smp", "2"),
        Option(name),
        Option("", "disk.img"),
    )


def test_other_spellings_are_read_as_what_they_stand_for() -> None:
    config = qemu("-M", "pc", "-enable-kvm", "-no-hpet", "-no-kvm-pit-reinjection", "-machine", "q35,usb=off", "-usb")
    assert config.machine == Properties("q35", (("hpet", "off"), ("usb", "off"), ("usb", "on")))
    assert config.machine.flag("usb") is True
    assert config.accelerators == ("kvm",)
    assert config.globals == (GlobalProperty("kvm-pit", "lost_tick_policy", "discard"),)


def test_what_cannot_be_read_is_named_and_the_rest_is_kept() -> None:
    config = qemu("-object", "{'qom-type': 'secret'}", "-global", "nonsense", "-device", "{}", "-smp", "2")
    assert set(config.not_understood) == {Option("object", "{'qom-type': 'secret'}"), Option("global", "nonsense")}
    assert config.devices == (Properties(None),)
    assert config.smp == Smp(cpus=2)


def test_nothing_given_is_nothing_known() -> None:
    assert qemu() == qemu_args.QemuConfig()
    assert parse([]) == qemu_args.QemuConfig()
    assert qemu().kernel_irqchip is None
    assert qemu().accelerators == ()


# --- the parts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "irqchip"),
    [
        (["-machine", "q35,kernel_irqchip=split"], "split"),
        (["-machine", "type=q35+pve0,kernel-irqchip=split"], "split"),
        (["-machine", "pc,accel=kvm,kernel_irqchip,nvdimm"], "on"),
        (["-M", "pc,kernel_irqchip=no"], "off"),
        (["-no-kvm-irqchip"], "off"),
        (["-accel", "kvm,kernel-irqchip=off", "-machine", "q35"], "off"),
        (["-accel", "kvm,kernel-irqchip=off", "-machine", "q35,kernel_irqchip=on"], "off"),
        (["-machine", "q35", "-accel", "kvm"], None),
    ],
)
def test_kernel_irqchip_is_found_wherever_it_is_given(words: list[str], irqchip: str | None) -> None:
    assert qemu(*words).kernel_irqchip == irqchip


def test_accelerators_are_in_order_of_preference() -> None:
    assert qemu("-machine", "q35,accel=kvm:tcg").accelerators == ("kvm", "tcg")
    assert qemu("-accel", "kvm,dirty-ring-size=4096", "-accel", "tcg").accelerators == ("kvm", "tcg")


@pytest.mark.parametrize(
    ("text", "smp", "start", "most"),
    [
        ("4", Smp(cpus=4), 4, 4),
        ("cpus=2,maxcpus=8", Smp(cpus=2, maxcpus=8), 2, 8),
        ("maxcpus=8", Smp(maxcpus=8), 8, 8),
        ("sockets=2,dies=2,cores=3,threads=2", Smp(sockets=2, dies=2, cores=3, threads=2), 24, 24),
        (
            "1,maxcpus=64,drawers=1,books=2,sockets=2,dies=1,clusters=1,modules=2,cores=4,threads=2",
            Smp(1, 64, 1, 2, 2, 1, 1, 2, 4, 2),
            1,
            64,
        ),
        ("0x10", Smp(cpus=16), 16, 16),
        ("many", Smp(), 1, 1),
    ],
)
def test_smp_gives_every_level_of_the_topology(text: str, smp: Smp, start: int, most: int) -> None:
    assert qemu("-smp", text).smp == smp
    assert (smp.start_cpus, smp.most_cpus) == (start, most)


def test_smp_given_twice_is_one_topology() -> None:
    assert qemu("-smp", "4", "-smp", "sockets=2").smp == Smp(cpus=4, sockets=2)


def test_windows_enlightenments_of_a_proxmox_cpu() -> None:
    cpu = parse(argv_of("proxmox-windows")).cpu
    assert cpu is not None
    assert cpu.model == "host"
    assert cpu.flag("hv-synic") is True
    assert cpu.flag("hv_synic") is True
    assert cpu.flag("hv-tlbflush") is False
    assert cpu.flag("hv-avic") is None
    assert cpu.get("hv-spinlocks") == "0x1fff"


def test_a_libvirt_command_line_is_read_whole() -> None:
    config = parse(argv_of("libvirt-9"))
    assert config.name == "db-primary"
    assert config.machine is not None
    assert config.machine.head == "pc-q35-7.2"
    assert config.machine.flag("hpet") is False
    assert config.smp == Smp(cpus=6, sockets=2, cores=3, threads=1)
    assert config.global_value("kvm-pit", "lost_tick_policy") == "delay"
    assert config.overcommit is not None
    assert config.overcommit.flag("mem-lock") is False
    assert config.overcommit.flag("cpu-pm") is None
    assert config.rtc is not None
    assert config.rtc.text("driftfix") == "slew"
    assert [o.head for o in config.objects] == ["secret", "memory-backend-ram"]
    assert config.objects[1].number("size") == 8 << 30
    assert config.devices[0].flag("multifunction") is True
    assert config.not_understood == ()


def test_confidential_guests_and_iommus_are_found() -> None:
    sev = parse(argv_of("libvirt-10-sev-snp"))
    (guest,) = sev.objects_of("sev-guest", "sev-snp-guest")
    assert sev.machine is not None
    assert guest.text("id") == sev.machine.text("confidential-guest-support") == "lsec0"
    assert guest.number("policy") == 196608
    plain = qemu("-object", "sev-guest,id=sev0,cbitpos=47,policy=0x5")
    assert plain.objects_of("sev-guest")[0].number("policy") == 5
    (iommu,) = parse(argv_of("libvirt-10-eim")).devices_of("intel-iommu")
    assert iommu.flag("eim") is True


def test_files_that_hold_more_of_the_configuration_are_named() -> None:
    assert parse(argv_of("incus")).config_files == ("/run/incus/c1/qemu.conf",)


def test_global_properties_in_both_forms() -> None:
    config = qemu("-global", "ICH9-LPC.x=a,b=c", "-global", "driver=kvm-pit,property=lost_tick_policy,value=discard")
    assert config.globals == (
        GlobalProperty("ICH9-LPC", "x", "a,b=c"),
        GlobalProperty("kvm-pit", "lost_tick_policy", "discard"),
    )


@pytest.mark.parametrize("value", ["", "abc", "1_0", "0x", "1" * 5000, " 1", "1.5"])
def test_what_is_no_number_is_none(value: str) -> None:
    assert qemu_args.as_number(value) is None
    assert qemu_args.as_number(True) is None
