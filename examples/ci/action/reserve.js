// The main step of the action: reserve the hosts, and set the variables and outputs that name them.
'use strict';

const { execFileSync } = require('node:child_process');
const { createHash } = require('node:crypto');
const { annotate, bmhctl, input, save } = require('./runner.js');

const lines = (text) => text.split('\n').map((line) => line.trim()).filter(Boolean);
const option = (name, value) => (value ? [`--${name}=${value}`] : []);

// Return the variables that `reserve --shell` exports: let a shell evaluate its output, and read the environment.
function variables(script) {
    const environment = execFileSync('sh', ['-c', 'eval "$1" && exec env -0', 'sh', script], { encoding: 'utf8' });
    const pairs = environment.split('\0').filter((pair) => pair.startsWith('BMH_'));
    return Object.fromEntries(pairs.map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]));
}

async function main() {
    const inventory = input('inventory') || process.env.BMHCTL_INVENTORY || '';
    const owner = input('owner');
    const step = process.env.GITHUB_ACTION ?? ''; // a job that has the action twice gets two reservations
    const request = `${input('request-id')}-${step}`;
    // The post step finds the reservation by this tag, even if this step is killed before it reads the answer.
    const tag = `request=${createHash('sha256').update(request).digest('hex').slice(0, 16)}`;
    save('STATE', { inventory, owner, tag });

    const { status, stdout } = await bmhctl([
        'reserve',
        '--shell',
        ...option('inventory', inventory),
        ...option('as', owner),
        ...option('for', input('purpose')),
        ...option('request-id', request),
        ...option('tag', tag),
        ...option('selector', input('selector')),
        ...option('count', input('count')),
        ...lines(input('want')).flatMap((want) => option('want', want)),
        ...lines(input('param')).flatMap((param) => option('param', param)),
        ...(input('wait') === '0s' ? [] : option('wait', input('wait'))),
        ...option('ttl', input('ttl')),
        '--',
        ...input('hosts').split(/\s+/).filter(Boolean),
    ]);
    if (status !== 0) {
        annotate('error', `no hosts were reserved: bmhctl reserve ended with status ${status}; its message is in the log`);
        process.exitCode = status;
        return;
    }
    const env = variables(stdout);
    save('STATE', { reservation: env.BMH_RESERVATION });
    save('ENV', { ...(inventory && { BMHCTL_INVENTORY: inventory }), BMHCTL_ACTOR: owner, ...env });
    save('OUTPUT', {
        reservation: env.BMH_RESERVATION,
        hosts: env.BMH_HOSTS,
        host: env.BMH_HOST,
        address: env.BMH_ADDRESS ?? '',
    });
    process.stdout.write(`${env.BMH_RESERVATION}: ${env.BMH_HOSTS}\n`);
}

main();
