/**
 * A second of a pod from known looks: rates, shares and means by hand.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { shown } from '../src/admin/history.ts';
import { type SampledPod, type SampledWorker, Sampler } from '../src/admin/sampler.ts';
import { Thinned } from '../src/admin/thinning.ts';
import { Totals } from '../src/admin/totals.ts';
import type { Peer, Sample } from '../src/protocol/api.ts';
import { exitOf, snapshotOf } from './exited.ts';

const MIB = 2 ** 20;
const OWN = { user: 0, system: 0 };

type Snapshot = NonNullable<SampledWorker['snapshot']>;

const snapshot = (requests: number, more: Partial<Snapshot> = {}): Snapshot => ({
  requests,
  eventLoopUtilization: 0.25,
  cpuSeconds: { user: 0, system: 0 },
  http: [],
  responseTimeMs: { p50: 1, p99: 10 },
  ...more,
});

const worker = (id: number): SampledWorker => ({ id, startedAt: 0, reportedAt: 0, snapshot: undefined });

/** It reports at `reportedAt`. */
function reports(handle: SampledWorker, reportedAt: number, snapshot: Snapshot): void {
  Object.assign(handle, { reportedAt, snapshot });
}

/** Its exit. */
const exitOfWorker = ({ id, snapshot: { cpuSeconds } = snapshot(0) }: SampledWorker) =>
  exitOf(id, { snapshot: snapshotOf({ cpuSeconds }) });

const podOf = (handles: SampledWorker[], more: Partial<SampledPod> = {}): SampledPod => ({
  supervisor: { handles },
  totals: new Totals(),
  sizing: { memory: { limitBytes: 512 * MIB }, cpus: { effective: 1.5 } },
  throttledSeconds: null,
  memory: () => ({ usedBytes: 145 * MIB }),
  ...more,
});

test('a rate is what came between two reports of a worker, whenever our own second began', () => {
  const one = worker(1);
  const sampler = new Sampler(podOf([one]), OWN, 0);
  const rateAt = (now: number) => sampler.sample(podOf([one]), OWN, now).workers[1]?.[0];
  assert.equal(rateAt(400), 0, 'nothing reported yet');
  reports(one, 500, snapshot(100));
  assert.equal(rateAt(1000), 200, 'since its start');
  reports(one, 1500, snapshot(130));
  assert.equal(rateAt(2000), 30);
  assert.equal(rateAt(3000), 30, 'a report that is late by less than a second');
  assert.equal(rateAt(3501), 0, 'one that is silent for more than two seconds does nothing');
  reports(one, 5500, snapshot(530));
  assert.equal(rateAt(6000), 100, 'over the whole of its silence');
});

test('a median counts by its requests, the slowest p99 counts alone', () => {
  const [busy, idle] = [worker(1), worker(2)];
  const pod = podOf([busy, idle]);
  const sampler = new Sampler(pod, OWN, 0);
  reports(busy, 1000, snapshot(300, { responseTimeMs: { p50: 2, p99: 20 }, eventLoopUtilization: 0.9 }));
  reports(idle, 1000, snapshot(100, { responseTimeMs: { p50: 10, p99: 70 } }));
  const { workers, p50, p99 } = sampler.sample(pod, OWN, 1000);
  assert.deepEqual(workers, { 1: [300, 0.9], 2: [100, 0.25] });
  assert.equal(p50, 4);
  assert.equal(p99, 70);
});

test('without a request there is no median', () => {
  const pod = podOf([worker(1)]);
  const { p50, p99, workers } = new Sampler(pod, OWN, 0).sample(pod, OWN, 1000);
  assert.deepEqual([p50, p99, workers], [0, 0, { 1: [0, 0] }]);
});

