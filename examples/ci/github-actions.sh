#!/bin/sh
# A step of GitHub Actions that runs a command on hosts of the lab, on a self-hosted runner that can reach the inventory.
#
#   jobs:
#     hardware:
#       runs-on: [self-hosted, lab]
#       timeout-minutes: 60
#       env:
#         BMHCTL_INVENTORY: /srv/lab/lab.toml
#       steps:
#         - uses: actions/checkout@v4
#         - run: examples/ci/github-actions.sh make hardware-test
# The exit status is that of the command. 124: no host was free in time. 125: bmhctl failed, and says on stderr why.
# A job that is cancelled gets INT, then TERM, then KILL. After INT and TERM the hosts are given back at once, after KILL
# when the lease expires. Each call gets a new reservation, also in the jobs of a matrix and in a job that is run again.
set -eu

exec bmhctl run \
    --as "github/$GITHUB_REPOSITORY" \
    --for "$GITHUB_WORKFLOW, $GITHUB_JOB, run $GITHUB_RUN_ID" \
    -l "${LAB_SELECTOR:-arch=arm64}" -n "${LAB_COUNT:-1}" \
    --wait "${LAB_WAIT:-30m}" --ttl 20m \
    -- "$@"
