#!/bin/sh
# Sets up what the Makefile's targets need: Debian packages (root only) and the virtual environment in .venv.
set -eu
cd "$(dirname "$0")/.."

missing=""
for package in $(sed 's/#.*//' tools/debian-packages.txt); do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
	if [ "$(id -u)" = 0 ]; then
		apt-get update -qq
		# shellcheck disable=SC2086
		DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
	else
		echo "setup: not installed:$missing" >&2
		echo "setup: what needs them is skipped; as root: apt-get install$missing" >&2
	fi
fi

if ! "${PYTHON:-python3}" -m venv --without-pip .venv 2>/dev/null || ! "${PYTHON:-python3}" -m venv .venv; then
	echo "setup: ${PYTHON:-python3} cannot make a virtual environment; as root: apt-get install python3-venv" >&2
	exit 1
fi
.venv/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