test('CPUs and memory are of the primary and all workers, of one that ended meanwhile too', () => {
  const [ends, stays] = [worker(1), worker(2)];
  reports(ends, 0, snapshot(0, { cpuSeconds: { user: 1, system: 0.5 } }));
  reports(stays, 0, snapshot(0, { cpuSeconds: { user: 2, system: 1 } }));
  const totals = new Totals();
  const sampler = new Sampler(podOf([ends, stays], { totals }), OWN, 10_000);

  reports(ends, 1000, snapshot(0, { cpuSeconds: { user: 1.2, system: 0.5 } }));
  totals.onEvent(exitOfWorker(ends), 0);
  reports(stays, 1000, snapshot(0, { cpuSeconds: { user: 2.3, system: 1.1 } }));
  const own = { user: 0.1, system: 0.2 };
  const { cpus, cpuLimit, memoryBytes, limitBytes } = sampler.sample(podOf([stays], { totals }), own, 12_000);
  assert.equal(cpus, 0.45, '0.2 s of the one, 0.4 s of the other, 0.3 s of the primary, in 2 s');
  assert.equal(cpuLimit, 1.5);
  assert.equal(memoryBytes, 145 * MIB);
  assert.equal(limitBytes, 512 * MIB);
});

test('a successor that has not reported its CPU time yet does not reduce the sum', () => {
  const [gone, successor] = [worker(1), worker(1)];
  reports(gone, 0, snapshot(0, { cpuSeconds: { user: 5, system: 0 } }));
  const totals = new Totals();
  const sampler = new Sampler(podOf([gone], { totals }), OWN, 0);
  totals.onEvent(exitOfWorker(gone), 0);
  assert.equal(sampler.sample(podOf([successor], { totals }), OWN, 1000).cpus, 0);
  reports(successor, 1500, snapshot(0, { cpuSeconds: { user: 0.25, system: 0 } }));
  assert.equal(sampler.sample(podOf([successor], { totals }), OWN, 2000).cpus, 0.25);
});

test('throttling is seconds per second, unknown where one look has none, and never below zero', () => {
  const throttled = [null, 1, 1.5, 1.25, null].map(throttledSeconds => podOf([], { throttledSeconds }));
  const [first, ...later] = throttled as [SampledPod, ...SampledPod[]];
  const sampler = new Sampler(first, OWN, 0);
  const throttling = later.map((pod, index) => sampler.sample(pod, OWN, (index + 1) * 2000).throttled);
  assert.deepEqual(throttling, [null, 0.25, 0, null]);
});

test('a longer range keeps one sample per step: rates as means, p99 and memory as the highest, and no more than it may', () => {
  const thinned = new Thinned(10_000, 2);
  const sampleAt = (seconds: number, more: Partial<Sample> = {}): Sample => ({
    at: seconds * 1000,
    workers: { 1: [seconds, 0.5] },
    statuses: [10, 0, 0, seconds],
    p50: 1,
    p99: seconds,
    memoryBytes: seconds * MIB,
    limitBytes: null,
    cpus: 1,
    cpuLimit: 2,
    throttled: null,
    ...more,
  });
  const ended = Array.from({ length: 41 }, (_, second) =>
    thinned.add(sampleAt(second, second === 4 ? { workers: { 2: [1, 1] }, pods: { a: [1, 2, 3, 4, 5] }, throttled: 0.5 } : {})),
  );
  const [first, ...others] = ended.filter(sample => sample !== undefined);
  assert.equal(others.length, 3);
  assert.deepEqual(first, {
    ...sampleAt(9),
    workers: { 1: [4.556, 0.5], 2: [1, 1] },
    statuses: [10, 0, 0, 4.5],
    throttled: 0.5,
    pods: { a: [1, 2, 3, 4, 5] },
  });
  assert.deepEqual(
    thinned.samples.map(({ at }) => at),
    [29_000, 39_000],
  );
});

test('a pod may have any name', () => {
  const thinned = new Thinned(10_000, 2);
  const sample = (at: number, names: string[]) =>
    ({
      at,
      workers: {},
      statuses: [0, 0, 0, 0],
      p50: 0,
      cpus: 0,
      pods: Object.fromEntries(names.map(name => [name, [1, 2, 3, 4, 5]])),
    }) as never;
  thinned.add(sample(0, ['a']));
  thinned.add(sample(1000, ['a', 'constructor', '__proto__']));
  const { pods = {} } = thinned.add(sample(10_000, [])) ?? assert.fail();
  assert.deepEqual(Object.entries(pods), [
    ['a', [1, 2, 3, 4, 5]],
    ['constructor', [1, 2, 3, 4, 5]],
    ['__proto__', [1, 2, 3, 4, 5]],
  ]);
});

