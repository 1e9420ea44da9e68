import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Log } from '../src/log/log.ts';
import { RedisMonitor } from '../src/primary/redis-monitor.ts';
import type { RedisRefusal } from '../src/protocol/snapshot.ts';

function healthOf(refused: () => readonly RedisRefusal[], now?: () => number) {
  const lines: unknown[] = [];
  const write = (line: unknown) => lines.push(line);
  return { health: new RedisMonitor(() => ({ info: write, warn: write }) as unknown as Log, refused, now), lines };
}

describe('the state of Redis for a pod', () => {
  test('a refusal to several processes is logged once when it begins, and once when it has ended for all', () => {
    const refusal = { code: 'OOM', command: 'eval', message: 'OOM no memory', count: 2 };
    let refused: RedisRefusal[] = [];
    const { health, lines } = healthOf(() => refused);
    for (refused of [[], [refusal], [refusal, { ...refusal, count: 3 }], [refusal]]) health.tick();
    assert.deepEqual(lines, [{ event: 'redis.refusing', code: 'OOM', command: 'eval', error: 'OOM no memory' }]);
    assert.deepEqual(health.refusals, [refusal]);
    refused = [];
    health.tick();
    assert.deepEqual(lines.slice(1), [{ event: 'redis.accepting', code: 'OOM', command: 'eval' }]);
  });

  test('a Redis that keeps breaking the protocol is logged once, and its state after a minute without a fault', () => {
    let now = 0;
    const { health, lines } = healthOf(
      () => [],
      () => now,
    );
    for (; now < 300_000; now += 5000) {
      health.onState('ready', 'is ready', 1);
      health.onState('faulty', `fault ${now}`, 1);
      health.tick();
    }
    health.onState('ready', 'is ready', 1);
    assert.deepEqual(lines, [
      { event: 'redis.ready', worker: 1, message: 'is ready' },
      { event: 'redis.faulty', worker: 1, message: 'fault 0' },
    ]);
    now += 60_000;
    health.tick();
    assert.deepEqual(lines.slice(2), [{ event: 'redis.ready', worker: 1, message: 'is ready' }]);
  });

  test('a reason that recurs with each new connection to Redis is logged once until Redis is ready', () => {
    const { health, lines } = healthOf(() => []);
    for (let i = 0; i < 10; i++) {
      health.onState('refused', 'NOPERM subscribe', 'primary');
      health.onState('unreachable', `reason ${i}`, 3);
    }
    assert.equal(lines.length, 1 + 5);
    health.onState('ready', 'is ready', 'primary');
    health.onState('refused', 'NOPERM subscribe', 'primary');
    assert.deepEqual(lines.slice(6), [
      { event: 'redis.ready', connection: 'primary', message: 'is ready' },
      { event: 'redis.refused', connection: 'primary', message: 'NOPERM subscribe' },
    ]);
  });
});
