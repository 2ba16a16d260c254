#!/bin/sh
# A step of GitHub Actions that runs a command on hosts of the lab, on a self-hosted runner beside the inventory.
#
#   jobs:
#     hardware:
#       runs-on: [self-hosted, lab]
#       timeout-minutes: 60
#       env:
#         BMHCTL_INVENTORY: /srv/lab/lab.toml
#         LAB_INDEX: ${{ strategy.job-index }}     # for a matrix: each of its jobs has hosts of its own
#       steps:
#         - uses: actions/checkout@v4
#         - run: examples/ci/github-actions.sh make hardware-test
#
# The status is the command's own; 124: no host was free in time, 125: bmhctl says on stderr what is wrong.
# A job that is cancelled gets INT, then TERM, then KILL: the hosts are given back in each case, after KILL when the
# lease expires. A job that is run again has a new attempt, and so a reservation of its own.
set -eu

exec bmhctl run \
    --as "github/$GITHUB_REPOSITORY" \
    --for "$GITHUB_WORKFLOW, $GITHUB_JOB, run $GITHUB_RUN_ID" \
    --request-id "$GITHUB_RUN_ID-$GITHUB_RUN_ATTEMPT-$GITHUB_JOB-${LAB_INDEX:-0}-$GITHUB_ACTION" \
    -l "${LAB_SELECTOR:-arch=arm64}" -n "${LAB_COUNT:-1}" \
    --wait "${LAB_WAIT:-30m}" --ttl 20m \
    -- "$@"
