/**
 * `bosun doctor`, check by check. What a real primary finds: test/process/cli-commands.test.ts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readConfig } from '../src/config/config.ts';
import { diagnoseDeployment, type Facts } from '../src/control/doctor.ts';
import { type Limits, resolveLimits } from '../src/resources/cgroup.ts';
import type { HeapChoice } from '../src/resources/node-options.ts';
import { size } from '../src/resources/sizing.ts';

const MIB = 2 ** 20;
const NOTHING: Limits = resolveLimits(() => undefined);
const REDIS = { state: 'ready', message: 'Redis at redis:6379 answers', evictionPolicy: 'noeviction' };

const sizingOf = (workers: number, memoryMib: number | null, choice?: HeapChoice) =>
  size(
    {
      ...NOTHING,
      quota: { value: 2, file: '/cpu.max' },
      memory: memoryMib === null ? null : { value: memoryMib * MIB, file: '/memory.max' },
    },
    { kind: 'count', count: workers },
    { cpus: 8, totalMemoryBytes: 64 * 1024 * MIB },
    choice,
  );

/** Eight CPUs of a machine without a quota. */
const UNLIMITED = size(NOTHING, { kind: 'auto' }, { cpus: 8, totalMemoryBytes: 64 * 1024 * MIB });

const PRODUCTION = { NODE_ENV: 'production', SHUTDOWN_DELAY_MS: '5000', SHUTDOWN_TIMEOUT_MS: '25000' };
const WITH_REDIS = { ...PRODUCTION, REDIS_URL: 'redis://redis:6379' };
const GOOD: Facts = {
  config: readConfig({ ...WITH_REDIS, SESSION_KEYS: 'a key of more than sixteen characters' }),
  sizing: sizingOf(2, 1024),
  pool: { serving: 2, wanted: 2, isFailing: false, others: [] },
  lastFailure: undefined,
  gracePeriodSeconds: 45,
  hardFileLimit: 1_048_576,
  connections: [{ worker: 1, connections: 899, max: 1000 }],
  machine: { cpus: 8, memoryBytes: 64 * 1024 * MIB },
  memory: { restart: { kind: 'surge' }, pointlessRecycling: undefined },
  lastRefusal: undefined,
  isPid1: false,
  isInKubernetes: false,
  isDiagnosticsDirWritable: true,
  areSessionKeysGenerated: false,
  redisRefusals: [],
  health: {},
  service: {
    name: 'shop',
    nameNow: 'shop',
    isGiven: true,
    app: 'shop',
    inUse: { name: 'shop', isMoving: false },
    isChanging: false,
    strangers: [],
  },
  redis: [REDIS, REDIS],
};

const FAILING: Facts['pool'] = { serving: 0, wanted: 2, isFailing: false, others: [{ id: 1, state: 'starting' }] };

test('doctor finds no problem in a good deployment', () => {
  for (const { check, verdict, detail } of diagnoseDeployment(GOOD)) assert.equal(verdict, 'ok', `${check}: ${detail}`);
});

const CHECK = {
  state: 'ok',
  seconds: 9,
  readiness: true,
  isUnready: false,
  workers: 2,
  failing: 0,
  failures: 0,
  durationMs: 3,
} as const;
const FAILS = {
  ...CHECK,
  state: 'failing',
  failing: 1,
  failures: 3,
  failure: 'Error EPIPE at db.js:7',
  message: 'no pipe',
} as const;

