#!/bin/sh
# A setup step that records a host's ssh key while the host is fresh from its installation; bmhctl export -o known-hosts
# writes it. In the policy:
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
