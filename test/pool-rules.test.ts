/**
 * The rules of failures and starts together, over random histories of a pool in virtual time: it never stalls, starts too many workers, or
 * gives up while a worker serves. PROPERTY_SEED repeats one run.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EndedWorker, Failures, Starts } from '../src/pool/failures.ts';
import type { ExitReason } from '../src/protocol/exit.ts';
import { seededRandom } from './random.ts';

const RUNS = 300;
const EVENTS = 400;
const LIMITS = { restartIntensity: 5, restartPeriodMs: 60_000, startTimeoutMs: 60_000 };
const GIVE_OTHERS_MS = 30_000;
const REASONS: ExitReason[] = ['crash', 'oom', 'killed', 'hung', 'start-timeout', 'scale-down', 'restart'];

type Worker = { -readonly [Key in keyof EndedWorker]: EndedWorker[Key] };

function runOnce(random: () => number, seed: string): void {
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;
  const cpus = 1 + Math.floor(random() * 4);
  let now = 0;
  let wanted = 1 + Math.floor(random() * 6);
  const workers = new Set<Worker>();
  const failures = new Failures(LIMITS, now);
  const starts = new Starts(failures, { cpus: { quota: null, cpuset: null, effective: cpus, source: 'test' } }, now);
  const count = () => ({
    pool: workers.size,
    wanted,
    up: [...workers].filter(({ readyAt }) => readyAt !== undefined).length,
    serving: [...workers].filter(({ readyAt }) => readyAt !== undefined).length,
    starting: [...workers].filter(({ readyAt }) => readyAt === undefined).map(({ startedAt }) => startedAt),
  });
  const tick = () => {
    for (let many = starts.take(count(), now); many > 0; many--)
      workers.add({ startedAt: now, readyAt: undefined, reason: undefined, isPermanent: false });
    starts.note(count(), now, GIVE_OTHERS_MS);
    const loading = count().starting.filter(at => now - at < 5000).length;
    assert.ok(loading <= Math.max(2, cpus), `${seed}: ${loading} start at once`);
  };
  for (let event = 0; event < EVENTS; event++) {
    tick();
    const { starting, pool } = count();
    if (pool < wanted && starting.length === 0) {
      const dueAt = starts.dueAt(count(), now, GIVE_OTHERS_MS);
      assert.ok(dueAt < Number.POSITIVE_INFINITY, `${seed}: ${wanted - pool} workers are missing, and nothing is due`);
      assert.ok(dueAt - now <= 5000 || dueAt === failures.startDeadlineAt, `${seed}: nothing is due for ${dueAt - now} ms`);
      now = dueAt;
      if (failures.startDeadlineAt !== undefined && now >= failures.startDeadlineAt) return;
      continue;
    }
    now += random() < 0.5 ? random() * 500 : random() * 15_000;
    const worker = pick([...workers]);
    if (random() < 0.1) wanted = 1 + Math.floor(random() * 6);
    if (worker === undefined) continue;
    if (worker.readyAt === undefined && random() < 0.5) {
      worker.readyAt = now;
      starts.ready(now);
      continue;
    }
    workers.delete(worker);
    worker.reason = pick(REASONS);
    const up = [...workers].filter(({ readyAt }) => readyAt !== undefined);
    const verdict = failures.ended(worker, true, up, now);
    if (verdict.kind === 'back-off') assert.ok(verdict.ms <= 5000, seed);
    if (verdict.kind !== 'give-up') continue;
    assert.equal(up.length, 0, `${seed}: given up while ${up.length} serve`);
    return;
  }
}

test('a pool never stalls, starts too many workers, or gives up while a worker serves', () => {
  const base = process.env.PROPERTY_SEED ?? String(Date.now());
  for (let run = 0; run < RUNS; run++) {
    const seed = `PROPERTY_SEED=${base}, run ${run}`;
    runOnce(seededRandom((Number(base) + run) | 0), seed);
  }
});
