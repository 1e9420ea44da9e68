import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { Redis as KitRedis } from '../src/state/ioredis.ts';
import { loadKoaRedis } from '../src/state/own-copy.ts';
import '../src/state/redis.ts';

const require = createRequire(import.meta.url);
const loaded = (name: string) => Object.keys(require.cache).filter(file => file.includes(`/node_modules/${name}/`));

test('koa-redis is loaded without the ioredis that it requires', () => {
  assert.equal(typeof loadKoaRedis(), 'function');
  assert.deepEqual([...loaded('koa-redis'), ...loaded('ioredis')], []);
});

test("an app's own ioredis is not the kit's, whose prototypes are changed, however the app loads it", async () => {
  const { Redis } = await import('ioredis');
  assert.equal(require('ioredis').Redis, Redis);
  assert.ok(Redis !== KitRedis);
  for (const method of ['silentEmit', 'sendCommand'] as const)
    assert.ok(Redis.prototype[method] !== KitRedis.prototype[method], method);
  assert.ok(Redis.prototype.emit !== KitRedis.prototype.emit);
});

test("an app's own koa-redis makes a client of the ioredis that it requires", () => {
  const store = require('koa-redis')({ lazyConnect: true });
  assert.equal(store.client.status, 'wait');
  assert.ok(store.constructor !== loadKoaRedis());
});
