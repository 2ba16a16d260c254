#!/bin/sh
# A Jenkins stage whose steps share one reservation: it is held by this script, and not by bmhctl run.
#
#   stage('Hardware') {
#       agent { label 'lab' }
#       options { timeout(time: 1, unit: 'HOURS') }
#       environment { BMHCTL_INVENTORY = '/srv/lab/lab.toml' }
#       steps { sh 'examples/ci/jenkins-stage.sh ./flash.sh ./smoke-test.sh' }
#   }
#
# Each argument is a step: a program with no arguments, in the order given; the first that fails ends the stage.
# The lease is not renewed here: it is longer than the stage's time-out, and what is left of it is given back.
set -eu

reservation='' task=''

leave() {
    status=$?
    trap '' HUP INT TERM
    if [ "$task" ]; then
        kill "$task" 2>/dev/null || :
        wait "$task" 2>/dev/null || :
    fi
    eval "$reservation" # also when the signal came before the line below that does the same
    if [ "${BMH_RESERVATION:-}" ]; then
        bmhctl release -q --reason "$BUILD_TAG ended with status $status" || status=$?
    fi
    exit "$status"
}
unset BMH_RESERVATION
trap leave EXIT # a shell that a signal ends does not come here by itself
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# The same build that asks again, as after a restart of the agent, gets the same hosts.
reservation=$(
    bmhctl reserve --shell \
        --as jenkins --for "$BUILD_TAG, $STAGE_NAME" --request-id "$BUILD_TAG-$STAGE_NAME" \
        -l "${LAB_SELECTOR:-arch=arm64}" -n "${LAB_COUNT:-1}" --wait "${LAB_WAIT:-30m}" --ttl 90m
)
eval "$reservation"

for step in "$@"; do
    "$step" & # in the background: a shell that waits for a program puts off its traps
    task=$!
    wait "$task"
    task=''
done
