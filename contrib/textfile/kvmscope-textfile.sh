#!/bin/sh
# Puts the metrics of a running `kvmscope serve` where node_exporter's textfile collector finds them, whole or not at all.
# Run it from a timer; the directory is that of --collector.textfile.directory. KVMSCOPE_URL is where the server is, and
# KVMSCOPE_CURL_OPTIONS what else curl needs, such as --netrc for a password.
set -eu
directory=${1:-/var/lib/node_exporter/textfile_collector}
url=${KVMSCOPE_URL:-http://127.0.0.1:9796/metrics}
new=$(mktemp "$directory/.kvmscope.XXXXXX")
trap 'rm -f "$new"' EXIT
# shellcheck disable=SC2086 # options are words
curl -fsS --compressed --max-time 10 ${KVMSCOPE_CURL_OPTIONS:-} "$url" >"$new"
chmod 0644 "$new"
mv "$new" "$directory/kvmscope.prom"
