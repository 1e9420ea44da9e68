import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import type { WorkerCount } from '../src/config/config.ts';
import { splitNodeOptions } from '../src/config/parse.ts';
import type { Sizing } from '../src/protocol/sizing.ts';
import { type Limits, resolveLimits } from '../src/resources/cgroup.ts';
import { youngGeneration } from '../src/resources/heap.ts';
import { type HeapChoice, takeHeapChoice } from '../src/resources/node-options.ts';
import { detect, hopelessMemory, size, workableWorkers } from '../src/resources/sizing.ts';
import { temporaryFolder } from './process/operator.ts';
import { seededRandom } from './random.ts';

const MIB = 2 ** 20;
const MACHINE = { cpus: 8, totalMemoryBytes: 64 * 1024 * MIB };
const NOTHING: Limits = resolveLimits(() => undefined);

interface Case {
  quota?: number;
  cpuset?: number;
  memoryMib?: number;
  highMib?: number;
}

function limits({ quota, cpuset, memoryMib, highMib }: Case): Limits {
  const bound = (value: number | undefined, file: string) => (value === undefined ? null : { value, file });
  return {
    ...NOTHING,
    quota: bound(quota, '/cpu.max'),
    cpuset: bound(cpuset, '/cpuset'),
    memory: bound(memoryMib === undefined ? undefined : memoryMib * MIB, '/memory.max'),
    memoryHigh: bound(highMib === undefined ? undefined : highMib * MIB, '/memory.high'),
  };
}

const AUTO: WorkerCount = { kind: 'auto' };
/** The primary, and for each worker three quarters of its memory for both generations: three semi-spaces are the young one. */
const reserved = (workers: number, { heapPerWorkerMb, semiSpaceMb }: Sizing['memory']) =>
  64 + (workers * ((heapPerWorkerMb ?? Number.NaN) + 3 * (semiSpaceMb ?? Number.NaN))) / 0.75;
const of = (given: Case, requested: WorkerCount = AUTO, choice?: HeapChoice) => size(limits(given), requested, MACHINE, choice);

describe('the number of workers', () => {
  for (const [quota, auto, max] of [
    [0.1, 1, 1],
    [0.5, 1, 1],
    [1, 1, 1],
    [1.25, 1, 2],
    [1.5, 2, 2],
    [2, 2, 2],
    [2.4, 2, 3],
    [2.9, 3, 3],
    [16, 8, 8],
  ] as const) {
    test(`a quota of ${quota} on 8 CPUs: auto ${auto}, max ${max}`, () => {
      assert.equal(of({ quota, cpuset: 8 }).workers, auto);
      assert.equal(of({ quota, cpuset: 8 }, { kind: 'max' }).workers, max);
    });
  }

  test('a percentage of workers is taken of the effective CPUs, rounded half up, at least 1', () => {
    assert.equal(of({ quota: 4 }, { kind: 'share', share: 0.5 }).workers, 2);
    assert.equal(of({ quota: 3 }, { kind: 'share', share: 0.5 }).workers, 2);
    assert.equal(of({ quota: 1 }, { kind: 'share', share: 0.1 }).workers, 1);
  });

  test('a number of workers is used unchanged, with a warning above the CPUs', () => {
    const sizing = of({ quota: 2 }, { kind: 'count', count: 5 });
    assert.equal(sizing.workers, 5);
    assert.match(sizing.warnings.join(), /5 workers on 2 CPUs/);
    assert.deepEqual(of({ quota: 2 }, { kind: 'count', count: 2 }).warnings, []);
  });

  test("without any cgroup file the machine's CPUs and memory decide", () => {
    const { workers, cpus } = of({});
    assert.equal(workers, 8);
    assert.deepEqual(cpus, { quota: null, cpuset: null, effective: 8, source: 'os.availableParallelism()' });
  });
});

