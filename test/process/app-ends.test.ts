/**
 * Apps that throw any value, or end their worker through Node.js: the worker's open requests still get their answers,
 * and the log has the reason.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { freePort } from '../free-port.ts';
import { RawClient } from './clients.ts';
import { scrape, sum } from './exposition.ts';
import { CLEAN, startKit } from './kit.ts';
import { writtenApp } from './written-app.ts';

/** What the app does during a request, whose answer ends 200 ms after the drain has begun, and the reason that the log then has. */
const ENDS: Record<string, [act: string, failure: RegExp]> = {
  'throws null': ['throw null', /^null$/],
  'throws undefined': ['throw undefined', /^undefined$/],
  'throws an error with getters that throw': [
    "throw Object.defineProperties(new Error('x'), Object.fromEntries(['stack', 'message', 'name', 'cause', 'code'].map(name => [name, { get() { throw new Error('getter'); } }])))",
    /./,
  ],
  'throws an object that cannot be a string': [
    'throw { toString() { throw 1; }, [Symbol.toPrimitive]() { throw 2; }, get message() { throw 3; } }',
    /./,
  ],
  'throws a revoked proxy': ['const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); throw proxy', /Revoked Proxy/],
  'throws 50 MB': ["throw new Error('x'.repeat(50e6))", /^x{4000}… \(50000000 characters\)$/],
  'rejects with null': ['Promise.reject(null)', /null/],
  'rejects with a revoked proxy': ['const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); Promise.reject(proxy)', /./],
  'emits uncaughtException': ["process.emit('uncaughtException', new Error('emitted'))", /^emitted$/],
  "emits 'error' without a listener": ["new EventEmitter().emit('error', new Error('no listener'))", /^no listener$/],
  'throws endlessly while it drains': ["setInterval(() => { throw new Error('again'); }, 1)", /^again$/],
  'throws when the drain begins': [
    "kit.draining.addEventListener('abort', () => { throw new Error('in abort'); }); throw new Error('first')",
    /^first$/,
  ],
  "throws in an 'exit' listener": [
    "process.on('exit', () => { throw new Error('in exit'); }); throw new Error('first')",
    /^first$/,
  ],
  "throws in a 'warning' listener": [
    "process.on('warning', () => { throw new Error('in warning'); }); process.emitWarning('w')",
    /^in warning$/,
  ],
  'has an uncaughtException listener that exits': [
    "process.on('uncaughtException', error => { kit.log.info({ event: 'test.reported', of: error.message }); setTimeout(() => process.exit(7), 50); }); throw new Error('first')",
    /^first$/,
  ],
  'has an unhandledRejection listener that exits': [
    "process.on('unhandledRejection', () => { process.exit(1); throw new Error('not reached'); }); Promise.reject(new Error('first'))",
    /^the app called process.exit\(1\) after an unhandled rejection$/,
  ],
  'has an unhandledRejection listener that exits later': [
    "process.on('unhandledRejection', async () => { await sleep(10); setTimeout(() => process.exit(1), 10); }); Promise.reject(null)",
    /^the app called process.exit\(1\) after an unhandled rejection$/,
  ],
  'removes all listeners': ["process.removeAllListeners(); throw new Error('still caught')", /^still caught$/],
  'unreferences the channel': ["process.channel.unref(); throw new Error('first')", /^first$/],
  'calls process.disconnect()': ['process.disconnect()', /^the app called process.disconnect\(\)$/],
  'emits disconnect': ["process.emit('disconnect')", /^the app called process.emit\('disconnect'\)$/],
  'calls cluster.worker.disconnect()': ['cluster.worker.disconnect()', /^the app called cluster.worker.disconnect\(\)$/],
  'calls cluster.worker.kill()': ['cluster.worker.kill()', /^the app called cluster.worker.kill\(\)$/],
  'sends itself SIGTERM': ['process.kill(process.pid)', /^the app called process.kill\(process.pid, "SIGTERM"\)$/],
};

const app = (acts: [string, string][]) =>
  writtenApp(`
  const { EventEmitter, once } = await import('node:events');
  const { default: cluster } = await import('node:cluster');
  const acts = { ${acts.map(([name, act]) => `${JSON.stringify(name)}: () => { ${act}; }`).join(', ')} };
  return async (req, res) => {
    setTimeout(acts[decodeURIComponent(req.url.slice(1))], 50);
    await once(kit.draining, 'abort');
    await sleep(200);
    res.end('{}');
  };`);

