/**
 * `bosun status --watch`: golden screens, and what holds for any screen.
 */
process.env.TZ = 'UTC'; // events are reported in the operator's time

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bars, renderWatch, type Watched } from '../src/cli/watch.ts';
import type { Sample, Status } from '../src/protocol/api.ts';

type Worker = Status['workers'][number];

const SCREEN = { columns: 80, rows: 24 };
const NOON = Date.UTC(2026, 10, 25, 12);

const errors = (client: number, server: number, share: number): Status['errors'] => ({
  '4xx': { count: 10 * client, perSecond: client },
  '5xx': { count: 10 * server, perSecond: server },
  share,
  abandoned: { count: 0, perSecond: 0 },
});

const worker = (id: number, more: Partial<Worker> = {}): Worker => ({
  id,
  pid: 5710 + id,
  state: 'ready',
  generation: 2,
  uptimeSeconds: 725,
  silentSeconds: 0.4,
  connections: 10 * id,
  inFlight: id,
  requests: 1000,
  errors: errors(0, 0, 0),
  responseTimeMs: { mean: 2, p50: 1.24, p99: 18.2 },
  eventLoopUtilization: 0.42,
  eventLoopDelayMs: 0.3,
  load: 0,
  memory: { rss: 64 * 2 ** 20, heapTotal: 30 * 2 ** 20, heapUsed: 20 * 2 ** 20 },
  ...more,
});

const sizing = (reason: string, heapPerWorkerMb: number | null): Status['sizing'] => ({
  workers: 2,
  wanted: 2,
  reason,
  cpus: { quota: 1.5, cpuset: null, effective: 1.5, source: 'cpu.max' },
  memory: { limitBytes: null, source: null, heapPerWorkerMb, semiSpaceMb: null },
  warnings: [],
});

const status = (workers: Worker[], more: Partial<Status> = {}): Status => ({
  service: { name: 'shop' },
  version: '0.1.0',
  pod: 'shop-1',
  pid: 1,
  state: 'ready',
  generation: 2,
  uptimeSeconds: 725,
  policy: 'rr',
  sizing: sizing('2 workers: 1.5 CPUs, rounded half up (cpu.max)', 128),
  utilization: 0.4,
  errors: errors(0, 0, 0),
  recentErrors: [],
  workers,
  restarts: { total: 3, byReason: { crash: 1, restart: 2 } },
  drains: {
    count: 2,
    finishedRequests: 7,
    cutRequests: 1,
    webSockets: { byKit: 0, byApp: 0 },
    eventStreams: { byKit: 0, byApp: 0 },
    handedOverConnections: 9,
    unacknowledgedConnections: 0,
    longestRequestMs: 812,
    tasks: { finished: 0, failed: 0, timedOut: 0 },
    closeHandlers: { count: 0, failed: 0, timedOut: 0 },
    last: null,
  },
  moved: 3,
  failedStarts: { count: 0, last: null },
  rollingRestarts: { success: 0, failure: 0, refused: 0, lastRefused: null },
  memory: { usedBytes: 1, headroomBytes: null, freshWorkerBytes: null, restart: 'surge' },
  ...more,
});

const sample = (rates: number[], more: Partial<Sample> = {}): Sample => ({
  at: NOON,
  workers: Object.fromEntries(rates.map((rate, index) => [index + 1, [rate, 0.4]])),
  statuses: [rates[0] ?? 0, 0, 0, 0],
  p50: 1.24,
  p99: 18.2,
  memoryBytes: 192 * 2 ** 20,
  limitBytes: 512 * 2 ** 20,
  cpus: 0.75,
  cpuLimit: 1.5,
  throttled: 0.12,
  ...more,
});

const EVENTS: Watched['events'] = [
  { at: NOON, kind: 'ready', text: 'pool resizes from 1 to 2 workers' },
  { at: NOON + 1000, kind: 'ready', text: 'worker 1 is gone (crash: exit code 1)' },
  { at: NOON + 2000, kind: 'ready', text: 'rolling restart: generation 2' },
  {
    at: NOON + 3000,
    kind: 'exit',
    text: 'worker 2 is gone (restart): 7 requests finished while draining, 1 cut, 9 connections closed gracefully, 3 moved, 812 ms',
  },
  { at: NOON + 4000, kind: 'ready', text: 'generation 2 serves' },
];

