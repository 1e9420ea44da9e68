/**
 * What a full resolve of the limits and one poll of their files cost on this machine. Targets: resolve < 2 ms, poll < 100 µs.
 */
import { readerBelow, resolveLimits } from '../../src/resources/cgroup.ts';
import { Poll } from '../../src/resources/follow.ts';
import { readUsage } from '../../src/resources/usage.ts';
import { compare } from './machine.ts';
import { type Benchmark, report } from './report.ts';

/** Of one measurement: long enough to see what else the machine does meanwhile. */
const MEASURED_MS = 200;

function measure(task: () => unknown): { microseconds: number } {
  const [began, before] = [performance.now(), process.cpuUsage()];
  let count = 0;
  do {
    for (let times = 0; times < 10; times++) task();
    count += 10;
  } while (performance.now() - began < MEASURED_MS);
  const { user, system } = process.cpuUsage(before);
  return { microseconds: (user + system) / count };
}

export const resolve: Benchmark = async settings => {
  const read = readerBelow();
  const limits = resolveLimits(read);
  using poll = new Poll(limits.files);
  const tasks = {
    resolve: () => resolveLimits(read),
    [`poll of ${limits.files.length} files`]: () => poll.changed(),
    'the same, opening the files': () => limits.files.map(read),
    usage: () => readUsage(read, limits.usage),
  };
  return [
    await compare({
      name: 'sizing',
      title: 'reading limits and usage',
      subjects: Object.keys(tasks),
      baseline: 'resolve',
      figures: { microseconds: { unit: 'µs', kind: 'cpu', digits: 1 } },
      rounds: settings.rounds(9),
      measure: async name => measure(tasks[name] ?? (() => {})),
    }),
  ];
};

if (import.meta.main) await report([resolve]);
