/**
 * A known load with known shares of errors: every surface shows the same numbers, also once a worker has been replaced.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Status, WorkerStatus } from '../../src/protocol/api.ts';
import type { WorkerError } from '../../src/protocol/error-status.ts';
import { until } from '../until.ts';
import { RawClient, request, requestJson, requestText } from './clients.ts';
import { scrape, sum } from './exposition.ts';
import { startOperated } from './operator.ts';
import { writtenApp } from './written-app.ts';

/** Requests with these paths, and what they count as. */
const LOAD = [
  { path: (index: number) => `/cups/c${index}`, requests: 40, status: 200, route: '/cups/:name' },
  { path: (index: number) => `/scan${index}.php`, requests: 10, status: 404, route: 'other' },
  { path: () => '/broken', requests: 5, status: 500, route: '/broken', error: 'TypeError' },
  { path: () => '/soft', requests: 3, status: 502, route: '/soft', error: 'HTTP 502' },
];
const ABANDONED = 2;
const ANSWERS = LOAD.reduce((all, { requests }) => all + requests, 0);
const FAILED = LOAD.filter(({ error }) => error !== undefined);

const countOf = (method: string, status: number, route: string) =>
  `http_request_duration_seconds_count{method="${method}",status="${status}",route="${route}"}`;

const byClass = (errors: readonly WorkerError[]) => {
  const counts = FAILED.map(({ error, route, status }) => [
    error,
    errors
      .filter(each => each.class === error && each.route === route && each.status === status)
      .reduce((all, { count }) => all + count, 0),
  ]);
  return Object.fromEntries(counts);
};
const EXPECTED_ERRORS = Object.fromEntries(FAILED.map(({ error, requests }) => [error, requests]));

const round = (value: number) => Number(value.toFixed(4));
/** Rates follow the counts a second later. */
const hasShare = ({ requests, errors }: WorkerStatus) => errors.share === round(errors['5xx'].count / (requests || 1));

const serverErrors = ({ errors }: Pick<WorkerStatus, 'errors'>) => errors['5xx'].count;

test('/status, /metrics, bosun status, errors and fleet count a known load alike, and nothing falls when a worker is replaced', async () => {
  const app = writtenApp(`
    const require = createRequire('${import.meta.dirname}/');
    const { Router } = require('@koa/router');
    const router = new Router();
    router.get('/cups/:name', async ctx => { await sleep(5); ctx.body = 'a cup'; });
    router.get('/broken', () => { throw new TypeError('known to fail'); });
    router.get('/soft', ctx => { ctx.status = 502; });
    router.get('/never', () => new Promise(() => console.log(JSON.stringify({ event: 'test.begun', mark: 'never' }))));
    const Koa = require('koa');
    return new (Koa.default ?? Koa)().use(router.routes());`);
  const { kit, port, bosun } = await startOperated({ env: { APP_MODULE: app, METRICS_ROUTES: 'true' } });
  const load = LOAD.flatMap(({ path, requests, status }) =>
    Array.from({ length: requests }, async (_, index) => assert.equal((await request(port, path(index))).status, status)),
  );
  await Promise.all(load);
  for (let count = 1; count <= ABANDONED; count++) {
    const client = await RawClient.open(port);
    client.write(requestText('/never'));
    await until(
      () => kit.all('test.begun').length === count || undefined,
      () => kit.transcript(),
    );
    client.close();
  }

  const read = async (): Promise<Status> => requestJson(kit.adminPort, '/status');
  const status = await until(
    async () => {
      const now = await read();
      const counted = now.workers.reduce((all, { requests }) => all + requests, 0);
      assert.ok(counted <= ANSWERS, `${counted} answers of ${ANSWERS}`);
      return counted === ANSWERS && now.errors.abandoned.count === ABANDONED && now.workers.every(hasShare) ? now : undefined;
    },
    () => kit.transcript(),
  );
  const counts = ({ errors }: Status) => [errors['4xx'].count, errors['5xx'].count, errors.abandoned.count];
  assert.deepEqual(counts(status), [10, 8, ABANDONED]);
  assert.equal(
    status.workers.reduce((all, worker) => all + serverErrors(worker), 0),
    8,
  );
  const shares = status.workers.map(({ errors }) => errors.share);
  assert.ok(
    status.errors.share >= Math.min(...shares) && status.errors.share <= Math.max(...shares),
    String(status.errors.share),
  );
  assert.deepEqual(byClass(status.recentErrors), EXPECTED_ERRORS);
  const { routes = [] } = status;
  assert.deepEqual(
    routes.map(({ route, requests, errors }) => [route, requests, errors]).sort(),
    LOAD.map(({ route, requests, error }) => [route, requests, error === undefined ? 0 : requests]).sort(),
  );
  assert.equal(Math.round(routes.reduce((all, { share }) => all + share, 0) * 100), 100);
  assert.equal(routes[0]?.route, '/cups/:name', 'the others take no time');
  assert.ok((routes[0]?.meanMs ?? 0) >= 4, `${routes[0]?.meanMs} ms`);

  const [shown, errors, metrics] = await Promise.all([bosun('status', '--json'), bosun('errors', '--json'), scrape(kit)]);
  assert.deepEqual(counts(JSON.parse(shown.stdout)), counts(status));
  assert.deepEqual(byClass(JSON.parse(errors.stdout).errors), EXPECTED_ERRORS);
  const check = (series: ReadonlyMap<string, number>) => {
    for (const { status, route, requests } of LOAD) assert.equal(series.get(countOf('GET', status, route)), requests, route);
    assert.equal(sum(series, 'http_request_duration_seconds_count'), ANSWERS);
    assert.equal(series.get('bosun_abandoned_requests_total'), ABANDONED);
  };
  check(metrics);

  const [victim] = status.workers;
  process.kill(victim?.pid ?? 0, 'SIGKILL');
  await kit.event('worker.exit', ({ workerPid }) => workerPid === victim?.pid);
  check(await scrape(kit));
  assert.deepEqual(counts(await read()), counts(status));

  // A pod reports the rates of its last second: the load goes on until they were read.
  let isLoading = true;
  const loaded = (async () => {
    while (isLoading) for (const path of ['/scan.php', '/soft', '/scan.php']) await request(port, path);
  })();
  await until(
    async () => {
      const { pods } = JSON.parse((await bosun('fleet', '--json')).stdout);
      const { '4xx': clientErrors, '5xx': serverErrors } = pods[0].errors ?? {};
      return (serverErrors > 0 && Math.abs(clientErrors / serverErrors - 2) < 0.9) || undefined;
    },
    () => kit.transcript(),
    30_000,
  );
  isLoading = false;
  await loaded;
});
