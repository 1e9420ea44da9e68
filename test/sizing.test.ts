import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { WorkerCount } from '../src/config/config.ts';
import { splitNodeOptions } from '../src/config/parse.ts';
import { type Limits, resolveLimits } from '../src/resources/cgroup.ts';
import { type HeapChoice, takeHeapChoice } from '../src/resources/node-options.ts';
import { size } from '../src/resources/sizing.ts';

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
      assert.match(sizing.warnings.join(), /less than a workable 64 MiB/);
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
    const bySize = of({ quota: 2, memoryMib: 1024 }, AUTO, { sizeMb: 300 });
    assert.equal(bySize.memory.heapPerWorkerMb, 300);
    assert.match(bySize.reason, /heap as set in NODE_OPTIONS/);
    assert.equal(of({ quota: 2, memoryMib: 1000 }, AUTO, { percent: 60 }).memory.heapPerWorkerMb, 300, 'a percentage is shared');
  });
});

describe('NODE_OPTIONS', () => {
  for (const [given, choice, rest] of [
    ['', {}, ''],
    ['--enable-source-maps', {}, '--enable-source-maps'],
    ['--max-old-space-size=200', { sizeMb: 200 }, ''],
    ['--a --max_old_space_size=200 --b', { sizeMb: 200 }, '--a --b'],
    ['--max-old-space-size-percentage=60', { percent: 60 }, ''],
    ['--max_old-space_size_percentage=12.5 --c', { percent: 12.5 }, '--c'],
    ['--max-old-space-size=100 --max-old-space-size=200', { sizeMb: 200 }, ''],
    ['--max-old-space-sizes=1', {}, '--max-old-space-sizes=1'],
  ] as const) {
    test(`${given || '(empty)'} → ${JSON.stringify(choice)}, rest ${rest || '(empty)'}`, () => {
      const options = { environment: splitNodeOptions(given), commandLine: [], workers: [] };
      assert.deepEqual(takeHeapChoice(options), { choice, environment: rest, commandLine: [] });
    });
  }
});
