/**
 * What a module exports, in real workers: the hooks of a framework, and the request errors.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { request, requestJson } from './clients.ts';
import { CLEAN, startKit } from './kit.ts';

describe('an app that is exported', { concurrency: true }, () => {
  test('a Fastify app runs onListen when its worker serves, and onClose after its last answer', async () => {
    const kit = await startKit({ app: 'fastify.mjs', env: { NODE_CLUSTER_WORKERS: '1' } });
    const { port } = await kit.ready();
    assert.equal((await kit.event('test.listening')).origin, `http://127.0.0.1:${port}`);
    const answer = requestJson(port, '/slow?ms=300');
    await kit.event('test.begun');
    kit.signal('SIGTERM');
    assert.deepEqual(await answer, { isOpen: true });
    assert.deepEqual(await kit.exit(), CLEAN, kit.transcript());
    assert.equal(kit.all('test.closed').length, 1);
    assert.equal(kit.stderr, '');
  });

  test('an error during a request is a line of JSON with its worker, and nothing else is printed', async () => {
    const kit = await startKit({ app: 'failing.mjs', env: { NODE_CLUSTER_WORKERS: '1', NODE_ENV: 'production' } });
    const { port } = await kit.ready();
    for (const [path, framework, expected] of [
      ['/koa/orders', 'Koa', 'Internal Server Error'],
      ['/orders', 'Express', '<pre>Internal Server Error</pre>'],
    ] as const) {
      const answer = await request(port, `${path}?id=1`);
      assert.equal(answer.status, 500);
      assert.ok(answer.body.includes(expected), answer.body);
      const { level, worker, method, status, err } = await kit.event('request.failed', line => line.path === path);
      assert.deepEqual([level, worker, method, status], ['error', 1, 'GET', 500]);
      assert.equal((err as Error).message, `thrown in ${framework}`);
      assert.match((err as Error).stack ?? '', /failing\.mjs:\d+/);
    }
    assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    assert.equal(kit.all('request.failed').length, 2);
    assert.equal(kit.stderr, '');
  });
});
