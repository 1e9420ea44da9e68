/**
 * The list of what happened to a pool, from looks at it alone.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Life, Lifecycle, type LifecycleEvent, type PoolLife } from '../src/admin/lifecycle.ts';

const worker = (id: number, more: Partial<Life> = {}): Life => ({
  id,
  pid: 100 + id,
  state: 'ready',
  reason: undefined,
  failure: undefined,
  openFailure: undefined,
  drain: undefined,
  ...more,
});

const pool = (handles: Life[], more: Partial<PoolLife> = {}): PoolLife => ({
  handles,
  wanted: handles.length,
  generation: 1,
  rolls: { success: 0, failure: 0, refused: 0 },
  lastRefusal: undefined,
  ...more,
});

function watched() {
  const told: LifecycleEvent[] = [];
  const lifecycle = new Lifecycle(({ operator }) => told.push(operator));
  /** What was told since the last call. */
  const news = () => told.splice(0).map(({ kind, text }) => `${kind}: ${text}`);
  return { lifecycle, news };
}

test('each state of a worker is told once, whatever the number of looks', () => {
  const { lifecycle, news } = watched();
  const one = worker(1, { state: 'starting' });
  for (const state of ['starting', 'ready', 'cordoned', 'ready', 'draining'] as const) {
    Object.assign(one, { state });
    lifecycle.look(pool([one]));
    lifecycle.look(pool([one]));
  }
  assert.deepEqual(
    news(),
    ['starting', 'ready', 'cordoned', 'ready', 'draining'].map(state => `${state}: worker 1 (process 101) is ${state}`),
  );
});

test('an end says why, with the error of a bad one, and with the ledger of its drain', () => {
  const { lifecycle, news } = watched();
  const drain = {
    finished: 7,
    cutRequests: 1,
    cut: [{ method: 'GET', path: '/', ageMs: 1, bytesSent: 0 }],
    handedOver: 9,
    longestRequestMs: 5,
    durationMs: 12,
  };
  lifecycle.exited(worker(1, { state: 'exited', reason: 'crash', failure: 'Error: no' }));
  lifecycle.exited(worker(2, { state: 'exited', reason: 'restart', failure: 'of no interest', drain }));
  lifecycle.look(pool([worker(3, { state: 'draining', reason: 'recycled-rss' })]));
  assert.deepEqual(news(), [
    'exit: worker 1 is gone (crash: Error: no)',
    'exit: worker 2 is gone (restart): 7 requests finished while draining, 1 cut, 9 connections handed over, 12 ms',
    'draining: worker 3 (process 103) is draining, recycled-rss',
  ]);
});

test('a look after the exit does not tell a worker again', () => {
  const { lifecycle, news } = watched();
  const one = worker(1, { state: 'exited', reason: 'killed' });
  lifecycle.exited(one);
  lifecycle.look(pool([one], { wanted: 1 }));
  assert.deepEqual(news(), ['exit: worker 1 is gone (killed)']);
});

test('resizes and rolling restarts are told by what differs; the first look only says who is there', () => {
  const { lifecycle, news } = watched();
  const rolls = { success: 0, failure: 0, refused: 0 };
  lifecycle.look(pool([], { wanted: 2, rolls }));
  assert.deepEqual(news(), []);
  lifecycle.look(pool([], { wanted: 4, rolls }));
  lifecycle.look(pool([], { wanted: 4, generation: 2, rolls }));
  rolls.success = 1; // the same object, as the supervisor has it
  lifecycle.look(pool([], { wanted: 4, generation: 2, rolls }));
  rolls.failure = 1;
  lifecycle.look(pool([], { wanted: 4, generation: 3, rolls }));
  assert.deepEqual(news(), [
    'resize: pool of 2 is to have 4 workers',
    'restart: rolling restart: generation 2',
    'restarted: generation 2 serves',
    'restart: rolling restart: generation 3',
    'restart-failed: rolling restart failed',
  ]);
});

test('the list keeps the last 200 events', () => {
  const { lifecycle, news } = watched();
  for (let id = 1; id <= 250; id++) lifecycle.exited(worker(id, { reason: 'crash' }));
  assert.equal(news().length, 250);
  assert.deepEqual(
    [
      lifecycle.events.map(({ open }) => open).length,
      lifecycle.events.map(({ open }) => open)[0]?.worker,
      lifecycle.events.map(({ open }) => open).at(-1)?.worker,
    ],
    [200, 51, 250],
  );
});