describe('an app that ends its worker', { concurrency: 2 }, () => {
  const entries = Object.entries(ENDS);
  for (const policy of ['least-connections', 'rr']) {
    test(`a worker whose app throws, rejects or ends it finishes its open requests, policy ${policy}`, async () => {
      const acts = entries.map(([name, [act]]): [string, string] => [name, act]);
      // Half of them with each policy: what differs is only how a worker closes its listener.
      const mine = entries.filter((_, index) => (index % 2 === 0) === (policy === 'rr'));
      const port = await freePort(); // with rr and PORT=0, each time that no worker is left, it would be another one
      const kit = await startKit({
        env: {
          APP_MODULE: app(acts),
          PORT: String(port),
          NODE_CLUSTER_SCHED_POLICY: policy,
          NODE_CLUSTER_WORKERS: '4',
          RESTART_INTENSITY: '1000',
        },
      });
      await kit.ready();
      for (const [index, [name, [, failure]]] of mine.entries()) {
        await kit.statusWhere(({ workers }) => workers.some(({ state }) => state === 'ready'));
        await using client = await RawClient.open(port);
        const answer = await client.request(`/${encodeURIComponent(name)}`).catch((error: Error) => error.message);
        assert.ok(typeof answer === 'object' && answer.status === 200, `${name}: ${JSON.stringify(answer)}; ${kit.transcript()}`);
        await kit.event('worker.exit', () => kit.all('worker.exit').length > index);
        const exit = kit.all('worker.exit').at(-1);
        assert.equal(exit?.reason, 'crash', name);
        assert.match(String(exit.failure), failure, name);
        assert.equal((exit.drain as { finished: number } | undefined)?.finished, 1, `${name}: ${JSON.stringify(exit)}`);
      }
      if (policy === 'rr') await kit.event('test.reported', ({ of }) => of === 'first');
      assert.ok(kit.all('worker.uncaught-exception').length < mine.length + 15, 'at most ten errors are logged');
      assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
    });
  }
});

test('a worker whose app handles rejections or uncaught exceptions is not replaced', async () => {
  const file = writtenApp(`
    process.on('unhandledRejection', () => kit.log.info({ event: 'test.handled' }));
    const { default: domain } = await import('node:domain');
    return (req, res) => {
      if (req.url === '/domain') {
        const own = domain.create();
        own.on('error', () => kit.log.info({ event: 'test.handled' }));
        own.run(() => setImmediate(() => { throw new Error('in a domain'); }));
      } else Promise.reject(new Error('handled'));
      setTimeout(() => res.end(String(process.pid)), 50);
    };`);
  const kit = await startKit({ env: { APP_MODULE: file, NODE_CLUSTER_WORKERS: '1' } });
  const { port } = await kit.ready();
  await using client = await RawClient.open(port);
  const pids = [await client.request('/'), await client.request('/domain'), await client.request('/')].map(({ body }) => body);
  assert.equal(new Set(pids).size, 1);
  assert.equal(kit.all('test.handled').length, 3);
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  assert.deepEqual(kit.all('worker.uncaught-exception'), []);
});

test("requests that an app's process.exit aborts are counted, and listed in the log", async () => {
  const kit = await startKit({ env: { APP_MODULE: app([['exits', 'process.exit(3)']]), NODE_CLUSTER_WORKERS: '1' } });
  const { port } = await kit.ready();
  await using client = await RawClient.open(port);
  await assert.rejects(client.request('/exits'));
  const exit = await kit.event('worker.exit');
  assert.deepEqual([exit.reason, exit.failure], ['crash', 'the app called process.exit(3) with 1 open request']);
  assert.equal((await kit.event('request.cut')).path, '/exits');
  await kit.event('worker.ready', ({ workerPid }) => workerPid !== exit.workerPid);
  assert.equal(sum(await scrape(kit), 'bosun_cut_requests_total'), 1);
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
});

test('an app with a cluster of its own does not fork: the pool has as many workers as wanted', async () => {
  const file = writtenApp(`
    const { default: cluster } = await import('node:cluster');
    if (cluster.isPrimary || cluster.isMaster || !cluster.isWorker) { cluster.fork(); throw new Error('not a worker'); }
    return (req, res) => res.end(JSON.stringify({ id: cluster.worker.id }));`);
  const kit = await startKit({ env: { APP_MODULE: file } });
  await kit.ready();
  assert.equal(kit.all('worker.ready').length, 2);
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
});
