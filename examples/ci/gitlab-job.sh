#!/bin/sh
# A GitLab job that runs a command on hosts of the lab, on a shell runner that can reach the inventory.
#
#   hardware-test:
#     tags: [lab]
#     variables:
#       BMHCTL_INVENTORY: /srv/lab/lab.toml
#       KEEP_ON_FAIL: 2h             # leave the hosts reserved for debugging after a failure
#     script:
#       - examples/ci/gitlab-job.sh make hardware-test
#     retry:
#       max: 2
#       exit_codes: [124]            # no host was free in time; each retry waits at the end of the queue again
#
# To wait longer, rather set LAB_WAIT: that keeps the place in the queue. 124 is also the status of timeout(1): if the
# command uses it, and must not be repeated, let it end with another status.
# If the hosts stay reserved after a failure, the job's log says how to give them back. Each call gets a new reservation.
set -eu

exec bmhctl run \
    --as "gitlab/$CI_PROJECT_PATH" \
    --for "$CI_JOB_NAME, $CI_JOB_URL" \
    -l "${LAB_SELECTOR:-arch=arm64}" -n "${LAB_COUNT:-1}" \
    --wait "${LAB_WAIT:-30m}" --ttl 20m \
    ${KEEP_ON_FAIL:+--keep-on-fail "$KEEP_ON_FAIL"} \
    -- "$@"
