"""The ROM that QEMU gets."""

from __future__ import annotations

import struct

from kvmscope.lab.qemu import rom_image


def test_the_rom_fills_64_kib_and_jumps_to_its_start_at_reset() -> None:
    rom = rom_image(1000)
    opcode, offset, segment = struct.unpack_from("<BHH", rom, 0xFFF0)
    assert (len(rom), opcode, (segment << 4) + offset) == (0x10000, 0xEA, 0xF0000)


def test_the_count_stands_where_the_guest_reads_it() -> None:
    assert struct.unpack_from("<I", rom_image(0x1234_5678), 0x1F8) == (0x1234_5678,)
