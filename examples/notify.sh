#!/usr/bin/env bash
# Run a command for each event of an inventory: a chat message, a webhook, a line in a log.
#
#   notify.sh PLACE COMMAND [ARGUMENT...]
# COMMAND gets the event on stdin, as one line of JSON in the CloudEvents format. PLACE is a file with the id of the last
# event for which COMMAND succeeded. If the file does not exist, the script begins with the next event.
# When COMMAND fails, the script ends with its status. The next start tries that event again: let systemd restart the
# script. Ctrl-C, TERM, and a KILL of this script or of bmhctl lose no event and repeat none: one child process runs
# COMMAND and writes PLACE; it finishes after a signal, and the next start waits for it. COMMAND may get an event twice only
# if that child is killed too, or the power fails. Both copies have the same "source" and "id".
# BMHCTL_INVENTORY names the inventory. NOTIFY_OPTIONS has further options of bmhctl history: "-l rack=r1 --verb taint".
set -uo pipefail

[ $# -ge 2 ] || { echo "usage: notify.sh PLACE COMMAND [ARGUMENT...]" >&2; exit 2; }
place=$1
shift

exec 9>>"$place.lock"
flock 9 # one script at a time; the child that runs COMMAND holds the lock, too

if [ ! -e "$place" ]; then
  newest=$(bmhctl history --last 1 --fields id -o csv | tail -n +2) || exit
  echo "${newest:-0}" >"$place.new" && mv "$place.new" "$place" || exit
fi

deliver() { # EVENT COMMAND [ARGUMENT...]
  local event=$1 id
  shift
  id=${event#*'"id":"'}
  id=${id%%\"*}
  trap '' INT TERM HUP # a signal that ends the script does not end the command
  "$@" <<<"$event" 9>&- || exit
  echo "$id" >"$place.new" && sync "$place.new" && mv "$place.new" "$place"
}

# The loop runs in this shell and reads from descriptor 3: when it is killed, bmhctl finds its pipe closed, and ends.
# shellcheck disable=SC2086 # NOTIFY_OPTIONS are several words
exec 3< <(exec 9>&-; exec bmhctl history --follow --since-id "$(<"$place")" -o cloudevents ${NOTIFY_OPTIONS:-})
follower=$!
while IFS= read -r event <&3; do
  (deliver "$event" "$@") 3<&- || { status=$?; echo "notify.sh: the command failed with status $status: $event" >&2; exit "$status"; }
done
wait "$follower"