describe('memory', () => {
  test('auto is lowered for memory until each worker has a workable heap, and the reason shows it', () => {
    const sizing = of({ quota: 4, memoryMib: 256 });
    assert.deepEqual([sizing.wanted, sizing.workers], [4, 1]);
    assert.match(sizing.reason, /lowered from 4 for memory: 256 MiB \(\/memory\.max\)/);
    assert.ok((sizing.memory.heapPerWorkerMb ?? 0) >= 64);
  });

  test('max and a number of workers are never lowered for memory, but cause a warning', () => {
    for (const requested of [{ kind: 'max' }, { kind: 'count', count: 4 }] as const) {
      const sizing = of({ quota: 4, memoryMib: 256 }, requested);
      assert.equal(sizing.workers, 4);
      assert.match(sizing.warnings.join(), /below the workable 64 MiB/);
    }
  });

  test('auto leaves memory for one more worker during a replacement', () => {
    for (let memoryMib = 256; memoryMib < 40_000; memoryMib += 1 + (memoryMib >> 4)) {
      const { workers, memory } = of({ quota: 8, memoryMib });
      assert.ok(reserved(workers, memory) + 48 <= memoryMib * 0.92, `${memoryMib} MiB: ${workers} × ${JSON.stringify(memory)}`);
      assert.ok((memory.heapPerWorkerMb ?? 0) >= 64 && (memory.semiSpaceMb ?? 0) >= 8);
    }
  });

  test('if more workers run than fit, a workable heap comes before memory for one more', () => {
    assert.equal(of({ quota: 2, memoryMib: 480 }, { kind: 'count', count: 3 }).memory.heapPerWorkerMb, 64);
  });

  test('a memory limit in which no worker can run is refused, unless the heap is set', () => {
    const said = (given: Case, choice?: HeapChoice) => hopelessMemory(limits(given), MACHINE, choice);
    assert.match(
      said({ memoryMib: 64 }) ?? '',
      /^the memory limit must be at least 96 MiB, and 198 MiB for a workable heap, got 64 MiB \(\/memory\.max\): .*WORKER_NODE_OPTIONS/,
    );
    assert.match(said({ memoryMib: 95 }) ?? '', /got 95 MiB/);
    assert.match(said({ memoryMib: 512, highMib: 64 }) ?? '', /got 64 MiB \(\/memory\.high\)/);
    for (const given of [{ memoryMib: 96 }, { memoryMib: 0 }, {}]) assert.equal(said(given), undefined);
    assert.equal(said({ memoryMib: 64 }, { sizeMb: 24, place: 'workers' }), undefined);
  });

  test('memory.high sizes the heap if it is smaller than memory.max', () => {
    const { memory, workers } = of({ quota: 4, memoryMib: 4096, highMib: 256 });
    assert.equal(workers, 1);
    assert.equal(memory.limitBytes, 4096 * MIB, 'the limit that is shown stays the limit');
  });

  test("without a memory limit, or with one of 0 or above the machine's memory, V8's default heap stays", () => {
    for (const given of [{}, { memoryMib: 0 }, { memoryMib: 1024 * 1024 }])
      assert.equal(of({ quota: 2, ...given }).memory.heapPerWorkerMb, null);
  });

  test('a heap that the user has set wins, and the reason shows it', () => {
    const bySize = of({ quota: 2, memoryMib: 1024 }, AUTO, { sizeMb: 300, place: 'environment' });
    assert.equal(bySize.memory.heapPerWorkerMb, 300);
    assert.match(bySize.reason, /heap as set in NODE_OPTIONS$/);
    assert.match(of({}, AUTO, { sizeMb: 300, place: 'workers' }).reason, /heap as set in WORKER_NODE_OPTIONS$/);
    assert.equal(of({ quota: 2, memoryMib: 1000 }, AUTO, { percent: 60 }).memory.heapPerWorkerMb, 300, 'a percentage is shared');
  });
});

test('the reason names the rule, the CPUs and the file that decided', () => {
  const reason = (given: Case, requested?: WorkerCount) => of(given, requested).reason;
  assert.equal(reason({ quota: 2.5, cpuset: 4 }), '3 workers: 2.5 CPUs, rounded half up (/cpu.max)');
  assert.equal(reason({ quota: 4, cpuset: 4 }), '4 workers: 4 CPUs, rounded half up (/cpu.max)', 'of equal limits the quota');
  assert.equal(reason({ quota: 4.5, cpuset: 4 }), '4 workers: 4 CPUs, rounded half up (/cpuset)');
  assert.equal(reason({ quota: 0.33333 }), '1 worker: 0.333 CPUs, rounded half up (/cpu.max)');
  assert.equal(reason({ quota: 1.25 }, { kind: 'max' }), '2 workers: 1.25 CPUs, rounded up (/cpu.max)');
  assert.equal(reason({ cpuset: 3 }, { kind: 'share', share: 0.5 }), '2 workers: 50% of 3 CPUs, rounded half up (/cpuset)');
  assert.equal(reason({ quota: 1 }, { kind: 'count', count: 5 }), '5 workers: as set; 1 CPU (/cpu.max)');
  const lowered = 'lowered from 4 for memory: 256 MiB (/memory.max) has room for no more heaps of 64 MiB';
  assert.equal(reason({ quota: 4, memoryMib: 256 }), `1 worker: 4 CPUs, rounded half up (/cpu.max); ${lowered}`);
  assert.deepEqual(of({ quota: 1, memoryMib: 256 }, { kind: 'count', count: 4 }).warnings, [
    '4 workers on 1 CPU: they compete for CPU time',
    'a heap of 32 MiB per worker is below the workable 64 MiB: raise the memory limit or lower NODE_CLUSTER_WORKERS',
  ]);
});

