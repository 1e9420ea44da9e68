/**
 * Runs in the virtual machine: goes into one cgroup after the other, and prints what the kit and Node.js say in each, a line of JSON.
 * One process for all of them: there it takes seconds to start.
 */
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { readerBelow, resolveLimits } from '../../../src/resources/cgroup.ts';
import { detect } from '../../../src/resources/sizing.ts';
import { readHeadroom } from '../../../src/resources/usage.ts';

const NO_OPTIONS = { environment: [], commandLine: [], workers: [] };

// NAME=CGROUP; without a cgroup it stays where it is.
for (const argument of process.argv.slice(2)) {
  const [name, cgroup] = argument.split('=');
  if (cgroup) writeFileSync(`/sys/fs/cgroup/${cgroup}/cgroup.procs`, String(process.pid));
  const node = { cpus: availableParallelism(), memory: process.constrainedMemory() };
  const headroom = readHeadroom(readerBelow(), resolveLimits(readerBelow()));
  console.log(JSON.stringify({ name, sizing: detect({ kind: 'auto' }, NO_OPTIONS).sizing, headroom, node }));
}
