/**
 * A rollout as a Deployment with surge 1 and unavailable 0 makes it, without a cluster: real pods behind a real balancer that lags.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { StartedNetwork } from 'testcontainers';
import { RawClient } from '../process/clients.ts';
import { APPS } from '../process/kit.ts';
import { SOAKS } from '../process/policies.ts';
import type { Count } from '../visitor.ts';
import { type App, type AppOptions, startApp } from './app.ts';
import { Balancer, LAG_MS } from './balancer.ts';
import { Customers } from './customers.ts';
import { startNetwork, withEngine } from './engine.ts';
import { Redis } from './redis.ts';

/** The rollout takes 15 s; a pace that leaves the machine to the tests beside it. */
const { REQUESTS, PAUSE_MS } = SOAKS ? { REQUESTS: 20_000, PAUSE_MS: 1 } : { REQUESTS: 4000, PAUSE_MS: 20 };
/** The kit's default: above the lag, also where a busy machine adds to it. */
const DELAY_MS = 5000;
/** As progressDeadlineSeconds of a Deployment, in the small: the balancer checks once a second. */
const PROGRESS_DEADLINE_MS = 3000;

test('rollouts behind a balancer that lags', withEngine, async t => {
  const network = await startNetwork();
  const [balancer, , ...old] = await Promise.all([
    Balancer.start(network),
    Redis.start(network),
    ...[1, 2, 3].map(() => startPod(network, DELAY_MS)),
  ]);
  for (const pod of old) await enter(balancer, pod);
  // The pods of the second release have no delay.
  let pods: App[] = [];

  await t.test('a rollout replaces three pods one by one and loses no request and no session', async () => {
    const customers = new Customers([balancer.port.service, balancer.port.ingress], { count: 6, pauseMs: PAUSE_MS });
    await customers.answered(500);
    pods = await rollOut(balancer, old, () => startPod(network, 0), customers);
    await customers.answered(REQUESTS);
    const { failures, byPod, answered } = await customers.stop();
    t.diagnostic(`${answered} requests, ${failures.length} failed`);
    assert.deepEqual(failures, []);
    assert.equal(byPod.size, old.length + pods.length);
  });

  await t.test(
    'a rollout of an image that never becomes ready sends it no request, and the old pods continue to serve',
    async () => {
      const customers = new Customers([balancer.port.service, balancer.port.ingress], { count: 4, pauseMs: 10 });
      await customers.answered(50);
      const appModule = '/app/never-ready.mjs';
      const mounts = { [appModule]: join(APPS, 'never-ready.mjs') };
      const broken = await startPod(network, DELAY_MS, { env: { APP_MODULE: appModule }, mounts });
      await broken.event('admin.listening');
      await balancer.add(broken);
      const deadline = performance.now() + PROGRESS_DEADLINE_MS;
      while (performance.now() < deadline) {
        assert.equal(await balancer.waysTo(broken), 0);
        await pause(50);
      }
      assert.equal((await broken.probe('/readyz')).status, 503);
      // kubectl rollout undo
      assert.equal((await broken.stop()).code, 0, broken.transcript());
      await balancer.remove(broken);
      const { failures, byPod } = await customers.stop();
      assert.deepEqual(failures, []);
      assert.deepEqual(new Set(byPod.keys()), new Set(pods.map(nameOf)));
    },
  );

  await t.test('SIGKILL of a pod fails only the requests in flight on it', async () => {
    const [victim, survivor] = [pods.shift(), pods[0]];
    assert.ok(victim && survivor);
    const count = 8;
    const customers = new Customers([balancer.port.retrying], { count, pauseMs: 2 });
    await customers.answered(200);
    await using lost = await clientOf(balancer, victim);
    await using kept = await clientOf(balancer, survivor);
    const fails = assert.rejects(lost.request('/slow?ms=20000'), /the connection ended/);
    const answer = kept.request('/slow?ms=2000');
    await victim.signal('SIGKILL');
    const killedAt = performance.now();
    await fails;
    assert.equal((await answer).status, 200);
    await customers.answered(customers.result.answered + 500);
    const { failures } = await customers.stop();
    for (const { sentAt, message } of failures) {
      assert.ok(sentAt <= killedAt, `sent ${sentAt - killedAt} ms after SIGKILL: ${message}`);
    }
    assert.ok(failures.length <= count, `${failures.length} failed, in flight were ${count} at most`);
    await balancer.remove(victim);
  });

  await t.test('a rollout without SHUTDOWN_DELAY_MS loses requests (proves that these tests notice)', async () => {
    const customers = new Customers([balancer.port.service, balancer.port.ingress], { count: 4, pauseMs: 5 });
    await customers.answered(50);
    await rollOut(balancer, pods.slice(0, 1), () => startPod(network, 0));
    const { failures } = await customers.stop();
    assert.ok(failures.length > 0, 'none failed');
  });
});

async function startPod(network: StartedNetwork, delayMs: number, { env, mounts = {} }: AppOptions = {}): Promise<App> {
  const fromManifest = { REDIS_URL: 'redis://redis:6379', NODE_CLUSTER_WORKERS: '1', SHUTDOWN_DELAY_MS: String(delayMs) };
  return startApp({ network, pod: true, mounts, env: { ...fromManifest, ...env } });
}

/** For each old pod a new one first; then SIGTERM for the old one, which leaves while the next new one starts. */
async function rollOut(
  balancer: Balancer,
  old: readonly App[],
  start: () => Promise<App>,
  customers?: Customers,
): Promise<App[]> {
  const pods: App[] = [];
  const leaving: Promise<void>[] = [];
  for (const pod of old) {
    const next = await start();
    await enter(balancer, next);
    pods.push(next);
    leaving.push(leave(balancer, pod, customers));
  }
  await Promise.all(leaving);
  return pods;
}

async function enter(balancer: Balancer, pod: App): Promise<void> {
  await pod.ready();
  await balancer.add(pod);
  await balancer.serving(pod);
}

/** SIGTERM comes first, and the balancer sees it late; with `customers`, the pod still has to serve some of them in between: how many is the machine's matter. */
async function leave(balancer: Balancer, pod: App, customers: Customers | undefined): Promise<void> {
  const signalledAt = performance.now();
  await pod.signal('SIGTERM');
  if (customers !== undefined) {
    const served = () => customers.result.byPod.get(nameOf(pod)) ?? 0;
    const before = served();
    await balancer.left(pod);
    const lagMs = performance.now() - signalledAt;
    assert.ok(lagMs >= LAG_MS.least, `it must have left late, and was out after ${lagMs} ms`);
    assert.ok(served() > before, 'nobody was served between SIGTERM and then');
    await pod.event('shutdown.delay');
  }
  assert.equal(await pod.exited(), 0, pod.transcript());
  await balancer.remove(pod);
}

/** A connection to that pod. */
async function clientOf(balancer: Balancer, pod: App): Promise<RawClient> {
  for (;;) {
    const client = await RawClient.open(balancer.port.retrying);
    const { body } = await client.request('/api/counter');
    if ((JSON.parse(body) as Count).pod === nameOf(pod)) return client;
    client.close();
  }
}

/** As the pod's answers name it. */
const nameOf = ({ id }: App) => id.slice(0, 12);
