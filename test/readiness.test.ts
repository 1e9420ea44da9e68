/**
 * What the probes say of a pod that is not ready. Real pods: test/process/failed-starts.test.ts and test/container/sessions-outage.test.ts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ProbeView, readiness, whyNotStarted } from '../src/admin/readiness.ts';
import { readConfig } from '../src/config/config.ts';

const REFUSED = 'Redis at redis:6379 does not answer: connect ECONNREFUSED 10.0.0.1:6379';
const WHY = 'Error ECONNREFUSED at server.js:7, message #12345678';
const TEXT = 'connect to db.internal with s3cret';
const FAILED_START = { at: 0, worker: 1, reason: 'crash' as const, error: undefined, why: WHY, failure: TEXT };
const FAILURE = { worker: 1, reason: 'crash' as const, failure: TEXT, openFailure: WHY };

const worker = (redis?: object) => ({ redis });
const READY = worker({ state: 'ready', message: 'ready' });

function view(pool: object, change: Partial<ProbeView> = {}): ProbeView {
  return {
    state: 'starting',
    pool: { wanted: 2, hasStarted: false, isFailing: false, isBridged: false, serving: [], ...pool } as ProbeView['pool'],
    failedStarts: { count: 0, last: null },
    lastFailure: undefined,
    config: readConfig({ REDIS_URL: 'redis://redis:6379' }),
    isJoined: false,
    redisFault: undefined,
    checks: {},
    ...change,
  };
}

const failedStarts = { count: 3, last: FAILED_START };

for (const [what, of, reason] of [
  ['a pod that starts', view({}), 'starting: 0 of 2 workers serve'],
  ['a pod whose app throws', view({}, { failedStarts }), `starting: 0 of 2 workers serve; the last start failed: crash, ${WHY}`],
  ['a pod whose app waits for Redis', view({}, { redisFault: REFUSED }), `starting: 0 of 2 workers serve; ${REFUSED}`],
  [
    'a pod whose app throws for want of Redis',
    view({ serving: [READY] }, { failedStarts, redisFault: REFUSED }),
    `starting: 1 of 2 workers serve; the last start failed: crash, ${WHY}; ${REFUSED}`,
  ],
  [
    'a pod without an answer of Redis',
    view({ hasStarted: true, serving: [worker(), READY] }),
    'waiting for Redis: no answer from redis:6379 yet',
  ],
  [
    'a pod that Redis refuses',
    view({ hasStarted: true, serving: [worker({ state: 'unreachable' })] }, { redisFault: REFUSED }),
    `waiting for Redis: ${REFUSED}`,
  ],
  [
    'a pod whose primary alone has no Redis',
    view({ hasStarted: true, serving: [READY] }, { redisFault: REFUSED }),
    `waiting for Redis: ${REFUSED}`,
  ],
  [
    'a pod that joins the others',
    view({ hasStarted: true, serving: [READY] }),
    'waiting for Redis: not connected to the other pods yet',
  ],
  [
    'a pod whose workers crash after the start',
    view({ hasStarted: true }, { state: 'ready', lastFailure: FAILURE }),
    `no worker serves; the last one failed: crash, ${WHY}`,
  ],
  ['a pod whose workers were scaled away', view({ hasStarted: true }, { state: 'ready' }), 'no worker serves'],
  ['a pod that ends', view({ hasStarted: true }, { state: 'draining', lastFailure: FAILURE }), 'draining'],
] as const)
  test(`/readyz says of ${what}: ${reason.slice(0, 60)}`, () => {
    assert.deepEqual(readiness(of), { isReady: false, reason });
    if (of.state === 'starting') assert.equal(whyNotStarted(of), reason);
  });

test('a ready pod with a missing worker is ready, and says why the worker is missing', () => {
  const pool = { hasStarted: true, isFailing: true, serving: [READY] };
  const said = readiness(view(pool, { state: 'ready', failedStarts, redisFault: REFUSED }));
  assert.deepEqual(said, { isReady: true, reason: `1 of 2 workers serve; the last start failed: crash, ${WHY}` });
});

test('a check of the app keeps a pod out only if it decides on readiness, and a pod without workers has that reason', () => {
  const whatFails = 'check queue: returned false in 1 of 2 workers';
  const whyNotReady = 'check database: timed out after 5000 ms in 2 of 2 workers, 3 times in a row';
  const pool = { hasStarted: true, serving: [READY, READY] };
  const of = (checks: ProbeView['checks'], change: object = {}) =>
    readiness(view({ ...pool, ...change }, { state: 'ready', checks }));
  assert.deepEqual(of({ whatFails }), { isReady: true, reason: whatFails });
  assert.deepEqual(of({ whatFails, whyNotReady }), { isReady: false, reason: whyNotReady });
  assert.deepEqual(of({ whatFails, whyNotReady }, { serving: [] }), { isReady: false, reason: 'no worker serves' });
  assert.equal(of({ whyNotReady }, { serving: [], isBridged: true }).isReady, false);
  const missing = of({ whatFails }, { serving: [READY], isFailing: true });
  assert.deepEqual(missing, { isReady: true, reason: `1 of 2 workers serve; the others have failed; ${whatFails}` });
});
