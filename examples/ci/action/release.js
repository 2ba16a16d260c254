// The post step of the action: give the hosts back, whether the job succeeded, failed or was cancelled.
'use strict';

const { annotate, bmhctl } = require('./runner.js');

const ENDED = [3, 8]; // the exit statuses of bmhctl release when the reservation does not exist, or is not valid any more

async function main() {
    const { STATE_inventory: inventory, STATE_owner: owner, STATE_tag: tag, STATE_reservation: reservation } = process.env;
    if (!tag) {
        return; // the main step did not begin
    }
    const { GITHUB_RUN_ID: run, GITHUB_RUN_ATTEMPT: attempt, GITHUB_JOB: job } = process.env;
    delete process.env.BMH_RESERVATION; // a step may have set another one
    const { status, stdout } = await bmhctl([
        'release',
        '--yes',
        ...(inventory ? [`--inventory=${inventory}`] : []),
        `--as=${owner}`,
        `--reason=job ${job} of run ${run}, attempt ${attempt}, ended`,
        ...(reservation ? ['--reservation', reservation] : ['--quiet', '--selector', tag]),
    ]);
    process.stdout.write(stdout);
    if (ENDED.includes(status)) {
        annotate('warning', `the reservation ${reservation ?? ''} had ended before the job did; the log says why`);
    } else if (status !== 0) {
        annotate('error', `the hosts were not given back: bmhctl release ended with status ${status}`);
        process.exitCode = status;
    }
}

main();
