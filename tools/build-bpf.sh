#!/bin/sh
# Builds the BPF object from its source with Debian's clang 14; `--check` rebuilds it elsewhere and compares.
set -eu
cd "$(dirname "$0")/../src/kvmscope/sources/bpf"
target="$PWD/kvmscope.bpf.o"
[ "${1:-}" = --check ] && target="$(mktemp)" && trap 'rm -f "$target"' EXIT

headers="/usr/include/$(uname -m)-linux-gnu" # <asm/types.h>, which <linux/types.h> includes
clang-14 -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter -I. -idirafter "$headers" \
	-ffile-prefix-map="$PWD=." -c kvmscope.bpf.c -o "$target"
llvm-strip-14 -g "$target" # drops DWARF; BTF stays, without the place where it was built

if [ "${1:-}" = --check ]; then
	cmp "$target" kvmscope.bpf.o || {
		echo "kvmscope.bpf.o is not what its source builds to; run tools/build-bpf.sh and commit it" >&2
		exit 1
	}
fi
