#!/bin/sh
# Sets up what the Makefile's targets need: Debian packages (root only) and the virtual environment in .venv.
# Rule: whatever would stop it is found before anything is installed, and says what to do.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

say() {
	echo "setup: $*" >&2
}

is_root() {
	[ "$(id -u)" = 0 ]
}

has_debian() {
	command -v dpkg-query >/dev/null && command -v apt-get >/dev/null
}

# Whether apt is going to bring the interpreter, or the modules that it lacks.
is_debians_python() {
	case $(command -v "$python" || echo "$python") in
	python3 | /usr/bin/python3 | /bin/python3) return 0 ;;
	*) return 1 ;;
	esac
}

can_make_environments() {
	"$python" -c 'import ensurepip, venv' 2>/dev/null
}

check_python() {
	if command -v "$python" >/dev/null; then
		if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
			say "$python is $("$python" -V 2>&1), and Python 3.11 or later is needed; name another: make PYTHON=python3.12 …"
			exit 1
		fi
		can_make_environments && return
	fi
	if is_root && has_debian && is_debians_python; then
		return
	fi
	say "$python cannot make a virtual environment; on Debian, as root: apt-get install python3 python3-venv"
	exit 1
}

list_missing() {
	sed 's/[[:space:]]*#.*//' tools/debian-packages.txt | while read -r package; do
		[ -n "$package" ] || continue
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
	done
}

# Another release may have a package under another name: one that is not there must not keep back the others.
list_available() {
	for package; do
		if apt-cache show --no-all-versions "$package" >/dev/null 2>&1; then
			echo "$package"
		else
			say "this release has no package $package; what needs it is skipped"
		fi
	done
}

# shellcheck disable=SC2046,SC2086
install_packages() {
	if ! has_debian; then
		say "this is not Debian; the packages in tools/debian-packages.txt are wanted under their names here"
		return
	fi
	missing=$(list_missing)
	[ -n "$missing" ] || return 0
	if ! is_root; then
		say "not installed:" $missing
		say "what needs them is skipped; as root: apt-get install" $missing
		return
	fi
	apt-get update -qq || say "the lists of packages cannot be updated; those that are there are used"
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(list_available $missing) >/dev/null ||
		say "apt-get could not install all of:" $missing
}

make_environment() {
	if ! "$python" -m venv .venv; then
		say "$python cannot make a virtual environment; on Debian, as root: apt-get install python3 python3-venv"
		exit 1
	fi
	if ! .venv/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'; then
		say "pip cannot install what pyproject.toml names (see above); once it can, run make setup again"
		exit 1
	fi
	# As pip does for a package that is not editable; where PYTHONDONTWRITEBYTECODE is set, each start would compile.
	.venv/bin/python -m compileall -q src
	.venv/bin/python -c 'from kvmscope.catalog.data import keep_all; keep_all()'
}

check_python
install_packages
make_environment
