// Prints what a full resolve and one poll of the limit files cost on this machine. Targets: resolve < 2 ms, poll < 100 µs.
// Run: node test/bench/resolve.ts

import { performance } from 'node:perf_hooks';
import { readerBelow, resolveLimits } from '../../src/resources/cgroup.ts';
import { Poll } from '../../src/resources/follow.ts';
import { readUsage } from '../../src/resources/usage.ts';

const ROUNDS = 2_000;
const read = readerBelow();

const cold = measure(1, () => resolveLimits(read));
const limits = resolveLimits(read);
using poll = new Poll(limits.files);

print('first resolve', cold);
print(
  'resolve',
  measure(ROUNDS, () => resolveLimits(read)),
);
print(
  `poll of ${limits.files.length} files`,
  measure(ROUNDS, () => poll.changed()),
);
print(
  'the same, opening the files',
  measure(ROUNDS, () => limits.files.map(read)),
);
print(
  'usage',
  measure(ROUNDS, () => readUsage(read, limits.usage)),
);

function measure(rounds: number, task: () => unknown): number[] {
  const microseconds = [];
  for (let round = 0; round < rounds; round += 1) {
    const began = performance.now();
    task();
    microseconds.push((performance.now() - began) * 1_000);
  }
  return microseconds.sort((a, b) => a - b);
}

function print(what: string, sorted: number[]): void {
  const [min, median, max] = [sorted[0], sorted[sorted.length >> 1], sorted.at(-1)];
  console.log(`${what.padEnd(28)} min ${min?.toFixed(1)}  median ${median?.toFixed(1)}  max ${max?.toFixed(1)} µs`);
}