test('bosun status --watch draws CPU with throttling, memory, workers, pending requests, drains and events', () => {
  const samples = [
    sample([0, 0], { cpus: 0, memoryBytes: 2 ** 20 }),
    sample([50, 25], { cpus: 1.5, statuses: [75, 0, 0, 6] }),
    sample([100, 50.5], { statuses: [140, 0, 7.5, 3] }),
  ];
  const draining = worker(2, {
    state: 'draining',
    errors: errors(7.5, 3, 0.06),
    generation: 1,
    uptimeSeconds: 9000,
    responseTimeMs: { mean: 2, p50: 250, p99: 12_345 },
    waitingFor: [{ method: 'GET', path: '/slow', ageMs: 3100, bytesSent: 12 }],
    waitingForCount: 1,
  });
  assert.equal(
    renderWatch({ status: status([worker(1), draining]), samples, events: EVENTS }, SCREEN),
    `koa-bosun 0.1.0, pid 1, ready, up 12 min, generation 2, rr
2 workers: 1.5 CPUs, rounded half up (cpu.max); 128 MiB of heap each

requests/s                            ▁▄█ 150.5, p50 1.24 ms, p99 18.2 ms
errors/s                              ▁█▅ 5xx 3, 4xx 7.5, 2.0 % are 5xx
CPU                                   ▁█▅ 0.75 of 1.5 CPUs, throttled 0.12 s/s
memory                                ▁▄▄ 192 of 512 MiB, 38 %

id pid  state    gen up  conns open req/s 4xx 5xx p50   p99    loop late  rss
 1 5711 ready      2 12m    10    1   100   0   0 1.2ms 18.2ms  42% 0.3ms 64M
 2 5712 draining   1  3h    20    2  50.5 7.5   3 250ms  12.3s  42% 0.3ms 64M
worker 2 waits for GET /slow, 3 s old, 12 bytes sent

ended workers: 3 (1 crash, 2 restart); drains: 2, 7 requests finished in them, 1
cut, 9 connections closed gracefully, 3 moved, longest 812 ms
12:00:04 generation 2 serves
12:00:03 worker 2 is gone (restart): 7 requests finished while draining, 1 cut,
         9 connections closed gracefully, 3 moved, 812 ms
12:00:02 rolling restart: generation 2
12:00:01 worker 1 is gone (crash: exit code 1)
12:00:00 pool resizes from 1 to 2 workers`,
  );
});

test('bosun status --watch shows the limits of ADAPTIVE_CONCURRENCY, and no line without it', () => {
  const concurrency = { limit: 13, inFlight: 12, queued: 40, rejected: 9000, rejectedPerSecond: 800 };
  const draw = (more: Partial<Worker>) =>
    renderWatch({ status: status([worker(1, more), worker(2, more)]), samples: [sample([1, 1])], events: [] }, SCREEN);
  assert.match(draw({ concurrency }), /^the workers handle 24 of at most 26 requests, 80 wait, 1600 turned away a second$/m);
  assert.doesNotMatch(draw({}), /turned away/);
});

test('bosun status --watch draws a pool without limits, without a quota, and before its first second', () => {
  const free = status([worker(1)], { sizing: sizing('1 worker: 1 CPU', null) });
  const unlimited = sample([0], { limitBytes: null, throttled: null, cpuLimit: 2 });
  assert.equal(
    renderWatch({ status: free, samples: [unlimited], events: [] }, { columns: 100, rows: 24 }),
    `koa-bosun 0.1.0, pid 1, ready, up 12 min, generation 2, rr
1 worker: 1 CPU; V8's default heap each

requests/s                                                  ▁ 0.0, p50 1.24 ms, p99 18.2 ms
errors/s                                                    ▁ 5xx 0, 4xx 0, 0 % are 5xx
CPU                                                         ▄ 0.75 of 2 CPUs
memory                                                      █ 192 MiB, no limit

id  pid   state  gen  up   conns  open  req/s  4xx  5xx  p50    p99     loop  late   rss  heap
 1  5711  ready    2  12m     10     1      0    0    0  1.2ms  18.2ms   42%  0.3ms  64M   20M

ended workers: 3 (1 crash, 2 restart); drains: 2, 7 requests finished in them, 1 cut, 9 connections
closed gracefully, 3 moved, longest 812 ms`,
  );
  assert.match(renderWatch({ status: free, samples: [], events: [] }, SCREEN), /\n\nwaiting for the first sample\n/);
});

