#!/bin/sh
# Builds the BPF objects from their sources with Debian's clang 14; `--check` rebuilds them elsewhere and compares.
set -eu
cd "$(dirname "$0")/../src/kvmscope/sources/bpf"
headers="/usr/include/$(uname -m)-linux-gnu" # <asm/types.h>, which <linux/types.h> includes

# In the source's own directory, so that the object has no longer path of it than its name.
build() {
	(
		cd "$(dirname "$1")"
		clang-14 -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter -I. -idirafter "$headers" \
			-ffile-prefix-map="$PWD=." -c "$(basename "$1")" -o "$2"
		llvm-strip-14 -g "$2" # drops DWARF; BTF stays, without the place where it was built
	)
}

[ "${1:-}" = --check ] && again="$(mktemp)" && trap 'rm -f "$again"' EXIT
for source in kvmscope.bpf.c groups/*.bpf.c; do
	object="${source%.c}.o"
	if [ "${1:-}" != --check ]; then
		build "$source" "$PWD/$object"
		continue
	fi
	build "$source" "$again"
	cmp "$again" "$object" || {
		echo "$object is not what its source builds to; run tools/build-bpf.sh and commit it" >&2
		exit 1
	}
done
