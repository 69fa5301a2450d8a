"""A QEMU command line as typed configuration.

Pure: argv in, values out; no I/O and no judgement of the effect of the values. Other inputs of QEMU are not here:
``-readconfig`` files are only named in ``config_files``, and devices plugged over QMP after the start cannot be seen.

Rule: no argv makes this raise. An option that cannot be parsed is in ``not_understood``, and the rest is still read.
An option that was not given is None or empty: QEMU's defaults depend on its version and machine type, and are left to
the caller. Alternative spellings of options (``-M``, ``-enable-kvm``, ``-no-hpet``, …) are read as the option that they
stand for.

Source: QEMU system/vl.c, util/keyval.c, util/qemu-option.c (key=value lists, ``,,`` for a comma), target/i386/cpu.c
(x86_cpu_parse_featurestr), hw/core/machine-smp.c, qemu-options.hx, as of 7.2 to 10.0; what libvirt and Proxmox write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True, slots=True)
class Option:
    """One option of argv, without its dashes; ``value`` is None if it takes none."""

    name: str
    value: str | None = None


_FLAG_OPTIONS: Final = frozenset(
    # Options without a value, those of older releases included (qemu-options.hx: DEF(name, 0, …)); the rest have one.
    """
    S alt-grab async-teardown audio-help ctrl-grab curses daemonize enable-fips enable-kvm enable-sync-profile
    full-screen h help jitdump localtime mem-prealloc no-acpi no-fd-bootchk no-frame no-hpet no-kvm no-kvm-irqchip
    no-kvm-pit no-kvm-pit-reinjection no-quit no-reboot no-shutdown no-user-config nodefaults nodefconfig nographic
    old-param one-insn-per-tb only-migratable perfmap portrait preconfig rtc-td-hack s sdl semihosting show-cursor
    singlestep snapshot tdf usb version win2k-hack xen-attach xen-domid-restrict
    """.split()
)

_FREE_TEXT_OPTIONS: Final = frozenset({"append"})
"""Options whose values may begin with a dash."""

_JSON_OPTIONS: Final = frozenset({"blockdev", "device", "object"})
"""Options read here whose value may be a JSON object; a VM may well be called ``{web}``."""

_ALIASES: Final = {
    "enable-kvm": Option("accel", "kvm"),
    "no-acpi": Option("machine", "acpi=off"),
    "no-hpet": Option("machine", "hpet=off"),
    "no-kvm-irqchip": Option("machine", "kernel_irqchip=off"),
    "no-kvm-pit-reinjection": Option("global", "kvm-pit.lost_tick_policy=discard"),
    "usb": Option("machine", "usb=on"),
}

_TRUE: Final = frozenset({"on", "yes", "true", "y"})
_FALSE: Final = frozenset({"off", "no", "false", "n"})


@dataclass(frozen=True, slots=True)
class Properties:
    """A ``head,key=value,…`` list, or the JSON object that may replace it.

    ``head``: the value whose key may be omitted (the driver, machine type, accelerator, …), None if none was given.
    ``items``: the rest in the order given, keys as given; text from ``key=value``, any JSON value from JSON.
    """

    head: str | None
    items: tuple[tuple[str, Json], ...] = ()

    def get(self, key: str) -> Json:
        """The value that QEMU uses (the last), or None; ``-`` and ``_`` in keys are the same, as for machines."""
        wanted = _dashed(key)
        return next((value for name, value in reversed(self.items) if _dashed(name) == wanted), None)

    def text(self, key: str) -> str | None:
        """``get`` as text; None if absent or not a scalar."""
        value = self.get(key)
        if isinstance(value, bool):
            return "on" if value else "off"
        return None if value is None or isinstance(value, list | dict) else str(value)

    def flag(self, key: str) -> bool | None:
        """``get`` as a boolean; None if absent or neither on nor off (``auto``, ``split``)."""
        return as_flag(self.get(key))

    def number(self, key: str) -> int | None:
        """``get`` as a whole number; None if absent or not a number."""
        return as_number(self.get(key))


@dataclass(frozen=True, slots=True)
class Cpu:
    """``-cpu``. ``features``: name to value as QEMU applies them, names with ``-`` for ``_``; on and off as bool."""

    model: str
    features: tuple[tuple[str, str | bool], ...] = ()

    def get(self, name: str) -> str | bool | None:
        wanted = _dashed(name)
        return next((value for key, value in self.features if key == wanted), None)

    def flag(self, name: str) -> bool | None:
        """Whether the command line enables or disables ``name``; None if neither."""
        return as_flag(self.get(name))


@dataclass(frozen=True, slots=True)
class Smp:
    """``-smp``; None for values not given. ``start_cpus`` and ``most_cpus`` are derived from them."""

    cpus: int | None = None
    maxcpus: int | None = None
    drawers: int | None = None
    books: int | None = None
    sockets: int | None = None
    dies: int | None = None
    clusters: int | None = None
    modules: int | None = None
    cores: int | None = None
    threads: int | None = None

    @property
    def start_cpus(self) -> int:
        """The number of vCPUs at the start: as given, otherwise the maximum."""
        return self.cpus or self.most_cpus

    @property
    def most_cpus(self) -> int:
        """The maximum number of vCPUs: as given, otherwise the number at the start, otherwise that of the topology."""
        if self.maxcpus or self.cpus:
            return self.maxcpus or self.cpus or 1
        levels = (self.drawers, self.books, self.sockets, self.dies, self.clusters, self.modules, self.cores)
        places = self.threads or 1
        for level in levels:
            places *= level or 1
        return places


@dataclass(frozen=True, slots=True)
class GlobalProperty:
    """``-global driver.property=value``: a default for every device of a driver."""

    driver: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class QemuConfig:
    """A parsed QEMU command line. Tuples are in the order given; of options given twice, the one that QEMU uses."""

    options: tuple[Option, ...] = ()
    name: str | None = None
    uuid: str | None = None
    machine: Properties | None = None
    accels: tuple[Properties, ...] = ()
    cpu: Cpu | None = None
    smp: Smp | None = None
    devices: tuple[Properties, ...] = ()
    objects: tuple[Properties, ...] = ()
    globals: tuple[GlobalProperty, ...] = ()
    overcommit: Properties | None = None
    rtc: Properties | None = None
    smbios: tuple[Properties, ...] = ()
    blockdevs: tuple[Properties, ...] = ()
    config_files: tuple[str, ...] = ()
    not_understood: tuple[Option, ...] = ()

    def values(self, option: str) -> tuple[str, ...]:
        """Every value given to ``option`` (without dash), raw."""
        return tuple(o.value for o in self.options if o.name == option and o.value is not None)

    def has(self, option: str) -> bool:
        return any(o.name == option for o in self.options)

    def objects_of(self, *kinds: str) -> tuple[Properties, ...]:
        """The ``-object``s of these types."""
        return tuple(o for o in self.objects if o.head in kinds)

    def devices_of(self, *drivers: str) -> tuple[Properties, ...]:
        """The ``-device``s of these drivers."""
        return tuple(d for d in self.devices if d.head in drivers)

    def global_value(self, driver: str, name: str) -> str | None:
        """The value that ``-global`` sets for one driver (the last one given), or None."""
        found = [g.value for g in self.globals if (g.driver, _dashed(g.name)) == (driver, _dashed(name))]
        return found[-1] if found else None

    @property
    def accelerators(self) -> tuple[str, ...]:
        """Accelerators in the order of preference; empty if the command line names none."""
        named = tuple(accel.head for accel in self.accels if accel.head)
        chosen = self.machine.text("accel") if self.machine else None
        return named or (tuple(chosen.split(":")) if chosen else ())

    @property
    def kernel_irqchip(self) -> str | None:
        """``on``, ``off`` or ``split``, from any of the options that can set it; None if none does."""
        holders = [*reversed(self.accels), *([self.machine] if self.machine else [])]
        given = (holder.text("kernel-irqchip") for holder in holders)
        return next((_onoff(value) for value in given if value is not None), None)


def parse(argv: Sequence[str]) -> QemuConfig:
    """The configuration in ``argv``, whose first element is the program."""
    options = tuple(split_options(argv))
    malformed: list[Option] = []
    by_name: dict[str, list[Option]] = {}
    for option in map(_canonical, options):
        by_name.setdefault(option.name, []).append(option)

    def values(name: str) -> list[str]:
        return [option.value for option in by_name.get(name, ()) if option.value is not None]

    def each(name: str, head_key: str | None = None) -> tuple[Properties, ...]:
        parsed = [(value, _properties(value, head_key, takes_json=name in _JSON_OPTIONS)) for value in values(name)]
        malformed.extend(Option(name, value) for value, properties in parsed if properties is None)
        return tuple(properties for _, properties in parsed if properties is not None)

    given_globals = [(value, _global_property(value)) for value in values("global")]
    malformed.extend(Option("global", value) for value, found in given_globals if found is None)
    return QemuConfig(
        options=options,
        name=_last(properties.head for properties in each("name", "guest")),
        uuid=_last(values("uuid")),
        machine=_merged(each("machine", "type")),
        accels=each("accel", "accel"),
        cpu=_parse_cpu(_last(values("cpu"))),
        smp=_parse_smp(_merged(each("smp", "cpus"))),
        devices=each("device", "driver"),
        objects=each("object", "qom-type"),
        globals=tuple(found for _, found in given_globals if found is not None),
        overcommit=_merged(each("overcommit")),
        rtc=_merged(each("rtc")),
        smbios=each("smbios"),
        blockdevs=each("blockdev", "driver"),
        config_files=tuple(values("readconfig")),
        not_understood=tuple(malformed),
    )


def split_options(argv: Sequence[str]) -> Iterator[Option]:
    """The options of ``argv[1:]``; a bare word (a disk image) is an option named ``""``."""
    words = iter(range(1, len(argv)))
    for i in words:
        word = argv[i]
        if not word.startswith("-") or word == "-":
            yield Option("", word)
            continue
        name = word[2:] if word.startswith("--") else word[1:]
        takes_value = name not in _FLAG_OPTIONS and i + 1 < len(argv)
        if takes_value and (name in _FREE_TEXT_OPTIONS or not _looks_like_option(argv[i + 1])):
            yield Option(name, argv[next(words)])
        else:
            yield Option(name)


# Possessive quantifiers only: an argv is untrusted, and matching must take time linear in its length.
_PAIR: Final = re.compile(r"(?:([^=,]*+)=)?+((?:[^,]++|,,)*+)(?:,|\Z)")


def split_pairs(text: str) -> Iterator[tuple[str | None, str]]:
    """The parts of ``a,key=value,…``, with ``,,`` in a value read as a comma; the key is None where no ``=`` was."""
    at = 0
    while at < len(text) and (part := _PAIR.match(text, at)):
        yield part[1], part[2].replace(",,", ",")
        at = part.end()


def as_flag(value: Json) -> bool | None:
    """A boolean from QEMU's on/off words and from JSON; None for anything else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return True if value in _TRUE else False if value in _FALSE else None
    return None