test('heaps that the user has set are reported if the memory limit is too low for them', () => {
  const two: WorkerCount = { kind: 'count', count: 2 };
  const warnings = (memoryMib: number, choice: HeapChoice) => of({ quota: 2, memoryMib }, two, choice).warnings;
  assert.deepEqual(warnings(512, { sizeMb: 300, place: 'workers' }), [
    'a heap of 300 MiB for each of 2 workers (WORKER_NODE_OPTIONS) is too large for 512 MiB (/memory.max), which leaves 128 MiB: lower it, or raise the memory limit to 1270 MiB',
  ]);
  assert.deepEqual(warnings(1270, { sizeMb: 300, place: 'workers' }), [], 'with the limit that the warning names');
  assert.deepEqual(warnings(512, { sizeMb: 128, place: 'environment' }), []);
  assert.match(warnings(512, { sizeMb: 153, isWhole: true, place: 'commandLine' }).join(), /\(command line\).* leaves 152 MiB/);
  assert.deepEqual(warnings(512, { sizeMb: 152, isWhole: true, place: 'commandLine' }), [], 'the young generation is part of it');
  assert.match(
    warnings(512, { percent: 75, place: 'environment' }).join(),
    /^a heap of 192 MiB .* leaves 128 MiB: lower it, or unset it: the kit then decides$/,
  );
  assert.deepEqual(of({ quota: 2 }, two, { sizeMb: 300, place: 'workers' }).warnings, [], 'without a limit');
  assert.deepEqual(of({ quota: 2, memoryMib: 512 }, two).warnings, [], "the kit's own heaps");
});

