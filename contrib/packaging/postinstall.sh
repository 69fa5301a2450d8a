#!/bin/sh
# After an installation or an upgrade, of .deb (configure VERSION) and of .rpm (how many are installed).
set -e
case "$1" in
configure | [1-9]*) ;;
*) exit 0 ;;
esac

python=/usr/lib/kvmscope/bin/python3
# Commands start three times as fast with compiled modules, and only root can write them here.
"$python" -I -m compileall -q -j 0 /usr/lib/kvmscope/lib || echo "kvmscope: some modules were not compiled" >&2
"$python" -I -c 'from kvmscope.catalog.data import keep_all; keep_all()'

if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers /usr/lib/sysusers.d/kvmscope.conf
fi
# Services are left off; those that run are started again with what is new. What reads is restarted with what attached.
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart kvmscope-attach.service
fi
