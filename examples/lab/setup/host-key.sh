#!/bin/sh
# A setup step that records the ssh key of a host that was just installed. bmhctl export -o known-hosts writes the recorded
# keys. In the policy:
#
#   [setup.host-key]
#   command = ["lab/setup/host-key.sh", "{address}"]
#   properties = ["ssh_host_key"]
set -eu

key=$(ssh-keyscan -T 5 -t ed25519 "$1" 2>/dev/null | sed -n 's/^[^# ][^ ]* //p' | head -n 1)
if [ -z "$key" ]; then
    echo "$1 shows no ed25519 key"
    exit 1
fi
echo "BMH_PROPERTY ssh_host_key=$key"
