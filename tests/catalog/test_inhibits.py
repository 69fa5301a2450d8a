"""The file of inhibit reasons: whole, strict, and of the reasons that kernels have."""

from __future__ import annotations

import pytest

from kvmscope.catalog.inhibits import InhibitClass, Vendor, load_inhibits, parse_inhibits, unlisted
from kvmscope.errors import CatalogError

ENTRY = """
[[reason]]
name = "sev"
class = "configuration"
vendors = ["amd"]
meaning = "Encrypted."
set_by = "SEV"
cleared_by = "never"
witness = ["apicv.vm.sev_active"]
remedy = "Leave it out."
settings = ["pit-discard"]
"""

ALL_OF_7_3 = (
    "disabled hyperv absent blockirq physical_id_aliased apic_id_modified apic_base_modified nested irqwin pit_reinj "
    "sev logical_id_aliased physical_id_too_big"
).split()


def test_every_reason_of_known_kernels_is_described() -> None:
    assert sorted(load_inhibits()) == sorted(ALL_OF_7_3)


def test_the_reasons_that_intel_heeds_are_those_that_vmx_requires() -> None:
    heeded = {name for name, inhibit in load_inhibits().items() if Vendor.INTEL in inhibit.vendors}
    required = "disabled absent hyperv blockirq physical_id_aliased apic_id_modified apic_base_modified".split()
    assert heeded == set(required)
    assert all(Vendor.AMD in inhibit.vendors for inhibit in load_inhibits().values())


def test_a_remedy_has_the_settings_in_the_words_of_who_runs_the_vm() -> None:
    inhibit = parse_inhibits(ENTRY, "inhibits.toml")["sev"]
    crosvm = inhibit.remedy(["crosvm"])
    assert crosvm.startswith("Leave it out. crosvm: --irqchip=split") and crosvm.endswith(".")
    assert inhibit.remedies["any"].startswith("Leave it out. In the VMM: KVM_REINJECT_CONTROL")
    assert inhibit.remedies["crosvm"].startswith("--irqchip=split")


def test_witnesses_are_named_by_provider_scope_and_stat() -> None:
    for inhibit in load_inhibits().values():
        assert all(len(name.split(".")) == 3 and name.split(".")[1] in ("vm", "vcpu") for name in inhibit.witness)


@pytest.mark.parametrize(
    ("spoiled", "line", "message"),
    [
        (ENTRY.replace('set_by = "SEV"\n', ""), 2, "expected a key 'set_by', found none"),
        (ENTRY.replace("set_by", "set_bye"), 7, "found 'set_bye'"),
        (ENTRY.replace("pit-discard", "pit"), 11, "expected names of settings, found 'pit'"),
        (ENTRY.replace('"configuration"', '"fate"'), 4, "expected one of host, configuration, guest, passing"),
        (ENTRY.replace('["amd"]', '["via"]'), 5, "expected some of intel, amd, found 'via'"),
        (ENTRY + ENTRY, 14, "which line 2 has"),
    ],
)
def test_what_the_file_may_not_say_is_refused_with_its_place(spoiled: str, line: int, message: str) -> None:
    with pytest.raises(CatalogError, match=message) as caught:
        parse_inhibits(spoiled, "inhibits.toml")
    assert (caught.value.file, caught.value.line) == ("inhibits.toml", line)


def test_a_reason_of_a_newer_kernel_is_called_what_it_is() -> None:
    inhibit = unlisted("moon_phase")
    assert inhibit.name == "moon_phase"
    assert inhibit.cls is InhibitClass.PASSING
    assert "moon_phase" in inhibit.meaning