describe('the young generation', () => {
  const semiSpace = (given: Case, requested?: WorkerCount, choice?: HeapChoice) =>
    of(given, requested, choice).memory.semiSpaceMb;

  test('a semi-space is the largest power of two up to 32 MiB that is at most an eighth of the heap', () => {
    for (const [quota, memoryMib, heapMb, semiSpaceMb] of [
      [1, 256, 68, 8],
      [1, 512, 221, 16],
      [2, 512, 110, 8],
      [1, 1024, 526, 32],
      [2, 1024, 263, 16],
      [2, 2048, 568, 32],
      [4, 4096, 589, 32],
    ] as const)
      assert.partialDeepStrictEqual(
        of({ quota, memoryMib }).memory,
        { heapPerWorkerMb: heapMb, semiSpaceMb },
        `${memoryMib} MiB`,
      );
  });

  test('V8 reserves it as the kit counts it: three semi-spaces on top of the old generation, each rounded up to a power of two', () => {
    for (const [given, mib] of [
      [2, 2],
      [6, 8],
      [32, 32],
    ] as const) {
      const options = ['--max-old-space-size=100', `--max-semi-space-size=${given}`];
      const limit = execFileSync(process.execPath, [...options, '-p', 'v8.getHeapStatistics().heap_size_limit']);
      assert.equal(Number(limit) / MIB, 100 + youngGeneration(mib), `${given} MiB`);
    }
  });

  test('it is smaller for more workers than fit, and 2 MiB at least', () => {
    assert.equal(semiSpace({ memoryMib: 400 }, { kind: 'count', count: 3 }), 4);
    assert.equal(semiSpace({ memoryMib: 256 }, { kind: 'count', count: 4 }), 2);
  });

  test('it is left to V8 without a memory limit, and where --max-heap-size divides the heap', () => {
    assert.equal(semiSpace({ quota: 2 }), null);
    assert.equal(semiSpace({ quota: 2 }, AUTO, { sizeMb: 300, place: 'workers' }), null);
    assert.equal(semiSpace({ memoryMib: 512 }, AUTO, { sizeMb: 150, isWhole: true, place: 'workers' }), null);
  });

  test('it follows a heap that the user has set, as far as it fits beside it', () => {
    const one: WorkerCount = { kind: 'count', count: 1 };
    const beside = (sizeMb: number) => semiSpace({ memoryMib: 512 }, one, { sizeMb, place: 'environment' });
    assert.deepEqual([beside(64), beside(127), beside(128), beside(256), beside(290), beside(400)], [8, 8, 16, 16, 4, 2]);
    assert.equal(semiSpace({ memoryMib: 1000 }, one, { percent: 50, place: 'environment' }), 32);
  });

  test('one that the user has set wins, counts in the heap and in the number of workers, and the reason shows it', () => {
    const choice: HeapChoice = { semiSpaceMb: 32, semiSpacePlace: 'workers' };
    const sizing = of({ quota: 2, memoryMib: 512 }, AUTO, choice);
    assert.deepEqual([sizing.workers, sizing.memory.heapPerWorkerMb, sizing.memory.semiSpaceMb], [1, 173, 32]);
    assert.match(sizing.reason, /; young generation as set in WORKER_NODE_OPTIONS$/);
    assert.deepEqual(sizing.warnings, []);
    assert.equal(semiSpace({}, AUTO, choice), 32);
    assert.equal(semiSpace({ memoryMib: 512 }, AUTO, { ...choice, sizeMb: 99, isWhole: true, place: 'workers' }), 32);
  });

  test('one that the user has set and that does not fit is reported', () => {
    const { warnings } = of({ quota: 1, memoryMib: 256 }, AUTO, { semiSpaceMb: 64, semiSpacePlace: 'environment' });
    assert.deepEqual(warnings, [
      'a heap of 32 MiB per worker is below the workable 64 MiB: raise the memory limit or lower NODE_CLUSTER_WORKERS',
      'a young generation of 192 MiB (--max-semi-space-size) for each of 1 worker (NODE_OPTIONS) is too large for 256 MiB (/memory.max): lower it, or unset it: the kit then decides',
    ]);
  });

  test('what is reserved fits the memory limit, or a warning says that it does not, whatever is set', () => {
    const random = seededRandom(24);
    const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;
    let fitting = 0;
    for (let run = 0; run < 5000; run++) {
      const memoryMib = Math.floor(96 * 2 ** (random() * 9));
      const requested: WorkerCount = pick<WorkerCount>([
        AUTO,
        { kind: 'max' },
        { kind: 'share', share: 0.5 },
        { kind: 'count', count: 1 + Math.floor(random() * 40) },
      ]);
      const heap = pick<HeapChoice>([{}, {}, { sizeMb: Math.ceil(random() * memoryMib) }, { percent: random() * 100 }]);
      const choice: HeapChoice = {
        ...heap,
        ...(Object.keys(heap).length > 0 && { place: 'workers' }),
        ...(random() < 0.3 && { semiSpaceMb: 2 ** Math.floor(random() * 7), semiSpacePlace: 'environment' }),
      };
      const sizing = of({ quota: random() * 64, memoryMib }, requested, choice);
      const words: string = JSON.stringify({ memoryMib, requested, choice, sizing });
      const { semiSpaceMb } = sizing.memory;
      assert.ok(semiSpaceMb !== null && semiSpaceMb >= 1 && Number.isInteger(Math.log2(semiSpaceMb)), words);
      if (sizing.warnings.some(warning => /too large|below the workable/.test(warning))) continue;
      fitting++;
      assert.ok(reserved(sizing.workers, sizing.memory) <= memoryMib * 0.92 + 0.001, words);
    }
    assert.ok(fitting > 1000, `${fitting} cases without a warning`);
  });
});

test('a share of the workers is lowered for memory, too', () => {
  assert.equal(of({ quota: 8, memoryMib: 256 }, { kind: 'share', share: 0.5 }).workers, 1);
});

