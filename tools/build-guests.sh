#!/bin/sh
# Assembles the lab's guests (src/kvmscope/lab/guests/*.S) into the .bin files beside them. Needs GNU binutils.
# With --check it builds elsewhere and fails if a committed .bin differs by a byte, or has no source.
set -eu
guests=$(cd "$(dirname "$0")/../src/kvmscope/lab/guests" && pwd)
case "${1-}" in
"") target=$guests ;;
--check) target= ;;
*) echo "usage: build-guests.sh [--check]" >&2; exit 2 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ -n "$target" ] || { target=$work/bin; mkdir "$target"; }

for source in "$guests"/*.S; do
	name=$(basename "$source" .S)
	as --64 --fatal-warnings -I "$guests" -o "$work/$name.o" "$source"
	ld -m elf_x86_64 --build-id=none -Ttext=0x8000 -e start -o "$work/$name.elf" "$work/$name.o"
	objcopy -O binary -j .text "$work/$name.elf" "$target/$name.bin"
	chmod 644 "$target/$name.bin"
done

[ "$target" != "$guests" ] || exit 0
status=0
for built in "$target"/*.bin "$guests"/*.bin; do
	name=$(basename "$built")
	cmp "$target/$name" "$guests/$name" || status=1
done
[ "$status" = 0 ] || echo "build-guests: the built guests are not those of the sources; run tools/build-guests.sh" >&2
exit "$status"
