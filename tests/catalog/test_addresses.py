"""Names of ports and MSRs: each number belongs to the first range that has it, and no name is there in vain."""

from __future__ import annotations

import pytest

from kvmscope.catalog.addresses import AddressSpace, load_addresses, parse_addresses
from kvmscope.errors import CatalogError

ENTRY = """
provider = "somebody"
[[port]]
name = "rtc"
first = 0x70
last = 0x71
means = "the RTC"
"""


def name_of(space: AddressSpace, number: int) -> str | None:
    ranges = load_addresses().spaces[space]
    return next((each.name for each in ranges if each.first <= number <= each.last), None)


@pytest.mark.parametrize(
    ("space", "number", "name"),
    [
        (AddressSpace.PORT, 0x70, "rtc"),
        (AddressSpace.PORT, 0x71, "rtc"),
        (AddressSpace.PORT, 0x72, None),
        (AddressSpace.PORT, 0x608, "pm_timer"),
        (AddressSpace.PORT, 0x604, "power"),
        (AddressSpace.PORT, 0x3F8, "serial"),
        (AddressSpace.MSR, 0x830, "x2apic_icr"),
        (AddressSpace.MSR, 0x80B, "x2apic_eoi"),
        (AddressSpace.MSR, 0x808, "x2apic_other"),
        (AddressSpace.MSR, 0x6E0, "tsc_deadline"),
        (AddressSpace.MSR, 0x4000_0020, "hv_clock"),
        (AddressSpace.MSR, 0x4000_0021, "hv_other"),
        (AddressSpace.MSR, 0x12345, None),
    ],
)
def test_a_number_has_the_name_of_what_it_belongs_to(space: AddressSpace, number: int, name: str | None) -> None:
    assert name_of(space, number) == name


@pytest.mark.parametrize("space", AddressSpace)
def test_no_range_is_hidden_by_those_before_it(space: AddressSpace) -> None:
    for each in load_addresses().spaces[space]:
        assert any(name_of(space, number) == each.name for number in range(each.first, each.last + 1)), each.name


@pytest.mark.parametrize(
    ("change", "blamed"),
    [
        (("last = 0x71", "last = 0x6f"), "last"),
        (('name = "rtc"', 'name = "the RTC"'), "name"),
        (("first = 0x70\n", ""), "first"),
        (("[[port]]", "[[ports]]"), "ports"),
        (('provider = "somebody"', ""), "provider"),
    ],
    ids=["ends before it begins", "no name of a stat", "incomplete", "unknown space", "nobody counts"],
)
def test_a_table_that_is_wrong_is_refused_by_its_place(change: tuple[str, str], blamed: str) -> None:
    assert parse_addresses(ENTRY, "x.toml").provider == "somebody"
    with pytest.raises(CatalogError, match=blamed):
        parse_addresses(ENTRY.replace(*change), "x.toml")