test('the heap of each worker is its share of 92 % of the memory, less the primary, a worker that starts, and what is not heap', () => {
  const heap = (given: Case, requested?: WorkerCount, choice?: HeapChoice) => of(given, requested, choice).memory.heapPerWorkerMb;
  assert.deepEqual([heap({ quota: 2, memoryMib: 512 }), heap({ quota: 4, memoryMib: 4096 })], [110, 589]);
  assert.equal(heap({ quota: 4, memoryMib: 4096, highMib: 1024 }), 131, 'memory.high is the smaller one');
  assert.equal(heap({ quota: 4, memoryMib: 1024, highMib: 4096 }), 131, 'memory.max is the smaller one');
  const three: WorkerCount = { kind: 'count', count: 3 };
  assert.deepEqual(
    [heap({ memoryMib: 400 }, three), heap({ memoryMib: 256 }, three)],
    [64, 36],
    'without the reserve, 32 at least',
  );
  assert.equal(heap({ quota: 2, memoryMib: 1000 }, AUTO, { percent: 1 }), 32);
  assert.equal(heap({ quota: 2 }, AUTO, { percent: 50 }), null, 'a percentage of no limit');
  assert.equal(heap({ quota: 2 }, AUTO, { sizeMb: 20 }), 20);
  assert.equal(of({ quota: 2, memoryMib: 1000 }, AUTO, { percent: 10 }).workers, 1, 'the chosen heap counts for auto');
});

test('the number of workers that memory allows comes with the limit in words', () => {
  const workable = (given: Case) => workableWorkers(limits(given), MACHINE);
  assert.deepEqual(workable({ memoryMib: 1024 }), { count: 7, memory: '1024 MiB (/memory.max)' });
  assert.deepEqual(workable({ memoryMib: 64 }), { count: 1, memory: '64 MiB (/memory.max)' });
  assert.deepEqual(workable({}), { count: 513, memory: "65536 MiB (the machine's memory)" });
});

test('a copied /proc and /sys are sized with the memory of their machine, and workers get heap options on their command line', () => {
  const root = temporaryFolder();
  const files = {
    '/proc/self/cgroup': '0::/\n',
    '/proc/self/mountinfo': '1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n',
    '/proc/meminfo': 'MemTotal:        2097152 kB\n',
    '/sys/fs/cgroup/cpu.max': '200000 100000\n',
    '/sys/fs/cgroup/memory.max': '4294967296\n',
  };
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  const options = { environment: ['--a'], commandLine: ['--b'], workers: ['--c'] };
  const above = detect(AUTO, options, root);
  assert.equal(above.sizing.memory.heapPerWorkerMb, null, 'the limit is above the 2 GiB of the machine');
  assert.deepEqual([above.sizing.workers, above.nodeOptions, above.workerCommandLine], [2, '--a', ['--b', '--c']]);
  assert.equal(above.workable.memory, "2048 MiB (the machine's memory)");
  writeFileSync(join(root, '/proc/meminfo'), 'unknown');
  const below = detect(AUTO, options, root);
  assert.deepEqual(below.workerCommandLine, ['--b', '--c', '--max-old-space-size=1275', '--max-semi-space-size=32']);
  const whole = detect(AUTO, { ...options, workers: ['--max-heap-size=100'] }, root);
  assert.deepEqual(whole.workerCommandLine, ['--b', '--max-heap-size=100']);
});

describe('NODE_OPTIONS', () => {
  for (const [given, choice, rest] of [
    ['', {}, ''],
    ['--enable-source-maps', {}, '--enable-source-maps'],
    ['--max-old-space-size=200', { sizeMb: 200, place: 'environment' }, ''],
    ['--a --max_old_space_size=200 --b', { sizeMb: 200, place: 'environment' }, '--a --b'],
    ['--max-old-space-size-percentage=60', { percent: 60, place: 'environment' }, ''],
    ['--max_old-space_size_percentage=12.5 --c', { percent: 12.5, place: 'environment' }, '--c'],
    ['--max-old-space-size=100 --max-old-space-size=200', { sizeMb: 200, place: 'environment' }, ''],
    ['--max-old-space-sizes=1', {}, '--max-old-space-sizes=1'],
  ] as const) {
    test(`${given || '(empty)'} → ${JSON.stringify(choice)}, rest ${rest || '(empty)'}`, () => {
      const options = { environment: splitNodeOptions(given), commandLine: [], workers: [] };
      assert.deepEqual(takeHeapChoice(options), { choice, environment: rest, commandLine: [] });
    });
  }
});
