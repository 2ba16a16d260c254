#!/bin/sh
# A Jenkins stage whose steps share one reservation. This script holds the reservation, instead of bmhctl run.
#
#   stage('Hardware') {
#       agent { label 'lab' }
#       options { timeout(time: 1, unit: 'HOURS') }
#       environment { BMHCTL_INVENTORY = '/srv/lab/lab.toml' }
#       steps { sh 'examples/ci/jenkins-stage.sh ./flash.sh ./smoke-test.sh' }
#   }
# Each argument is a step: a program without arguments. The steps run in their order, and the first that fails ends the
# stage. The lease is not renewed, so it has to be longer than the stage's time-out; it ends when the hosts are given back.
set -eu

reservation='' ended=''

leave() {
    status=$?
    trap '' HUP INT TERM
    if [ "${!:-}" != "$ended" ]; then # a step was started and has not ended
        kill "$!" 2>/dev/null || :
        wait "$!" 2>/dev/null || :
    fi
    eval "$reservation" # a signal may have come before the same line below
    if [ "${BMH_RESERVATION:-}" ]; then
        bmhctl release -q --reason "$BUILD_TAG ended with status $status" || status=$?
    fi
    exit "$status"
}
unset BMH_RESERVATION
trap leave EXIT # not every shell runs it after a signal; hence the next three lines
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# If the same build asks again, for example after a restart of the agent, it gets the same hosts.
reservation=$(
    bmhctl reserve --shell \
        --as jenkins --for "$BUILD_TAG, $STAGE_NAME" --request-id "$BUILD_TAG-$STAGE_NAME" \
        -l "${LAB_SELECTOR:-arch=arm64}" -n "${LAB_COUNT:-1}" --wait "${LAB_WAIT:-30m}" --ttl 90m
)
eval "$reservation"

for step in "$@"; do
    "$step" & # in the background, because a shell runs its traps only after the program in the foreground has ended
    wait "$!"
    ended=$!
done
