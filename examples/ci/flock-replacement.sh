#!/bin/sh
# A replacement for   flock [-n | -w SECONDS] /var/lock/board1 COMMAND…
#
#   examples/ci/flock-replacement.sh [-n | -w SECONDS] HOST COMMAND…
# Without an option it waits without limit, in a fair queue; -n does not wait, -w waits for so many seconds. The exit status
# is that of the command. 125: the host is not free (stderr says why: who has it, and until when). 124: it did not become
# free in time. Unlike with a lock, the next user gets a clean host, because the host is recycled at the end.
set -eu

usage() {
    sed -n '4s/^#  *//p' "$0" >&2
    exit 2
}

wait=--wait
while getopts nw: option; do
    case $option in
        n) wait='' ;;
        w) wait="--wait=${OPTARG}s" ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -ge 2 ] || usage
host=$1
shift

exec bmhctl run --host "$host" ${wait:+"$wait"} --on-exit recycle -- "$@"
