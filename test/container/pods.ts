/**
 * Pods as Kubernetes would run them: a Redis, and app containers in its network.
 */
import assert from 'node:assert/strict';
import type { StartedNetwork } from 'testcontainers';
import { type App, type AppOptions, startApp } from './app.ts';
import { startNetwork } from './engine.ts';
import { Redis } from './redis.ts';

/** Of each pod. */
export const WORKERS = 2;
export const POD_ENV = { REDIS_URL: 'redis://redis:6379', NODE_CLUSTER_WORKERS: String(WORKERS) };
export const COOKIE = 'koa:sess';
export const KEYS = `koa-bosun:${COOKIE}:keys`;
/** In the place of a destroyed session. */
export const TOMBSTONE = 'destroyed';

export interface Pods {
  redis: Redis;
  apps: readonly [App, ...App[]];
  network: StartedNetwork;
}

/** Resolves when all of them are ready. */
export async function startPods(count: number): Promise<Pods> {
  const network = await startNetwork();
  const redis = await Redis.start(network);
  return { redis, apps: await startApps(network, count), network };
}

/** At the same time; resolves when all of them are ready. */
export async function startApps(
  network: StartedNetwork,
  count: number,
  { env = {}, ...options }: AppOptions = {},
): Promise<[App, ...App[]]> {
  const start = () => startApp({ ...options, network, env: { ...POD_ENV, ...env } });
  const apps = await Promise.all(Array.from({ length: count }, start));
  await Promise.all(apps.map(app => app.ready()));
  const [first, ...others] = apps;
  assert.ok(first);
  return [first, ...others];
}
