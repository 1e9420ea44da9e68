import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import type { WorkerCount } from '../src/config/config.ts';
import { splitNodeOptions } from '../src/config/parse.ts';
import { type Limits, resolveLimits } from '../src/resources/cgroup.ts';
import { type HeapChoice, takeHeapChoice } from '../src/resources/node-options.ts';
import { detect, hopelessMemory, size, workableWorkers } from '../src/resources/sizing.ts';
import { temporaryFolder } from './process/operator.ts';

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

  test('all workers and the primary together stay below the limit', () => {
    for (const memoryMib of [256, 384, 512, 1024, 4096, 16384]) {
      const { workers, memory } = of({ quota: 8, memoryMib });
      const perWorker = (memory.heapPerWorkerMb ?? Number.NaN) + 24;
      assert.ok(workers * perWorker + 64 < memoryMib * 0.92, `${memoryMib} MiB: ${workers} × ${perWorker}`);
    }
  });

  test('auto leaves memory for one more worker during a replacement', () => {
    for (const memoryMib of [256, 384, 480, 512, 1024, 4096, 16384]) {
      const { workers, memory } = of({ quota: 8, memoryMib });
      // Of each worker's share three quarters are its heap, with the young generation.
      const perWorker = ((memory.heapPerWorkerMb ?? Number.NaN) + 24) / 0.75;
      assert.ok(workers * perWorker + 64 + 48 <= memoryMib * 0.92, `${memoryMib} MiB: ${workers} × ${perWorker}`);
      assert.ok((memory.heapPerWorkerMb ?? 0) >= 64);
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
    'a heap of 300 MiB for each of 2 workers (WORKER_NODE_OPTIONS) is too large for 512 MiB (/memory.max), which leaves 128 MiB: lower it, or raise the memory limit to 1061 MiB',
  ]);
  assert.deepEqual(warnings(1061, { sizeMb: 300, place: 'workers' }), [], 'with the limit that the warning names');
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

test('a share of the workers is lowered for memory, too', () => {
  assert.equal(of({ quota: 8, memoryMib: 256 }, { kind: 'share', share: 0.5 }).workers, 1);
});

test('the heap of each worker is its share of 92 % of the memory, less the primary, a worker that starts, and what is not heap', () => {
  const heap = (given: Case, requested?: WorkerCount, choice?: HeapChoice) => of(given, requested, choice).memory.heapPerWorkerMb;
  assert.deepEqual([heap({ quota: 2, memoryMib: 512 }), heap({ quota: 4, memoryMib: 4096 })], [110, 661]);
  assert.equal(heap({ quota: 4, memoryMib: 4096, highMib: 1024 }), 131, 'memory.high is the smaller one');
  assert.equal(heap({ quota: 4, memoryMib: 1024, highMib: 4096 }), 131, 'memory.max is the smaller one');
  const three: WorkerCount = { kind: 'count', count: 3 };
  assert.deepEqual(
    [heap({ memoryMib: 400 }, three), heap({ memoryMib: 256 }, three)],
    [52, 32],
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
  assert.deepEqual(below.workerCommandLine, ['--b', '--c', '--max-old-space-size=1347']);
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
