// Functions of both steps of the action: read inputs, write the runner's files, run bmhctl.
'use strict';

const { spawn } = require('node:child_process');
const { randomUUID } = require('node:crypto');
const { appendFileSync } = require('node:fs');

// Return an input of the action without the spaces around it, or '' if it is not given.
function input(name) {
    return (process.env[`INPUT_${name.toUpperCase()}`] ?? '').trim();
}

// Append values to one of the files that the runner reads when the step has ended: OUTPUT, ENV or STATE.
function save(file, values) {
    for (const [name, value] of Object.entries(values)) {
        const end = `end-${randomUUID()}`; // no value can contain it
        appendFileSync(process.env[`GITHUB_${file}`], `${name}<<${end}\n${value}\n${end}\n`);
    }
}

// Write a line that the runner shows as an annotation of the job: a notice, a warning or an error.
function annotate(kind, text) {
    const escaped = text.replace(/%/g, '%25').replace(/\r/g, '%0D').replace(/\n/g, '%0A');
    process.stdout.write(`::${kind} title=bmhctl::${escaped}\n`);
}

// Run bmhctl and return its status and stdout. Pass signals on to it: the runner sends INT to a job that is cancelled, and
// TERM 7.5 s later. While bmhctl runs, the runner does not interpret its output as workflow commands.
function bmhctl(args) {
    const resume = randomUUID();
    process.stdout.write(`::stop-commands::${resume}\n`);
    return new Promise((resolve) => {
        const child = spawn('bmhctl', args, { stdio: ['ignore', 'pipe', 'inherit'] });
        const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
        const passOn = (signal) => child.kill(signal);
        let stdout = '';
        const end = (status) => {
            signals.forEach((signal) => process.off(signal, passOn));
            process.stdout.write(`::${resume}::\n`);
            resolve({ status, stdout });
        };
        signals.forEach((signal) => process.on(signal, passOn));
        child.stdout.setEncoding('utf8').on('data', (text) => (stdout += text));
        child.on('error', (error) => {
            process.stderr.write(`can't run bmhctl: ${error.message}\n`);
            end(127);
        });
        child.on('close', (status) => end(status ?? 1));
    });
}

module.exports = { annotate, bmhctl, input, save };