test('beyond twenty pods the others are one sum', () => {
  const peer = (index: number) => ({
    pod: `pod-${index}`,
    requestsPerSecond: 2,
    p99Ms: index,
    cpus: 0.5,
    errors: { '4xx': 0, '5xx': 1 },
  });
  const fleet = Array.from({ length: 23 }, (_, index) => peer(index) as Peer);
  const pod = podOf([]);
  const { pods = {} } = new Sampler(pod, OWN, 0).sample(pod, OWN, 1000, fleet);
  assert.equal(Object.keys(pods).length, 21);
  assert.deepEqual(pods['pod-19'], [2, 1, 19, 0.5, 0]);
  assert.deepEqual(pods.others, [6, 3, 22, 1.5, 0]);
  assert.equal(new Sampler(pod, OWN, 0).sample(pod, OWN, 1000, fleet.slice(0, 1)).pods, undefined);
});

test('pods of one host name have a line each, and a pod that is silent gives its line to a successor of its name', () => {
  const peer = (pod: string, origin: string, silentSeconds: number, requestsPerSecond: number) =>
    ({ pod, origin, silentSeconds, requestsPerSecond, p99Ms: 0 }) as Peer;
  const pod = podOf([]);
  const ratesOf = (...fleet: Peer[]) => {
    const { pods = {} } = new Sampler(pod, OWN, 0).sample(pod, OWN, 1000, fleet);
    return Object.fromEntries(Object.entries(pods).map(([name, [rate]]) => [name, rate]));
  };
  assert.deepEqual(ratesOf(peer('vm', 'vm:1a2b3c', 0, 1), peer('vm', 'vm:4d5e6f', 3, 2), peer('web', 'web:777777', 0, 4)), {
    'vm (2b3c)': 1,
    'vm (5e6f)': 2,
    web: 4,
  });
  assert.deepEqual(ratesOf(peer('vm', 'vm:1a2b3c', 0, 1), peer('vm', 'vm:4d5e6f', 4, 2), peer('web', 'web:777777', 9, 4)), {
    vm: 1,
    web: 4,
  });
});

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Fine enough for each range to fill up. */
const stepAt = (second: number) => (second < 22 * 3600 ? 100 : second < 23.5 * 3600 ? 10 : 1);

/** The heap that full ranges take, in MiB. Every figure is another one. */
function mebibytesOf(workers: number, pods: number): number {
  let figure = 0.5;
  const next = () => ++figure;
  const recordOf = <Value>(count: number, value: () => Value) =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [index + 1, value()]));
  const sampleAt = (at: number): Sample => ({
    at,
    workers: recordOf(workers, () => [next(), next()]),
    statuses: [next(), next(), next(), next()],
    p50: next(),
    p99: next(),
    memoryBytes: next(),
    limitBytes: 512 * MIB,
    cpus: next(),
    cpuLimit: 1.5,
    throttled: next(),
    ...(pods > 1 && { pods: recordOf(pods, () => [next(), next(), next(), next(), next()]) }),
  });
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  const samples: Sample[] = [];
  const ranges = [new Thinned(10_000, 360), new Thinned(300_000, 288)];
  for (let second = 0; second <= 24 * 3600; second += stepAt(second)) {
    const sample = sampleAt(second * 1000);
    samples.push(sample);
    if (samples.length > 600) samples.shift();
    for (const range of ranges) range.add(sample);
  }
  const events = samples.map(({ at }) => shown({ event: 'worker.starting', worker: 1, workerPid: at, generation: 1 }, at));
  collectGarbage();
  const used = process.memoryUsage().heapUsed - before;
  assert.deepEqual([samples.length, ...ranges.map(range => range.samples.length), events.length], [600, 360, 288, 600]);
  return used / MIB;
}

test('the memory of the history is what docs/guide/observability.md says', t => {
  mebibytesOf(1, 2); // loads the code
  const [base, manyWorkers, manyPods] = [mebibytesOf(1, 0), mebibytesOf(17, 0), mebibytesOf(1, 21)];
  const [perWorker, perPod] = [(manyWorkers - base) / 16, (manyPods - base) / 21];
  t.diagnostic(`${base.toFixed(2)} MiB, ${perWorker.toFixed(3)} for each worker, ${perPod.toFixed(3)} for each pod`);
  assert.ok(base < 2, `${base} MiB`);
  assert.ok(perWorker < 0.15, `${perWorker} MiB for each worker`);
  assert.ok(perPod < 0.2, `${perPod} MiB for each pod`);
});