for (const [check, verdict, change, detail] of [
  ['health checks', 'ok', {}, /^the app has none$/],
  ['health checks', 'ok', { health: { database: CHECK, queue: CHECK } }, /^database, queue$/],
  [
    'health checks',
    'warning',
    { health: { database: CHECK, queue: FAILS } },
    /^queue fails in 1 of 2 workers, 3 times in a row: Error EPIPE at db\.js:7: no pipe$/,
  ],
  [
    'health checks',
    'problem',
    { health: { database: { ...FAILS, failures: 1, isUnready: true } } },
    /^database fails in 1 of 2 workers; the pod is not ready because of it: Error/,
  ],
  [
    'health checks',
    'warning',
    { health: { database: { ...CHECK, state: 'unknown' } } },
    /^database has no result of a worker that serves$/,
  ],
  ['service', 'ok', {}, /^shop$/],
  [
    'service',
    'ok',
    { service: { ...GOOD.service, isGiven: false } },
    /^shop \(of the package or folder: SERVICE_NAME is not set\)$/,
  ],
  ['service', 'ok', { service: { ...GOOD.service, inUse: undefined } }, /^shop$/],
  [
    'service',
    'ok',
    { service: { ...GOOD.service, inUse: { name: 'none', isMoving: false } } },
    /^shop; its names in Redis are those of before \(none\): docs.guide.sessions\.md/,
  ],
  [
    'service',
    'warning',
    { service: { ...GOOD.service, inUse: { name: 'none', isMoving: false }, isChanging: true } },
    /^shop: its names in Redis change from those of none; bosun service migrate ends that$/,
  ],
  [
    'service',
    'warning',
    { config: readConfig({ ...WITH_REDIS, SERVICE_NAME: 'shop', SERVICE_NAME_BEFORE: 'none' }) },
    /^shop: the change of the name has ended; remove SERVICE_NAME_BEFORE$/,
  ],
  ['service', 'ok', { config: readConfig({ ...WITH_REDIS, SERVICE_NAME: 'shop', SERVICE_NAME_BEFORE: 'shop' }) }, /^shop$/],
  [
    'service',
    'warning',
    { service: { ...GOOD.service, nameNow: 'store' } },
    /^shop: the package was renamed.* set SERVICE_NAME=shop$/,
  ],
  [
    'service',
    'warning',
    { service: { ...GOOD.service, strangers: ['blog'] } },
    /^shop, also that of blog: this app has the same SERVICE_NAME/,
  ],
  ['grace period', 'problem', { gracePeriodSeconds: 34 }, /^34 s is below .* = 35 s/],
  ['grace period', 'ok', { gracePeriodSeconds: 35 }, /^35 s, needed/],
  ['grace period', 'warning', { gracePeriodSeconds: undefined }, /^unknown: set TERMINATION_GRACE_PERIOD_SECONDS/],
  ['file limit', 'warning', { hardFileLimit: 1024 }, /^1024 descriptors .*raise it above 10000/],
  ['file limit', 'ok', { hardFileLimit: undefined }, /unlimited or unknown/],
  ['file limit', 'ok', {}, /^1048576 descriptors .*, 1047576 connections for each worker$/],
  [
    'file limit',
    'ok',
    { config: { ...GOOD.config, maxConnections: 768 }, hardFileLimit: 16_384 },
    /, 768 connections for each worker$/,
  ],
  [
    'file limit',
    'problem',
    { config: { ...GOOD.config, maxConnections: 769 }, hardFileLimit: 1024 },
    /leave room for 768 connections, and MAX_CONNECTIONS is 769$/,
  ],
  [
    'file limit',
    'warning',
    { connections: [{ worker: 2, connections: 900, max: 1000 }] },
    /^worker 2 has 900 connections of 1000: raise/,
  ],
  [
    'file limit',
    'warning',
    { connections: [{ worker: 2, connections: 900, max: 1000 }], hardFileLimit: undefined },
    /^worker 2 has 900 connections of 1000$/,
  ],
  ['workers', 'warning', { sizing: sizingOf(3, 1024) }, /^3 workers: as set; 2 CPUs/],
  [
    'workers',
    'problem',
    { pool: { ...FAILING, isFailing: true }, lastFailure: { worker: 1, reason: 'crash', failure: 'no ./config.json' } },
    /^0 of 2 serve: worker 1 failed \(crash\): no \.\/config\.json$/,
  ],
  [
    'workers',
    'problem',
    { pool: { ...FAILING, isFailing: true }, lastFailure: { worker: 1, reason: 'hung', failure: undefined } },
    /^0 of 2 serve: worker 1 failed \(hung\): nothing was thrown$/,
  ],
  [
    'workers',
    'warning',
    { pool: FAILING, lastFailure: { worker: 1, reason: 'crash', failure: 'long ago' } },
    /^0 of 2 serve; worker 1 is starting$/,
  ],
  ['workers', 'warning', { sizing: UNLIMITED }, /^8 workers: 8 CPUs, .*; no CPU limit: all 8 CPUs of the machine count; /],
  ['workers', 'ok', { sizing: UNLIMITED, config: readConfig({}) }, /; no CPU limit: all 8 CPUs/],
  ['workers', 'ok', { sizing: UNLIMITED, config: readConfig({ ...WITH_REDIS, NODE_CLUSTER_WORKERS: '8' }) }, /^[^;]+$/],
  ['workers', 'ok', { sizing: UNLIMITED, machine: { cpus: 16, memoryBytes: MIB } }, /^[^;]+$/],
  ['memory', 'warning', { sizing: sizingOf(2, null) }, /no memory limit/],
  ['memory', 'warning', { sizing: sizingOf(2, 64 * 1024) }, /^the memory limit is not below what the machine has: one worker/],
  [
    'memory',
    'warning',
    { sizing: sizingOf(2, 512, { sizeMb: 300, place: 'workers' }) },
    /^a heap of 300 MiB for each of 2 workers \(WORKER_NODE_OPTIONS\) is too large for 512 MiB/,
  ],
  ['memory', 'problem', { sizing: sizingOf(2, 128) }, /heap/],
  [
    'Redis',
    'problem',
    { redis: [REDIS, { ...REDIS, state: 'unreachable', message: 'Redis does not answer' }] },
    /does not answer/,
  ],
  [
    'Redis',
    'problem',
    { redisRefusals: [{ code: 'READONLY', command: 'eval', message: "READONLY You can't write", count: 3 }] },
    /^Redis at redis:6379 refuses eval \(3 times\): READONLY You can't write$/,
  ],
  ['Redis', 'problem', { redis: [] }, /^no answer from redis:6379 yet$/],
  ['Redis', 'warning', { redis: [{ ...REDIS, evictionPolicy: 'allkeys-lru' }] }, /maxmemory-policy is allkeys-lru/],
  ['Redis', 'ok', { redis: [{ ...REDIS, evictionPolicy: undefined }] }, /answers$/],
  ['Redis', 'warning', { config: readConfig(PRODUCTION), redis: [] }, /not configured/],
  ['session keys', 'problem', { areSessionKeysGenerated: true }, /generated at each start/],
  ['session keys', 'warning', { config: readConfig({ ...PRODUCTION, SESSION_KEYS: 'short' }) }, /fewer than 16 characters/],
  ['session keys', 'warning', { config: readConfig(PRODUCTION) }, /shared through Redis: anyone who can read Redis/],
  ['session keys', 'ok', { config: readConfig({ REDIS_URL: 'redis://redis' }) }, /^shared through Redis$/],
  ['admin port', 'ok', { config: readConfig({ ...PRODUCTION, ADMIN_PORT: '0' }) }, /^off$/],
  ['admin port', 'warning', { config: readConfig({ ...PRODUCTION, ADMIN_TOKEN: 'short' }) }, /fewer than 16 characters/],
  ['diagnostics folder', 'warning', { isDiagnosticsDirWritable: false }, /not writable: use --output -/],
  [
    'restart',
    'warning',
    { memory: { restart: { kind: 'old-first', why: 'no room' } } },
    /^the old worker ends first while clients wait: no room$/,
  ],
  ['restart', 'problem', { memory: { restart: { kind: 'refuse', why: 'no room' } } }, /^would be refused: no room$/],
  ['restart', 'warning', { lastRefusal: { at: 0, why: 'no room' } }, /the last one was refused at 1970-.*: no room$/],
  [
    'recycling',
    'problem',
    { memory: { restart: { kind: 'surge' }, pointlessRecycling: 'above WORKER_MAX_RSS_MB' } },
    /^above WORKER_MAX_RSS_MB$/,
  ],
  ['init', 'warning', { isPid1: true }, /^the primary is PID 1.*init: true/],
  ['init', 'ok', { isPid1: true, isInKubernetes: true }, /^the primary is PID 1.*shareProcessNamespace/],
] as [string, string, Partial<Facts>, RegExp][]) {
  test(`doctor reports "${check}" as ${verdict} if ${Object.keys(change)} differs: ${detail.source}`, () => {
    const found = diagnoseDeployment({ ...GOOD, ...change }).find(finding => finding.check === check);
    assert.equal(found?.verdict, verdict);
    assert.match(found?.detail ?? '', detail);
  });
}
