#!/bin/sh
# Check whether the host answers. This example only pretends: hosts listed in lab/broken do not answer. A real check would
# ping the host, or log in. The check passes with exit status 0. bmhctl shows the last lines of the output, and keeps them
# in the history.

address=$1

if grep -qsx "$BMH_HOST" "${0%/*}/../broken"; then
    echo "no answer from $address"
    exit 1
fi
echo "$address answers"
