/**
 * What a worker does after its last answer: tasks of the app (kit.task) and its close handlers (kit.onClose), at a rolling restart and at the
 * shutdown.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { request } from './clients.ts';
import { scrape, settles, sum } from './exposition.ts';
import { CLEAN, type Kit, startKit } from './kit.ts';
import { writtenApp } from './written-app.ts';

const APP = `
  const log = (event, more) => kit.log.info({ event, ...more });
  kit.onClose(function closeDatabase() { log('test.closed', { name: 'database' }); });
  kit.onClose(async function closeQueue() { await sleep(20); log('test.closed', { name: 'queue' }); });
  kit.onClose(() => { throw Object.assign(new TypeError('no cache at u:p@h'), { code: 'ENOCACHE' }); });
  kit.onClose(function hangs() { return new Promise(() => {}); }, { timeoutMs: 60 });
  const drains = new Promise(resolve => kit.draining.addEventListener('abort', resolve));
  drains.then(() => kit.task(sleep(100).then(() => log('test.done', { name: 'late' }))));
  return (req, res) => {
    if (req.url === '/mail') kit.task(drains.then(() => sleep(300)).then(() => log('test.done', { name: 'mail' })));
    if (req.url === '/rejects') kit.task(Promise.reject(new Error('no mail')));
    if (req.url === '/endless') kit.task(new Promise(() => {}));
    res.end('answered');
  };`;

interface Ledger {
  finished: number;
  closing: {
    tasks: { finished: number; failed: number; timedOut: number; ms: number };
    handlers: { count: number; failed: number; timedOut: number; first: { name: string; result: string; error?: object }[] };
  };
}

test('a restart and a shutdown wait for the tasks of the app, then run its close handlers in reverse; the log and /status have both', async () => {
  const app = writtenApp(APP);
  const kit = await startKit({ env: { APP_MODULE: app, NODE_CLUSTER_WORKERS: '1', SHUTDOWN_TIMEOUT_MS: '1000' } });
  const { port } = await kit.ready();
  assert.equal((await request(port, '/rejects')).status, 200);
  await kit.event('task.failed');
  await request(port, '/endless');
  assert.equal((await request(port, '/mail')).body, 'answered');
  await settles(async () => sum(await scrape(kit), 'bosun_tasks_in_progress'), 2);

  kit.signal('SIGHUP');
  const first = await ledgerOf(kit, 'restart');
  assert.deepEqual(namesOf(kit, 'test.done'), ['late', 'mail'], 'before the worker has exited');
  const { ms, ...tasks } = first.closing.tasks;
  assert.deepEqual(tasks, { finished: 2, failed: 0, timedOut: 1 });
  assert.ok(ms >= 300 && ms <= 1500, `until the deadline of the drain: ${ms} ms`);
  assert.equal((await kit.event('worker.tasks-unfinished')).tasks, 1);
  const { handlers } = first.closing;
  assert.deepEqual([handlers.count, handlers.failed, handlers.timedOut], [4, 1, 1]);
  assert.deepEqual(
    handlers.first.map(({ name, result }) => [name, result]),
    [
      ['hangs', 'timed-out'],
      ['', 'failed'],
      ['closeQueue', 'done'],
      ['closeDatabase', 'done'],
    ],
  );
  assert.deepEqual(namesOf(kit, 'test.closed'), ['queue', 'database']);
  const { drains } = (await kit.status()) as unknown as { drains: object };
  const { last, ...totals } = drains as { last: object; tasks: object; closeHandlers: object };
  assert.deepEqual(totals.tasks, { finished: 2, failed: 0, timedOut: 1 });
  assert.deepEqual(totals.closeHandlers, { count: 4, failed: 1, timedOut: 1 });
  assert.match(JSON.stringify(last), /"ENOCACHE"/);
  assert.doesNotMatch(JSON.stringify(last), /u:p@h/, 'no text of the app');

  assert.equal((await request(port, '/mail')).status, 200);
  assert.deepEqual(await kit.stop(), CLEAN, kit.transcript());
  const second = await ledgerOf(kit, 'shutdown');
  assert.deepEqual({ ...second.closing.tasks, ms: 0 }, { finished: 2, failed: 0, timedOut: 0, ms: 0 });
  assert.deepEqual(namesOf(kit, 'test.done'), ['late', 'mail', 'late', 'mail']);
});

async function ledgerOf(kit: Kit, reason: string): Promise<Ledger> {
  return (await kit.event('worker.exit', event => event.reason === reason)).drain as Ledger;
}

const namesOf = (kit: Kit, event: string) => kit.all(event).map(({ name }) => name);
