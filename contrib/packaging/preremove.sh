#!/bin/sh
# Before a removal or an upgrade of .deb (remove, upgrade), and before a removal of .rpm (0). In an upgrade of .rpm the new
# version is there already, and what it compiled stays.
set -e
case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl --quiet disable --now kvmscope-serve.service kvmscope-record.service kvmscope-govern-polling.service \
			kvmscope-attach.service || :
	fi
	;;
upgrade) ;;
*) exit 0 ;;
esac
find /usr/lib/kvmscope/lib -type d -name __pycache__ -prune -exec rm -rf {} +
rm -f /usr/lib/python3*/*-packages/sos/report/plugins/__pycache__/kvmscope.*.pyc
