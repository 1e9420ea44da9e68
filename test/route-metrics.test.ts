/**
 * METRICS_ROUTES: which routes become labels, the bounds of their series, and the table of the slowest ones, in virtual time.
 */
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { test } from 'node:test';
import { RouteTimes } from '../src/admin/route-times.ts';
import { Totals } from '../src/admin/totals.ts';
import type { WorkerProcess } from '../src/pool/worker-process.ts';
import { type HttpSeries, MAX_ROUTE_SERIES, MAX_ROUTES } from '../src/protocol/snapshot.ts';
import { noteCause } from '../src/worker/error-list.ts';
import { routeLabel } from '../src/worker/route.ts';
import { Stats } from '../src/worker/stats.ts';
import { exitOf, snapshotOf } from './exited.ts';

const LOAD = { connections: 0, accepted: 0, load: 0, inFlight: 0 };

const request = (url: string, more = {}) => ({ method: 'GET', url, headers: {}, ...more }) as IncomingMessage;

/** What a worker reports after these answers. */
function reported(...answers: [method: string, status: number, route: string | undefined][]): HttpSeries[] {
  const stats = new Stats([1]);
  for (const [method, status, route] of answers) stats.onResponse(method, status, 2000, route);
  return stats.snapshot(LOAD, []).http;
}

const answersOf = (http: readonly HttpSeries[]) =>
  new Map(http.map(({ method, status, route, counts }) => [`${method} ${status} ${route}`, counts.reduce((a, b) => a + b, 0)]));
const totalOf = (http: readonly HttpSeries[]) => [...answersOf(http).values()].reduce((a, b) => a + b, 0);
const routesOf = (http: readonly HttpSeries[]) => new Set(http.map(({ route }) => route));

test('an answer counts for the matched route, else for the folded path; unknown paths with 4xx, and refused requests, are other', () => {
  const matched = { route: { path: '/cups/:name' } };
  assert.equal(routeLabel(request('/cups/ada', matched), 200), '/cups/:name');
  assert.equal(routeLabel(request('/cups/ada', matched), 404), '/cups/:name');
  assert.equal(routeLabel(request('/cups/42'), 200), '/cups/:id');
  assert.equal(routeLabel(request('/cups/42'), 500), '/cups/:id');
  assert.equal(routeLabel(request('/wp-login.php'), 404), 'other');
  assert.equal(routeLabel(request('/wp-login.php'), 400), 'other');
  for (const own of ['Overloaded', 'ConcurrencyLimit'] as const) {
    const refused = request('/wp-login.php');
    noteCause(refused, { own });
    assert.equal(routeLabel(refused, 503), 'other', own);
  }
  const timedOut = request('/slow');
  noteCause(timedOut, { own: 'HandlerTimeout' });
  assert.equal(routeLabel(timedOut, 503), '/slow');
});

test('answers are counted by method, status and route; without routes there is no such label', () => {
  const http = reported(['GET', 200, '/a'], ['GET', 200, '/b'], ['GET', 200, '/a'], ['GET', 500, '/a'], ['HEAD', 200, '/a']);
  assert.deepEqual(
    [...answersOf(http)],
    [
      ['GET 200 /a', 2],
      ['GET 500 /a', 1],
      ['HEAD 200 /a', 1],
      ['GET 200 /b', 1],
    ],
  );
  assert.deepEqual(reported(['GET', 200, undefined]), [{ method: 'GET', status: 200, sumSeconds: 2, counts: [0, 1] }]);
});

test('a worker has at most 100 routes and 1000 series, and counts the rest as other', () => {
  const many = reported(...Array.from({ length: 500 }, (_, index) => ['GET', 200, `/r${index}`] as ['GET', 200, string]));
  assert.equal(routesOf(many).size, MAX_ROUTES);
  assert.equal(answersOf(many).get('GET 200 /r98'), 1);
  assert.equal(answersOf(many).get('GET 200 other'), 500 - 99);

  const statuses = Array.from(
    { length: 3000 },
    (_, index) => ['GET', 100 + (index % 900), `/r${index % 7}`] as ['GET', 200, string],
  );
  const broken = reported(...statuses);
  assert.equal(broken.filter(({ route }) => route !== 'other').length, MAX_ROUTE_SERIES);
  assert.equal(totalOf(broken), 3000);
});

test('the pool has at most 100 routes over all workers that ever were, and no series decreases when they are replaced', () => {
  const totals = new Totals();
  let before = new Map<string, number>();
  for (let generation = 0; generation < 10; generation++) {
    const http = reported(
      ...Array.from({ length: 60 }, (_, index) => ['GET', 200, `/g${generation}r${index}`] as ['GET', 200, string]),
      ['GET', 200, '/always'],
    );
    const present = [{ snapshot: snapshotOf({ http }) }] as WorkerProcess[];
    for (const counters of [totals.countersWith(present), totals.countersWith(present)]) {
      const now = answersOf(counters.http);
      for (const [key, count] of before) assert.ok((now.get(key) ?? 0) >= count, `${key}: ${count} before, now ${now.get(key)}`);
      assert.equal(totalOf(counters.http), 61 * (generation + 1));
      assert.ok(routesOf(counters.http).size <= MAX_ROUTES);
      before = now;
    }
    totals.onEvent(exitOf(1, { snapshot: snapshotOf({ http }) }), 0);
    assert.deepEqual(answersOf(totals.countersWith([]).http), before, 'the end of the worker changes nothing');
  }
  assert.equal(before.get('GET 200 /always'), 10);
});

test('the table has the routes of the last 10 minutes by their share of the time, at most 20', () => {
  const times = new RouteTimes(0);
  const counted = (route: string, status: number, requests: number, seconds: number): HttpSeries => ({
    method: 'GET',
    status,
    route,
    sumSeconds: seconds,
    counts: [requests],
  });
  const first = [counted('/old', 200, 100, 100), counted('/a', 200, 10, 1)];
  assert.deepEqual(times.shown([counted('/a', 200, 4, 2), counted('/a', 503, 1, 1), counted('/b', 404, 2, 1)]), [
    { method: 'GET', route: '/a', requests: 5, share: 0.75, meanMs: 600, errors: 1 },
    { method: 'GET', route: '/b', requests: 2, share: 0.25, meanMs: 500, errors: 0 },
  ]);
  for (let second = 1; second <= 60; second++) times.sample(() => first, second * 1000);
  const last = [counted('/old', 200, 100, 100), counted('/a', 200, 12, 3)];
  assert.equal(times.shown(last)[0]?.route, '/old', 'within 10 minutes');
  for (let second = 61; second <= 690; second++) times.sample(() => first, second * 1000);
  assert.deepEqual(times.shown(last), [{ method: 'GET', route: '/a', requests: 2, share: 1, meanMs: 1000, errors: 0 }]);

  const many = Array.from({ length: 30 }, (_, index) => counted(`/r${index}`, 200, 1, index + 1));
  const shown = new RouteTimes(0).shown(many);
  assert.deepEqual(
    shown.map(({ route }) => route),
    Array.from({ length: 20 }, (_, index) => `/r${29 - index}`),
  );
  assert.deepEqual(new RouteTimes(0).shown([{ method: 'GET', status: 200, sumSeconds: 1, counts: [1] }]), []);
});
