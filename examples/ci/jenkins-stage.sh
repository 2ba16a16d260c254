#!/bin/sh
# A Jenkins stage whose steps share one reservation.
#
#   stage('Hardware') {
#       agent { label 'lab' }
#       options { timeout(time: 1, unit: 'HOURS') }
#       environment { BMHCTL_INVENTORY = '/srv/lab/lab.toml' }
#       steps { sh 'examples/ci/jenkins-stage.sh ./flash.sh ./smoke-test.sh' }
#   }
# Each argument is a step: a program without arguments. The steps run in their order, and the first that fails ends the
# stage with its status. 124: no host was free in time. 125: bmhctl failed, and says on stderr why. When the build is
# aborted, all processes of the steps are ended, and the hosts are given back.
set -eu

exec bmhctl run \
    --as jenkins --for "$BUILD_TAG, $STAGE_NAME" \
    -l "${LAB_SELECTOR:-arch=arm64}" -n "${LAB_COUNT:-1}" \
    --wait "${LAB_WAIT:-30m}" --ttl 20m \
    -- sh -c 'for step; do "$step" || exit; done' sh "$@"