def as_number(value: Json) -> int | None:
    """A whole number, also in hexadecimal; None for anything else."""
    if isinstance(value, str):
        return int(value, 0) if _NUMBER.fullmatch(value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


_NUMBER: Final = re.compile(r"[-+]?(?:0x[0-9a-fA-F]{1,16}|0|[1-9][0-9]{0,19})")


def _canonical(option: Option) -> Option:
    return Option("machine", option.value) if option.name == "M" else _ALIASES.get(option.name, option)


def _properties(text: str, head_key: str | None, *, takes_json: bool) -> Properties | None:
    """None if ``text`` is JSON that cannot be read."""
    is_json = takes_json and text.startswith("{")
    items = _json_items(text) if is_json else list(_named_pairs(text, head_key))
    if items is None:
        return None
    head = _last(value for key, value in items if key == head_key and isinstance(value, str))
    return Properties(head, tuple(item for item in items if item[0] != head_key))


def _json_items(text: str) -> list[tuple[str, Json]] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return list(value.items()) if isinstance(value, dict) else None


def _named_pairs(text: str, head_key: str | None) -> Iterator[tuple[str, Json]]:
    for index, (key, value) in enumerate(split_pairs(text)):
        if key is not None:
            yield key, value
        elif index == 0 and head_key is not None:
            yield head_key, value
        elif value.startswith("no") and len(value) > 2:
            # QemuOpts: a bare key switches on, a bare "nokey" switches key off
            yield value[2:], "off"
        elif value:
            yield value, "on"


def _merged(parts: Sequence[Properties]) -> Properties | None:
    """Merge options that QEMU treats as one: later ones add or replace properties."""
    if not parts:
        return None
    return Properties(_last(part.head for part in parts), tuple(item for part in parts for item in part.items))


def _parse_cpu(text: str | None) -> Cpu | None:
    """``+x`` and ``-x`` are applied after all ``x=…``, and ``-x`` last, at any position. No ``,,`` here."""
    if text is None:
        return None
    model, _, rest = text.partition(",")
    plain: dict[str, str | bool] = {}
    plus: dict[str, str | bool] = {}
    minus: dict[str, str | bool] = {}
    for word in filter(None, rest.split(",")):
        if word[0] in "+-":
            (plus if word[0] == "+" else minus)[_dashed(word[1:])] = word[0] == "+"
            continue
        name, equals, value = word.partition("=")
        switch = as_flag(value)
        plain[_dashed(name)] = (value if switch is None else switch) if equals else True
    return Cpu(model, tuple((plain | plus | minus).items()))


def _parse_smp(given: Properties | None) -> Smp | None:
    if given is None:
        return None
    numbers = {key: as_number(value) for key, value in (("cpus", given.head), *given.items)}
    return Smp(**{key: number for key, number in numbers.items() if key in Smp.__slots__ and number is not None})


def _global_property(text: str) -> GlobalProperty | None:
    """``driver.property=value``, with the value up to the end; or ``driver=…,property=…,value=…``."""
    target, equals, value = text.partition("=")
    driver, dot, name = target.partition(".")
    if equals and dot and driver and name and "," not in target:
        return GlobalProperty(driver, name, value)
    pairs = {key: given for key, given in split_pairs(text) if key is not None}
    if {"driver", "property", "value"} <= pairs.keys():
        return GlobalProperty(pairs["driver"], pairs["property"], pairs["value"])
    return None


def _looks_like_option(word: str) -> bool:
    return len(word) > 1 and word[0] == "-" and (word[1].isalpha() or word[1] == "-")


def _last(values: Iterable[str | None]) -> str | None:
    found = [value for value in values if value is not None]
    return found[-1] if found else None


def _onoff(value: str) -> str:
    switch = as_flag(value)
    return value if switch is None else "on" if switch else "off"


def _dashed(key: str) -> str:
    return key.replace("_", "-")
