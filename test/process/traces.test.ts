/**
 * Traces without OpenTelemetry, and the end of an SDK at the drain. `make test-apps` has the real one (test/apps/tracing.ts).
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { RawClient, request, requestText } from './clients.ts';
import { CLEAN, type LogEvent, ROOT, startKit } from './kit.ts';
import { temporaryFolder } from './operator.ts';
import { writtenApp } from './written-app.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = 'b7ad6b7169203331';
const headers = { traceparent: `00-${TRACE}-${PARENT}-01` };
const traceOf = ({ trace_id, span_id, trace_flags }: LogEvent) => [trace_id, span_id, trace_flags];

test('log lines about a request carry the ids of its traceparent, also that of one which is aborted', async () => {
  const app =
    writtenApp(`const { default: Koa } = await import(${JSON.stringify(join(ROOT, 'node_modules/koa/lib/application.js'))});
    const app = new Koa();
    app.use(async ctx => {
      await sleep(1);
      kit.log.info({ event: 'test.handled', path: ctx.path });
      if (ctx.path === '/throws') throw new Error('of the app');
      if (ctx.path === '/hangs') await new Promise(() => {});
      ctx.body = '';
    });
    return app;`);
  const env = { APP_MODULE: app, NODE_CLUSTER_WORKERS: '1', LOG_REQUESTS: 'true', SHUTDOWN_TIMEOUT_MS: '300' };
  const kit = await startKit({ env });
  const { port } = await kit.ready();
  const ids = [TRACE, PARENT, '01'];
  await request(port, '/plain');
  await request(port, '/traced', { headers });
  await request(port, '/throws', { headers });
  const isAt = (path: string) => (event: LogEvent) => event.path === path;
  for (const name of ['test.handled', 'request']) {
    assert.deepEqual(traceOf(await kit.event(name, isAt('/traced'))), ids, name);
    assert.deepEqual(traceOf(await kit.event(name, isAt('/plain'))), [undefined, undefined, undefined], name);
  }
  assert.deepEqual(traceOf(await kit.event('request.failed')), ids);
  await using client = await RawClient.open(port);
  client.write(requestText('/hangs', { headers }));
  await kit.event('test.handled', isAt('/hangs'));
  assert.equal((await kit.stop()).code, 1);
  assert.deepEqual(traceOf(await kit.event('request.cut')), ids);
});

const instrumented = (app: string, exportMs: number) => ({
  APP_MODULE: app,
  NODE_CLUSTER_WORKERS: '1',
  EXPORT_MS: String(exportMs),
  WORKER_NODE_OPTIONS: `--import=${join(ROOT, 'test', 'fixtures', 'telemetry.mjs')}`,
});

test("an SDK is ended after the last request, and before the app's listeners, which may exit; not while the app loads", async () => {
  // Its source mentions `listen`: the kit waits for that until nothing is left that could do it, and Node.js would end.
  const file = join(temporaryFolder(), 'app.cjs');
  const source = `if (process.env.OWN_PORT) require('http').createServer().listen(0);
    process.on('SIGTERM', () => process.exit(0));
    const report = event => console.log(JSON.stringify({ event }));
    module.exports = (req, res) => {
      report('test.begun');
      setTimeout(() => {
        report('test.answered');
        res.end();
      }, 100);
    };`;
  writeFileSync(file, source);
  const kit = await startKit({ env: instrumented(file, 50) });
  const { port } = await kit.ready();
  const answer = request(port, '/');
  await kit.event('test.begun');
  assert.deepEqual([await kit.stop(), (await answer).status], [CLEAN, 200]);
  const names = kit.events.map(({ event }) => event).filter(event => event.startsWith('test.'));
  assert.deepEqual(names, ['test.begun', 'test.answered', 'test.ends', 'test.exported']);
});

test('an export that hangs is given up within the time of the drain, and logged', async () => {
  const app = writtenApp('return (req, res) => res.end();');
  const kit = await startKit({ env: { ...instrumented(app, 60_000), SHUTDOWN_TIMEOUT_MS: '300' } });
  await kit.ready();
  assert.deepEqual(await kit.stop(), CLEAN);
  const { error, worker } = await kit.event('telemetry.not-exported');
  assert.equal(error, 'not exported within 1000 ms');
  assert.equal(worker, 1);
});
