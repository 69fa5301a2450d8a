"""The block between header and id of a published stats file: the owner of the file, and whether it is live.

A published file is a stats file in shared memory (docs/reference/publish.md). The kernel's files need no such block,
since the fd identifies their subject; a memfd has nothing but its bytes. Readers that know only the kernel's format
skip it: the header has the offsets of the other blocks, and the interface does not promise that blocks are adjacent.

No I/O. Rule: as in ``statsfile``, ``parse`` raises FormatError and nothing else, on any bytes.

Layout, native byte order, offsets from the start of the file; ``live`` is the only word that ever changes:

    24  8 s  magic "kvmscope"          64  i64  created_ns of the VM, CLOCK_REALTIME; -1 not known
    32  u32  version, 1                72  i64  vCPU id; -1 in the file of a VM
    36  u32  size of this block        80  u32  flags: bit 0 simulated, 1 notes
    40  u64  live: 1, or 0 when over   84  u16  bytes of the provider's name
    48  u64  key of the VM             86  u16  bytes of the VM's name
    56  u64  owner_start               88       provider's name, VM's name (UTF-8), notes, zeroes up to ``size``

If bit 1 of the flags is set, notes start at the next multiple of 8: for each descriptor, in order, a u8 with the tier
(0 unknown, 1 abi-like, 2 stable, 3 volatile), a u8 that is 0, a u16 with the length of its meaning in bytes, and the
meaning (UTF-8). Readers that do not know notes skip them, since ``size`` covers them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import FormatError
from ..sample import NOT_KNOWN
from ..schema import Scope, StatNote, Tier

LINK_PREFIXES: Mapping[Scope, str] = MappingProxyType(
    {Scope.VM: "kvmscope-vm-stats:", Scope.VCPU: "kvmscope-vcpu-stats:"}
)
"""Prefix of the name of a published memfd. The rest of the name is for users; readers ignore it."""

LIVE_AT = 40
"""Offset of the word ``live`` in the file."""

SIZE_AT = 36
"""Offset of the size of the block. The other blocks follow it in any order."""

PASSED = b"kvmscope-stats"
"""Marker that accompanies fds of published files in a message between processes; carries no data."""

NAME_LIMIT = 1024
"""Maximum length of the name of a provider or VM in bytes."""

MEANING_LIMIT = 512
"""Maximum length of the meaning of a stat in bytes; a longer one is truncated."""

FILE_LIMIT = 2**20
DATA_LIMIT = 2**18
DESCRIPTOR_LIMIT = 1024
"""Limits that publishers keep and readers enforce: bytes of a file, bytes of its data block, number of its stats."""

_AT = 24  # the size of the header
_MAGIC = b"kvmscope"
_VERSION = 1
_FIXED = struct.Struct("=8sIIQQQqqIHH")
_HEADER = struct.Struct("=6I")
_NOTE = struct.Struct("=BBH")
_SIMULATED, _HAS_NOTES = 1, 2
_TIERS = {1: Tier.ABI_LIKE, 2: Tier.STABLE, 3: Tier.VOLATILE}
_TIER_NUMBERS = {tier: number for number, tier in _TIERS.items()}


@dataclass(frozen=True, slots=True)
class PublicationBlock:
    """The owner of a stats file.

    ``key`` names the VM within the process that publishes it. ``owner_start`` is when that process started, in clock
    ticks after boot (field 22 of /proc/PID/stat), 0 if unknown: it distinguishes the owner from processes that merely
    hold the fd. ``vcpu`` is None in the file of a VM. ``notes``: one for each descriptor of the file, or empty.
    ``provider``, ``vm`` and the meanings of notes are untrusted text.
    """

    provider: str
    vm: str
    key: int
    vcpu: int | None = None
    owner_start: int = 0
    created_ns: int = NOT_KNOWN
    simulated: bool = False
    live: bool = True
    notes: tuple[StatNote, ...] = ()

    @property
    def scope(self) -> Scope:
        return Scope.VM if self.vcpu is None else Scope.VCPU


def parse(data: bytes) -> PublicationBlock:
    """The publication block of a stats file. Raises FormatError if it has none or one of an unknown version."""
    if len(data) < _AT + _FIXED.size:
        raise _broken(_AT, f"{_FIXED.size} bytes", f"a file of {len(data)}")
    magic, version, size, live, key, owner_start, created_ns, vcpu, flags, provider_size, vm_size = _FIXED.unpack_from(
        data, _AT
    )
    if magic != _MAGIC:
        raise _broken(_AT, repr(_MAGIC), repr(magic))
    if version != _VERSION:
        raise _broken(_AT + 8, f"version {_VERSION}", f"{version}")
    text_at = _AT + _FIXED.size
    if max(provider_size, vm_size) > NAME_LIMIT:
        raise _broken(_AT + 60, f"names of at most {NAME_LIMIT} bytes", f"{provider_size} and {vm_size}")
    if size % 8 or size < _FIXED.size + provider_size + vm_size or _AT + size > len(data):
        raise _broken(_AT + 12, "a multiple of 8 that holds the names and fits the file", f"{size}")
    first = min(_HEADER.unpack_from(data)[3:])
    if first < _AT + size:
        raise _broken(12, f"no block before byte {_AT + size}, where this one ends", f"one at {first}")
    if vcpu < NOT_KNOWN:
        raise _broken(_AT + 48, "a vCPU id or -1", f"{vcpu}")
    vm_at = text_at + provider_size
    notes_at = text_at + _aligned(provider_size + vm_size)
    return PublicationBlock(
        provider=_text(data[text_at:vm_at]),
        vm=_text(data[vm_at : vm_at + vm_size]),
        key=key,
        vcpu=None if vcpu == NOT_KNOWN else vcpu,
        owner_start=owner_start,
        created_ns=created_ns if created_ns >= 0 else NOT_KNOWN,
        simulated=bool(flags & _SIMULATED),
        live=bool(live),
        notes=_parse_notes(data, notes_at, _AT + size) if flags & _HAS_NOTES else (),
    )


def encode(publication: PublicationBlock, stats_file: bytes, *, file_id: str) -> bytes:
    """The bytes of a published file: an encoded stats file with the block inserted after its header, and with this id.

    The rest is moved unchanged, so one encoded file serves for all subjects with the same stats. Raises ValueError if a
    name is longer than NAME_LIMIT bytes, the id does not fit, or there are not as many notes as stats.
    """
    block = _block(publication)
    flags, name_size, count, id_offset, desc_offset, data_offset = _HEADER.unpack_from(stats_file)
    if publication.notes and len(publication.notes) != count:
        raise ValueError(f"{len(publication.notes)} notes for {count} stats")
    raw_id = file_id.encode("utf-8", "surrogateescape")
    if len(raw_id) >= name_size:
        raise ValueError(f"an id of {len(raw_id)} bytes where {name_size - 1} fit")
    shift = len(block)
    header = _HEADER.pack(flags, name_size, count, id_offset + shift, desc_offset + shift, data_offset + shift)
    encoded = bytearray(header + block + stats_file[_AT:])
    encoded[id_offset + shift : id_offset + shift + name_size] = raw_id.ljust(name_size, b"\0")
    return bytes(encoded)


def _block(publication: PublicationBlock) -> bytes:
    provider, vm = publication.provider.encode(), publication.vm.encode("utf-8", "surrogateescape")
    if max(len(provider), len(vm)) > NAME_LIMIT:
        raise ValueError(f"a name of more than {NAME_LIMIT} bytes")
    used = _FIXED.size + len(provider) + len(vm)
    notes = b"".join(map(_note, publication.notes))
    size = _aligned(_aligned(used) + len(notes))
    fixed = _FIXED.pack(
        _MAGIC,
        _VERSION,
        size,
        publication.live,
        publication.key,
        publication.owner_start,
        publication.created_ns,
        NOT_KNOWN if publication.vcpu is None else publication.vcpu,
        (_SIMULATED if publication.simulated else 0) | (_HAS_NOTES if notes else 0),
        len(provider),
        len(vm),
    )
    return (fixed + provider + vm).ljust(_aligned(used), b"\0") + notes + bytes(size - _aligned(used) - len(notes))


def check_name(name: str) -> None:
    """Raises TypeError for anything but a str, ValueError for a name that does not fit."""
    if not isinstance(name, str):
        raise TypeError(f"a name is a text, not {name!r}")
    if len(name.encode("utf-8", "surrogateescape")) > NAME_LIMIT:
        raise ValueError(f"a name of more than {NAME_LIMIT} bytes")


def _note(note: StatNote) -> bytes:
    meaning = note.meaning.encode("utf-8", "replace")[:MEANING_LIMIT].decode("utf-8", "ignore").encode()
    return _NOTE.pack(0 if note.tier is None else _TIER_NUMBERS[note.tier], 0, len(meaning)) + meaning


def _parse_notes(data: bytes, at: int, end: int) -> tuple[StatNote, ...]:
    """A note for each descriptor. A tier of a later version counts as unknown."""
    notes: list[StatNote] = []
    for _ in range(_HEADER.unpack_from(data)[2]):
        if at + _NOTE.size > end:
            raise _broken(at, "a note for each stat within the block", f"{len(notes)}")
        tier, _zero, length = _NOTE.unpack_from(data, at)
        at += _NOTE.size
        if length > min(MEANING_LIMIT, end - at):
            raise _broken(at, f"a meaning of at most {MEANING_LIMIT} bytes within the block", f"{length}")
        notes.append(StatNote(data[at : at + length].decode("utf-8", "replace"), _TIERS.get(tier)))
        at += length
    return tuple(notes)


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _broken(offset: int, expected: str, got: str) -> FormatError:
    return FormatError("publication block", offset=offset, expected=expected, got=got)