test('bosun status --watch counts the workers that do not fit, and shows those that are not ready', () => {
  const workers = Array.from({ length: 32 }, (_, index) => worker(index + 1, index === 30 ? { state: 'cordoned' } : {}));
  const lines = renderWatch({ status: status(workers), samples: [sample([1])], events: EVENTS }, SCREEN).split('\n');
  assert.equal(lines.length, 23);
  assert.deepEqual(
    lines.slice(9, 16).map(line => line.slice(0, 16)),
    [
      ' 1 5711 ready   ',
      ' 2 5712 ready   ',
      ' 3 5713 ready   ',
      ' 4 5714 ready   ',
      ' 5 5715 ready   ',
      '31 5741 cordoned',
      'and 26 more, all',
    ],
  );
  assert.deepEqual(
    lines.slice(-4).map(line => line.slice(0, 30)),
    [
      '12:00:04 generation 2 serves',
      '12:00:03 worker 2 is gone (res',
      '         9 connections closed ',
      '12:00:02 rolling restart: gene',
    ],
  );
});

test('bosun status --watch fits every screen, and prints no control character of an app or a client', () => {
  const evil = '\u001b[2J\u001b]0;title\u0007 \r\n\u009b31m '.repeat(20);
  const longest = worker(99, {
    pid: 4_194_304,
    state: 'draining',
    generation: 100,
    uptimeSeconds: 119,
    connections: 10_000,
    inFlight: 9999,
    responseTimeMs: { mean: 2, p50: 9999, p99: 29_999 },
    eventLoopUtilization: 1,
    eventLoopDelayMs: 9999,
    memory: { rss: 9999 * 2 ** 20, heapTotal: 30 * 2 ** 20, heapUsed: 8888 * 2 ** 20 },
    waitingFor: Array.from({ length: 100 }, () => ({ method: 'GET', path: `/${evil}`, ageMs: 1, bytesSent: 1 })),
    waitingForCount: 9999,
  });
  const watched: Watched = {
    status: status([longest, { ...longest, id: 98 }], { sizing: sizing(evil, 1) }),
    samples: Array.from({ length: 60 }, () => sample([99_999.9], { workers: { 99: [99_999.9, 1] }, throttled: 12.34 })),
    events: Array.from({ length: 30 }, () => ({ at: NOON, kind: 'ready', text: `worker 1 is gone (crash: ${evil})` })),
  };
  for (const screen of [SCREEN, { columns: 40, rows: 12 }, { columns: 200, rows: 60 }, { columns: 20, rows: 4 }]) {
    const text = renderWatch(watched, screen);
    const lines = text.split('\n');
    assert.ok(lines.length < screen.rows, `${lines.length} lines of ${screen.rows}`);
    for (const line of lines) assert.ok(line.length <= screen.columns, line);
    assert.doesNotMatch(text, /(?!\n)\p{Cc}/u);
  }
  // Complete but for the heap and 4xx: 80 columns are what most terminals have.
  assert.match(
    renderWatch(watched, SCREEN),
    /^99 4194304 draining 100 119s 10000 9999 100000 {3}0 9999ms 30s 100% 9999ms 9999M$/m,
  );
  assert.match(renderWatch(watched, SCREEN), /^and 19996 more pending requests$/m);
});

test('bars show shares of the limit, or of the highest value', () => {
  assert.equal(bars([0, 50, 100]), '▁▅█');
  assert.equal(bars([0, 50, 300], 200), '▁▃█');
  assert.equal(bars([0, 0]), '▁▁');
  assert.equal(bars([]), '');
});
