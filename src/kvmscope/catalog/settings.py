"""Settings of a VM that remedies name, and how each VMM and manager writes them, from settings.toml.

A VM has several *parties*: its managers and its VMM, the outermost first (KubeVirt, libvirt, QEMU). A setting is
changed at the outermost party that has it, since a party overwrites changes made below it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Final

from .data import read_toml
from .tomlfile import TomlEntry, read_root, root_tables, shown, unique

ANY: Final = "any"
"""The party for a VMM that the catalogue does not know."""

PARTIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "kubevirt": "KubeVirt",
        "openstack": "OpenStack Nova",
        "proxmox": "Proxmox VE",
        "incus": "Incus",
        "lxd": "LXD",
        "opennebula": "OpenNebula",
        "ovirt": "oVirt",
        "cloudstack": "CloudStack",
        "kata": "Kata Containers",
        "multipass": "Multipass",
        "lima": "Lima",
        "podman-machine": "podman machine",
        "docker-desktop": "Docker Desktop",
        "android": "Android emulator",
        "kubernetes": "Kubernetes",
        "docker": "Docker",
        "podman": "Podman",
        "libvirt": "libvirt",
        "qemu": "QEMU",
        "cloud-hypervisor": "cloud-hypervisor",
        "firecracker": "Firecracker",
        "crosvm": "crosvm",
        "libkrun": "libkrun",
        "kvmtool": "kvmtool",
        ANY: "In the VMM",
    }
)
"""The display name of each party, by the values of ``VmmProcess.vmm`` and ``managed_by``."""

_FILE: Final = "settings.toml"
_THROUGH_LIBVIRT: Final = frozenset({"kubevirt", "openstack", "opennebula", "ovirt", "cloudstack"})


@dataclass(frozen=True, slots=True)
class SettingWay:
    """How one party writes a setting; if ``is_possible`` is false, why it has no such setting."""

    party: str
    text: str
    is_possible: bool = True

    def __str__(self) -> str:
        return f"{PARTIES[self.party]}: {self.text}" if self.is_possible else self.text


@dataclass(frozen=True, slots=True)
class VmSetting:
    """A setting. By party, ``by``: how it is written, and ``cannot``: why it is missing; ``unless_said``: the text for
    parties in neither."""

    name: str
    does: str
    by: Mapping[str, str]
    cannot: Mapping[str, str]
    unless_said: Mapping[str, str]

    def ways(self, parties: Sequence[str]) -> tuple[SettingWay, ...]:
        """How the first of ``parties`` that has the setting writes it, preceded by those that lack it.

        If nothing is known of the VM's own VMM, the last of ``parties``, the general way of a VMM is given.
        """
        found: list[SettingWay] = []
        for party in (*parties, ANY):
            if party in self.by:
                return (*found, SettingWay(party, self.by[party]))
            if reason := self.cannot.get(party) or self.unless_said.get(party):
                found.append(SettingWay(party, reason, is_possible=False))
                if party == parties[-1]:
                    break
        return tuple(found)


def parties_of(vmm: str | None, managed_by: str | None) -> tuple[str, ...]:
    """The parties of a VM, the outermost first. ``vmm``, ``managed_by``: as in ``VmmProcess``."""
    between = "libvirt" if managed_by in _THROUGH_LIBVIRT else None
    return tuple(filter(None, (managed_by, between, vmm)))


def ways_of(names: Sequence[str], parties: Sequence[str]) -> Iterator[SettingWay]:
    """How the settings with these names are written for a VM with these parties."""
    settings = load_settings()
    for name in names:
        yield from settings[name].ways(parties)


@cache
def load_managers() -> Mapping[str, str]:
    """How managers that have no setting of the catalogue handle the options of their VMM."""
    return _parse_managers(read_root(read_toml(_FILE), _FILE))


@cache
def load_settings() -> Mapping[str, VmSetting]:
    """Every setting by its name, in the order of the file."""
    return parse_settings(read_toml(_FILE), _FILE)


def parse_settings(text: str, file: str) -> Mapping[str, VmSetting]:
    """Settings from TOML. Raises CatalogError if a field is missing or invalid, or a name is not unique."""
    root = read_root(text, file)
    managers = _parse_managers(root)
    entries = root_tables(root, "setting", beside=("manager",))
    settings = [_parse_setting(entry, managers) for entry in entries]
    unique(entries, "name")
    return MappingProxyType({setting.name: setting for setting in settings})


def setting_names(entry: TomlEntry, key: str) -> tuple[str, ...]:
    """The settings that an entry of the catalogue names. Raises CatalogError for one that does not exist."""
    names = entry.strings(key)
    for name in names:
        if name not in load_settings():
            raise entry.error(key, "names of settings", shown(name))
    return names


def _parse_managers(root: TomlEntry) -> Mapping[str, str]:
    found = {}
    entries = root_tables(root, "manager", beside=("setting",))
    for entry in entries:
        entry.check_keys(("party", "text"))
        party = entry.string("party")
        if party not in PARTIES:
            raise entry.error("party", f"one of {', '.join(PARTIES)}", shown(party))
        found[party] = entry.string("text")
    unique(entries, "party")
    return MappingProxyType(found)


def _parse_setting(entry: TomlEntry, managers: Mapping[str, str]) -> VmSetting:
    entry.check_keys(("name", "does", "by"), ("cannot",))
    by = _by_party(entry.table("by"))
    cannot = _by_party(entry.table("cannot")) if "cannot" in entry else {}
    for party in by.keys() & cannot.keys():
        raise entry.error(f"cannot.{party}", "a party that is not in 'by'", shown(party))
    return VmSetting(
        name=entry.string("name"),
        does=entry.string("does"),
        by=MappingProxyType(by),
        cannot=MappingProxyType(cannot),
        unless_said=managers,
    )


def _by_party(table: TomlEntry) -> dict[str, str]:
    for party in table:
        if party not in PARTIES:
            raise table.error(party, f"one of {', '.join(PARTIES)}", shown(party))
    return {party: table.string(party) for party in table}
